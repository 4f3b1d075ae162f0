"""Which attempts a task's events show, in whatever order they come."""

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meadow.events import (
    CustomEvent,
    TaskFact,
    TaskFailed,
    TaskReceived,
    TaskRejected,
    TaskRetried,
    TaskSent,
    TaskStarted,
    TaskSucceeded,
)
from meadow.rows import AttemptRow
from meadow_api.attempts import LONGEST_TRACEBACK, MOST_MOMENTS, Moment, attempts_of, union
from meadow_api.fold import fold, log_of, merge
from meadow_api.store.attempt_reads import attempts_in

UUID = "3f2c"


def at(kind: type[Any], timestamp: float, worker: str = "w1@h", pid: int = 7, **more: Any) -> Any:
    return kind(uuid=UUID, hostname=worker, pid=pid, timestamp=timestamp, seen=timestamp, **more)


def told(attempts: list[AttemptRow]) -> list[tuple[Any, ...]]:
    return [(a.number, a.retries, a.worker, a.received, a.started, a.ended, a.state) for a in attempts]


def retried_once() -> list[TaskFact]:
    return [
        at(TaskSent, 1, "web@h", retries=0, queue="high"),
        at(TaskReceived, 2, retries=0),
        at(TaskStarted, 3),
        at(TaskRetried, 4, exception="OSError('gone')", traceback="first"),
        at(TaskSent, 4.5, "web@h", retries=1, queue="high"),
        at(TaskReceived, 5, "w2@h", 8, retries=1),
        at(TaskStarted, 6, "w2@h", 8),
        at(TaskSucceeded, 7, "w2@h", 8, runtime=1.0),
    ]


def test_a_task_that_ran_once_needs_no_list_and_has_one_attempt() -> None:
    history = [
        at(TaskSent, 1, "web@h", queue="high"),
        at(TaskReceived, 2),
        at(TaskStarted, 3),
        at(TaskFailed, 4, exception="KeyError(1)", traceback="T"),
    ]
    for order in itertools.permutations(history):
        record = fold(UUID, order)
        assert record.attempts is None
        (attempt,) = attempts_in(record)
        assert told([attempt]) == [(1, 0, "w1@h", 2, 3, 4, "FAILURE")]
        assert (attempt.sent, attempt.queue, attempt.pid) == (1, "high", 7)
        assert (attempt.exception, attempt.traceback) == ("KeyError(1)", "T")


@given(st.permutations(retried_once()))
@settings(max_examples=100)
def test_each_attempt_keeps_its_own_times_worker_and_error(history: list[TaskFact]) -> None:
    first, second = attempts_in(fold(UUID, history))
    assert told([first, second]) == [(1, 0, "w1@h", 2, 3, 4, "RETRY"), (2, 1, "w2@h", 5, 6, 7, "SUCCESS")]
    assert (first.exception, first.traceback, first.sent) == ("OSError('gone')", "first", 1)
    assert (second.exception, second.runtime, second.sent, second.pid) == (None, 1.0, 4.5, 8)


def test_a_message_that_is_delivered_again_to_another_worker_is_a_further_attempt() -> None:
    history = [
        at(TaskReceived, 2, retries=0),
        at(TaskStarted, 3),
        at(TaskReceived, 60, "w2@h", 8, retries=0),
        at(TaskStarted, 61, "w2@h", 8),
        at(TaskSucceeded, 62, "w2@h", 8, runtime=1.0),
    ]
    for order in itertools.permutations(history):
        found = attempts_in(fold(UUID, order))
        assert told(found) == [(1, 0, "w1@h", 2, 3, None, "STARTED"), (2, 0, "w2@h", 60, 61, 62, "SUCCESS")]


def test_failed_and_then_rejected_is_one_end() -> None:
    history = [at(TaskReceived, 2), at(TaskStarted, 3), at(TaskFailed, 4, exception="E"), at(TaskRejected, 4.1)]
    assert told(attempts_in(fold(UUID, history))) == [(1, 0, "w1@h", 2, 3, 4, "FAILURE")]


def test_a_start_whose_reception_was_lost_is_an_attempt_of_its_own() -> None:
    history = [at(TaskReceived, 2, retries=0), at(TaskStarted, 3), at(TaskStarted, 9, "w2@h", 8)]
    assert told(attempts_in(fold(UUID, history))) == [
        (1, 0, "w1@h", 2, 3, None, "STARTED"),
        (2, None, "w2@h", None, 9, None, "STARTED"),
    ]


def test_of_very_many_attempts_the_newest_stay_and_are_counted_from_the_first() -> None:
    history: list[TaskFact] = []
    for retries in range(120):
        begun = 10.0 * retries
        history += [
            at(TaskReceived, begun, retries=retries),
            at(TaskStarted, begun + 1),
            at(TaskRetried, begun + 2, exception=f"E{retries}", traceback="x" * 9000),
        ]
    record = fold(UUID, history)
    assert record.attempts is not None
    assert len(record.attempts) == MOST_MOMENTS
    found = attempts_in(record)
    assert (found[-1].number, found[-1].retries, found[-1].exception) == (120, 119, "E119")
    assert len(found[-1].traceback or "") == 9000
    assert len(found[-2].traceback or "") == LONGEST_TRACEBACK
    assert "cut by Meadow" in (found[-2].traceback or "")
    assert fold(UUID, reversed(history)) == record


def test_progress_told_by_a_child_process_does_not_move_the_attempt_to_it() -> None:
    progress = CustomEvent(uuid=UUID, hostname="w1@h", pid=99, timestamp=3.5, seen=3.5, event="task-progress")
    history = [at(TaskReceived, 2), at(TaskStarted, 3), progress]
    running = fold(UUID, history)
    assert [a.pid for a in attempts_in(running)] == [7]
    ended = fold(UUID, [*history, at(TaskSucceeded, 4)])
    assert ended.attempts is None
    assert ended == fold(UUID, [at(TaskSucceeded, 4), *reversed(history)])


moments = st.builds(
    Moment,
    st.integers(0, 300).map(float),
    st.sampled_from(["sent", "received", "started", "failed"]),
    runtime=st.floats(allow_nan=False),  # which no JSON can say
)


@given(*[st.lists(moments, max_size=300)] * 3)
@settings(max_examples=50)
def test_the_union_of_bounded_logs_is_associative(a: list[Moment], b: list[Moment], c: list[Moment]) -> None:
    assert union(union(a, b), c) == union(a, union(b, c)) == union(c, b, a)


@given(st.lists(moments, max_size=40))
@settings(max_examples=100)
def test_every_log_gives_attempts_with_numbers_in_order(log: list[Moment]) -> None:
    numbers = [attempt.number for attempt in attempts_of(log)]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else not log


@pytest.mark.parametrize("cut_at", range(1, 8))
def test_parts_of_a_story_merge_to_the_whole(cut_at: int) -> None:
    history = retried_once()
    left, right = fold(UUID, history[:cut_at]), fold(UUID, history[cut_at:])
    merge(left, right)
    assert left == fold(UUID, history)
    assert len(log_of(left)) == len(history)
