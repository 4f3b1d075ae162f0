"""A task reads like a story: one sentence, and its phases to scale."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadow_web.phases import timeline
from meadow_web.story import Sentence, tell

SENT, RECEIVED, STARTED, ENDED = 100.0, 102.5, 103.25, 104.5


def task(state: str, **more: Any) -> dict[str, Any]:
    return {"uuid": "u", "state": state, "worker": "w3@mail", "retries": 0, **more}


STORIES = [
    (
        task("SUCCESS", received=RECEIVED, started=STARTED, succeeded=ENDED, runtime=0.012),
        Sentence("Succeeded after 12 ms on w3@mail", ENDED),
    ),
    (
        task("SUCCESS", started=STARTED, succeeded=ENDED, retries=2),
        Sentence("Succeeded after 1.2 s on w3@mail, third attempt", ENDED),
    ),
    (
        task("FAILURE", received=RECEIVED, started=STARTED, failed=ENDED, retries=2),
        Sentence("Failed after 1.2 s on w3@mail, third and last attempt", ENDED),
    ),
    (task("FAILURE", failed=ENDED), Sentence("Could not be run on w3@mail", ENDED)),
    (task("STARTED", started=STARTED), Sentence("Running on w3@mail", STARTED, lasts=True)),
    (
        task("RECEIVED", received=RECEIVED),
        Sentence("Waiting in w3@mail for a free process", RECEIVED, lasts=True),
    ),
    (
        task("RECEIVED", received=RECEIVED, eta="2030-01-01T00:00:00+00:00"),
        Sentence("Waiting in w3@mail for its time, 2030-01-01T00:00:00+00:00; received", RECEIVED),
    ),
    (
        task("PENDING", worker=None, sent=SENT, queue="mail"),
        Sentence("Sent and waiting in queue mail; no worker has taken it yet", SENT, lasts=True),
    ),
    (
        task("RETRY", started=STARTED, retried=ENDED, retries=11, eta="2030-01-01"),
        Sentence("The 12th attempt failed on w3@mail; it will be tried again, due 2030-01-01", ENDED),
    ),
    (
        task("REVOKED", started=STARTED, revoked=ENDED),
        Sentence("Revoked and stopped after 1.2 s on w3@mail", ENDED),
    ),
    (task("REVOKED", received=RECEIVED, revoked=ENDED), Sentence("Revoked before it ran on w3@mail", ENDED)),
    (task("REJECTED", rejected=ENDED), Sentence("Rejected by w3@mail", ENDED)),
    (
        task("STARTED", started=STARTED, lost_since=ENDED, lost_reason="worker-silent"),
        Sentence("Probably lost: w3@mail was last heard while it ran", ENDED),
    ),
    (
        task("RECEIVED", received=RECEIVED, started=SENT, lost_since=ENDED, lost_reason="worker-offline"),
        Sentence("Probably lost: w3@mail shut down before it ran", ENDED),
    ),
    (task("PROGRESS", timestamp=ENDED), Sentence("Reported the state PROGRESS on w3@mail", ENDED)),
    (task("SUCCESS", worker=None), Sentence("Succeeded", None)),
]


@pytest.mark.parametrize(("given_task", "sentence"), STORIES, ids=[f"{s[0]['state']} {s[1].text}" for s in STORIES])
def test_one_sentence_says_what_became_of_it(given_task: dict[str, Any], sentence: Sentence) -> None:
    assert tell(given_task) == sentence


def test_the_phases_are_to_scale() -> None:
    line = timeline(task("SUCCESS", sent=SENT, received=RECEIVED, started=STARTED, succeeded=105.0), now=9000.0)
    assert line is not None
    assert [(phase.name, phase.seconds, phase.left, phase.width) for phase in line.phases] == [
        ("Waited in queue", 2.5, 0.0, 50.0),
        ("Waited in worker", 0.75, 50.0, 15.0),
        ("Ran", 1.75, 65.0, 35.0),
    ]
    assert not line.skewed


def test_a_running_task_has_a_phase_that_lasts() -> None:
    line = timeline(task("STARTED", received=RECEIVED, started=STARTED), now=110.0)
    assert line is not None
    assert [(phase.name, phase.seconds) for phase in line.phases] == [("Waited in worker", 0.75), ("Running", None)]


LOST = [
    (task("STARTED", received=RECEIVED, started=STARTED, lost_since=ENDED), "Ran until lost", ENDED - STARTED),
    (task("RECEIVED", received=RECEIVED, lost_since=ENDED), "Waited in worker until lost", ENDED - RECEIVED),
    (task("STARTED", started=STARTED, lost_since=STARTED - 60), "Ran until lost", 0.0),
]


@pytest.mark.parametrize(("lost", "name", "seconds"), LOST, ids=["ran", "waited", "a clock that is ahead"])
def test_the_last_phase_of_a_lost_task_ends_when_it_was_lost(lost: dict[str, Any], name: str, seconds: float) -> None:
    line = timeline(lost, now=9000.0)
    assert line is not None
    assert (line.phases[-1].name, line.phases[-1].seconds) == (name, seconds)


def test_a_task_received_again_does_not_show_the_start_of_its_former_attempt() -> None:
    line = timeline(task("RECEIVED", received=200.0, started=STARTED, retried=ENDED), now=210.0)
    assert line is not None
    assert [(phase.name, phase.seconds) for phase in line.phases] == [("Waiting in worker", None)]


def test_clocks_that_disagree_are_told_and_give_no_negative_wait() -> None:
    line = timeline(task("SUCCESS", sent=105.0, received=100.0, started=101.0, succeeded=103.0), now=0.0)
    assert line is not None
    assert line.skewed
    assert all(phase.seconds is not None and phase.seconds >= 0 for phase in line.phases)


def test_a_single_moment_makes_no_bar() -> None:
    assert timeline(task("FAILURE", failed=ENDED), now=0.0) is None
    assert timeline(task("SUCCESS"), now=0.0) is None


TIMES = st.one_of(st.none(), st.floats(0, 2e9), st.integers(0, 10), st.text(max_size=3), st.booleans())
TASKS = st.fixed_dictionaries(
    {
        "state": st.sampled_from(["PENDING", "RECEIVED", "STARTED", "SUCCESS", "FAILURE", "RETRY", "REVOKED", "X"]),
        **dict.fromkeys(("sent", "received", "started", "succeeded", "failed", "retried", "revoked"), TIMES),
        "retries": st.one_of(st.none(), st.integers(-3, 40), st.text(max_size=2)),
        "runtime": TIMES,
        "worker": st.one_of(st.none(), st.text(max_size=5)),
    }
)


@given(TASKS, st.floats(0, 2e9))
def test_whatever_a_task_carries_the_bar_stays_within_itself(given_task: dict[str, Any], now: float) -> None:
    assert tell(given_task).text
    line = timeline(given_task, now)
    if line is not None:
        for phase in line.phases:
            assert phase.left >= 0
            assert phase.width >= 0
            assert phase.left + phase.width <= 100.001
