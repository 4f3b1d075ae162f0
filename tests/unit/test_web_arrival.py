"""Has everything arrived? The first line of the Pipeline page for each situation."""

from typing import Any

import msgspec
import pytest

from meadow.queries import CollectorState, Completeness, GapRow, Pipeline, StreamProgress, WorkerCompleteness
from meadow_web.arrival import arrival
from meadow_web.verdict import BAD, QUIET, WARN, WELL

NOW = 1_000_000.0
COLLECTOR = CollectorState(reported=NOW - 1, connected=True, broker="redis://h:6379/0", since=NOW - 5000)
WHOLE = Completeness(expected=12_345, seen=12_345)
LACKING = Completeness(
    expected=1000, seen=970, missing=37, surplus=7, missing_since=NOW - 600, workers=1, worst="w3@mail"
)
STREAM = StreamProgress(stream="MEADOW_EVENTS", position=9, lag=0.1)
LATE = msgspec.structs.replace(STREAM, behind=900, lag=75.0)


def pipeline(**more: Any) -> Pipeline:
    base: dict[str, Any] = {
        "now": NOW,
        "seconds": 3600.0,
        "total": WHOLE,
        "workers_known": 1,
        "workers": [WorkerCompleteness(hostname="w1@a", online=True, since=NOW - 100)],
        "collector": COLLECTOR,
        "streams": [STREAM],
    }
    return Pipeline(**{**base, **more})


SITUATIONS = [
    ("all is there", pipeline(), WELL, "Nothing is missing: 12,345 task starts seen of 12,345 in the last hour"),
    (
        "over a longer time",
        pipeline(seconds=86400.0),
        WELL,
        "Nothing is missing: 12,345 task starts seen of 12,345 in the last 24 hours",
    ),
    (
        "over a time of one's own",
        pipeline(seconds=90.0),
        WELL,
        "Nothing is missing: 12,345 task starts seen of 12,345 in the last 1 min 30 s",
    ),
    (
        "starts that came twice are no loss",
        pipeline(total=Completeness(expected=10, seen=12, surplus=2)),
        WELL,
        "Nothing is missing: 10 task starts seen of 10 in the last hour",
    ),
    ("some are missing", pipeline(total=LACKING), WARN, "37 task starts are missing on w3@mail"),
    (
        "one is missing",
        pipeline(total=Completeness(expected=9, seen=8, missing=1, workers=1, worst="w3@mail")),
        WARN,
        "1 task start is missing on w3@mail",
    ),
    (
        "some were dropped",
        pipeline(gaps=[GapRow(start=NOW - 90, end=NOW - 80, reason="buffer-full", events=1200)]),
        WARN,
        "The collector had to drop 1,200 events",
    ),
    ("the store is late", pipeline(streams=[LATE]), WARN, "The store is 1 min 15 s late; 900 batches wait"),
    (
        "the store cannot write, and some are missing",
        pipeline(streams=[msgspec.structs.replace(STREAM, error="disk full")], total=LACKING),
        BAD,
        "The store has to wait; what is shown here is old",
    ),
    (
        "the broker is away",
        pipeline(collector=msgspec.structs.replace(COLLECTOR, connected=False)),
        BAD,
        "The broker cannot be reached: redis://h:6379/0",
    ),
    (
        "there was a collector once",
        pipeline(collector=CollectorState()),
        BAD,
        "The collector does not report; nothing new is read from the broker",
    ),
    ("nothing ran", pipeline(total=Completeness()), QUIET, "No task start to count in the last hour"),
    (
        "a fresh start",
        pipeline(total=Completeness(), workers=[], workers_known=0, collector=CollectorState()),
        QUIET,
        "No worker has been seen yet",
    ),
]


@pytest.mark.parametrize(("situation", "seen", "mood", "words"), SITUATIONS, ids=[s[0] for s in SITUATIONS])
def test_the_first_line_says_whether_anything_is_missing(situation: str, seen: Pipeline, mood: str, words: str) -> None:
    found = arrival(seen)
    assert (found.mood, found.words) == (mood, words)


def test_what_is_missing_is_told_with_its_time_and_beside_what_arrived() -> None:
    found = arrival(pipeline(total=LACKING))
    assert (found.since, found.advice) == (NOW - 600, "963 task starts seen of 1,000 in the last hour")


def test_a_worker_that_is_not_counted_yet_says_from_when_it_will_be() -> None:
    waiting = [WorkerCompleteness(hostname="w1@a", online=True)]
    assert "first heartbeat" in arrival(pipeline(total=Completeness(), workers=waiting)).advice


def test_no_worker_says_what_to_do() -> None:
    assert "-E" in arrival(pipeline(total=Completeness(), workers=[], workers_known=0)).advice
