"""Is it well? One line of words for each situation an operator may find."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from meadow.queries import (
    CollectorState,
    Completeness,
    GapRow,
    Overview,
    QueueList,
    QueueRow,
    RatePoint,
    StreamProgress,
    TaskRow,
    TaskTypeRow,
    WorkerRow,
)
from meadow_web.verdict import BAD, QUIET, WARN, WELL, Problem, measure, verdict

NOW = 1_000_000.0
COLLECTOR = CollectorState(reported=NOW - 1, connected=True, broker="redis://h:6379/0", since=NOW - 5000)


def worker(name: str, **more: Any) -> WorkerRow:
    return WorkerRow(**{"hostname": name, "online": True, "last_seen": NOW - 1, "concurrency": 4, **more})


def points(**counts: int) -> list[RatePoint]:
    """Ten minutes in slices of ten seconds, each with the same counts."""
    return [RatePoint(at=NOW - 600 + 10 * index, **counts) for index in range(60)]


def overview(**more: Any) -> Overview:
    base: dict[str, Any] = {
        "now": NOW,
        "step": 10.0,
        "points": points(succeeded=10),
        "workers": [worker("w1@a"), worker("w2@a")],
        "queues": QueueList(rows=[QueueRow(name="celery", messages=0, workers=["w1@a"])], broker="redis://h:6379/0"),
        "collector": COLLECTOR,
        "tasks_stored": 600,
    }
    return Overview(**{**base, **more})


def queues(*rows: QueueRow, **more: Any) -> QueueList:
    return QueueList(rows=list(rows), **more)


def unreachable(error: str | None) -> CollectorState:
    return msgspec.structs.replace(COLLECTOR, connected=False, since=NOW - 240, error=error)


GONE = worker("w3@a", online=False, last_seen=NOW - 300)

SITUATIONS = [
    ("nothing is wrong", overview(), WELL, "All well: 2 workers, 60 tasks/min, nothing waiting"),
    (
        "one worker, and messages that somebody will take",
        overview(workers=[worker("w1@a")], queues=queues(QueueRow(name="celery", messages=12, workers=["w1@a"]))),
        WELL,
        "All well: 1 worker, 60 tasks/min, 12 waiting",
    ),
    (
        "the broker does not tell depths",
        overview(queues=queues(supported=False), points=[]),
        WELL,
        "All well: 2 workers, no tasks in the last minute, queue depths unknown",
    ),
    (
        "the store cannot be written",
        overview(streams=[StreamProgress(stream="MEADOW_EVENTS", error="The disk is full.")]),
        BAD,
        "The store has to wait; what is shown here is old",
    ),
    (
        "the store is late",
        overview(streams=[StreamProgress(stream="MEADOW_EVENTS", behind=7, lag=90.0)]),
        WARN,
        "The store is 1 min 30 s late; 7 batches wait",
    ),
    (
        "a queue without a consumer",
        overview(queues=queues(QueueRow(name="mail", messages=4120))),
        BAD,
        "Queue mail has 4,120 waiting and no consumer",
    ),
    (
        "consumers that the broker counts are enough",
        overview(queues=queues(QueueRow(name="mail", messages=3, consumers=1))),
        WELL,
        "All well: 2 workers, 60 tasks/min, 3 waiting",
    ),
    ("all workers are gone", overview(workers=[GONE]), BAD, "No worker is online"),
    ("one worker is gone", overview(workers=[worker("w1@a"), GONE]), WARN, "Worker w3@a went offline"),
    (
        "a worker that went yesterday is history",
        overview(workers=[worker("w1@a"), worker("w3@a", online=False, last_seen=NOW - 90_000)]),
        WELL,
        "All well: 1 worker, 60 tasks/min, nothing waiting",
    ),
    (
        "many workers are gone",
        overview(workers=[worker("w1@a"), *(worker(f"x{n}@a", online=False, last_seen=NOW - n) for n in range(9))]),
        WARN,
        "9 workers went offline",
    ),
    (
        "the broker is away",
        overview(collector=unreachable("Connection refused"), workers=[GONE]),
        BAD,
        "The broker cannot be reached: redis://h:6379/0",
    ),
    (
        "the collector stopped reporting",
        overview(collector=msgspec.structs.replace(COLLECTOR, reported=NOW - 60)),
        BAD,
        "The collector has fallen silent; what is shown here is old",
    ),
    (
        "there is history, but no collector",
        overview(collector=CollectorState()),
        BAD,
        "The collector does not report; nothing new is read from the broker",
    ),
    (
        "a few tasks failed",
        overview(points=[*points(succeeded=10)[:-1], RatePoint(at=NOW - 10, succeeded=10, failed=2)]),
        WARN,
        "2 tasks failed in the last 10 minutes, <1 % of those that ended",
    ),
    (
        "many tasks fail, most of one name",
        overview(
            points=points(succeeded=3, failed=1),
            types=[TaskTypeRow(name="proj.mail", failed=50), TaskTypeRow(name="proj.add", failed=10)],
        ),
        BAD,
        "60 tasks failed in the last 10 minutes, 25 % of those that ended, most of them proj.mail",
    ),
    (
        "a clock is wrong",
        overview(workers=[worker("w1@a", skew=-95.0)]),
        WARN,
        "The clock of w1@a is 1 min 35 s behind",
    ),
    (
        "everything is busy and much waits",
        overview(
            workers=[worker("w1@a", active=4)],
            queues=queues(QueueRow(name="celery", messages=500, workers=["w1@a"])),
        ),
        WARN,
        "All 4 pool processes are busy and 500 messages wait",
    ),
    (
        "events were dropped",
        overview(gaps=[GapRow(start=NOW - 90, end=NOW - 80, reason="buffer-full", events=1200)]),
        WARN,
        "The collector had to drop 1,200 events",
    ),
    (
        "the broker was away twice",
        overview(gaps=[GapRow(start=NOW - at, end=NOW - at + 30, reason="broker-unavailable") for at in (90, 900)]),
        WARN,
        "Nothing could be read from the broker for 1 min",
    ),
    (
        "facts left the stream before they were stored",
        overview(gaps=[GapRow(start=NOW - 90, end=NOW - 80, reason="stream-limit")]),
        WARN,
        "Facts were deleted from the stream before they were stored",
    ),
    (
        "a gap of a kind that this page does not know",
        overview(gaps=[GapRow(start=NOW - 90, end=NOW - 80, reason="reader-cut-off", events=1)]),
        WARN,
        "1 event never arrived: reader cut off",
    ),
    (
        "a gap of yesterday is history",
        overview(gaps=[GapRow(start=NOW - 90_000, end=NOW - 80_000, reason="buffer-full", events=1200)]),
        WELL,
        "All well: 2 workers, 60 tasks/min, nothing waiting",
    ),
    (
        "task starts are missing on one worker",
        overview(completeness=Completeness(expected=50, seen=13, missing=37, workers=1, worst="w3@mail")),
        WARN,
        "37 task starts are missing on w3@mail",
    ),
    (
        "one task start is missing on each of two workers",
        overview(completeness=Completeness(expected=50, seen=48, missing=2, workers=2, worst="w3@mail")),
        WARN,
        "2 task starts are missing on 2 workers",
    ),
    (
        "depths cannot be read",
        overview(queues=queues(error="timed out", observed=NOW - 90)),
        WARN,
        "Queue depths cannot be read: timed out",
    ),
    ("a fresh start", overview(workers=[], points=[], queues=queues(), tasks_stored=0), QUIET, "No events yet"),
    (
        "a fresh start without a broker",
        overview(workers=[], points=[], queues=queues(), tasks_stored=0, collector=unreachable("refused")),
        BAD,
        "The broker cannot be reached: redis://h:6379/0",
    ),
]


def test_while_the_store_waits_what_it_holds_says_nothing_about_collector_workers_and_queues() -> None:
    """Once the overview said that the collector had fallen silent, and that no worker was online."""
    full = [StreamProgress(stream=name, error="The disk is full.") for name in ("MEADOW_EVENTS", "MEADOW_AUDIT")]
    silent = msgspec.structs.replace(COLLECTOR, reported=NOW - 300)
    found = verdict(
        overview(streams=full, collector=silent, workers=[GONE], queues=queues(QueueRow(name="q", messages=9)))
    )
    assert [problem.words for problem in found.problems] == ["The store has to wait; what is shown here is old"]
    assert found.advice == "The disk is full."


@pytest.mark.parametrize(("situation", "seen", "mood", "words"), SITUATIONS, ids=[s[0] for s in SITUATIONS])
def test_the_first_line_says_how_it_is(situation: str, seen: Overview, mood: str, words: str) -> None:
    found = verdict(seen)
    assert (found.mood, found.words) == (mood, words)


def test_no_events_yet_says_what_to_do() -> None:
    found = verdict(overview(workers=[], points=[], queues=queues(), tasks_stored=0))
    assert "-E" in found.advice


def test_an_unreachable_broker_says_since_when_and_why_and_does_not_blame_workers_and_queues() -> None:
    found = verdict(
        overview(collector=unreachable("Error 111"), workers=[GONE], queues=queues(QueueRow(name="mail", messages=5)))
    )
    assert (found.since, found.advice) == (NOW - 240, "Error 111")
    assert len(found.problems) == 1


def test_the_worst_comes_first_and_every_problem_leads_somewhere() -> None:
    found = verdict(
        overview(
            workers=[worker("w1@a", skew=95.0), GONE],
            queues=queues(QueueRow(name="mail", messages=5)),
            points=points(succeeded=99, failed=1),
        )
    )
    assert [problem.mood for problem in found.problems] == [BAD, WARN, WARN, WARN]
    assert [problem.page for problem in found.problems] == ["queues", "worker", "worker", "tasks"]
    assert found.problems[3].about == {"state": "FAILURE"}


def test_a_failure_names_when_it_last_happened() -> None:
    latest = [TaskRow(uuid="a", state="FAILURE", timestamp=NOW - 30), TaskRow(uuid="b", state="FAILURE", timestamp=5.0)]
    found = verdict(overview(points=points(succeeded=10, failed=1), failures=latest))
    assert found.since == NOW - 30


def test_the_slice_under_way_does_not_make_the_rate_fall() -> None:
    under_way = RatePoint(at=NOW - 2, succeeded=0)
    assert measure(overview(points=[*points(succeeded=10), under_way])).per_minute == 60.0


def test_a_meadow_that_has_just_begun_to_look_does_not_count_the_time_before() -> None:
    began = [RatePoint(at=NOW - 600 + 10 * index, succeeded=10 if index >= 57 else 0) for index in range(60)]
    seen = overview(points=began, workers=[worker("w1@a", first_seen=NOW - 30)])
    assert measure(seen).per_minute == 45.0


def test_problems_are_values() -> None:
    assert replace(Problem(BAD, "a"), words="b") == Problem(BAD, "b")
