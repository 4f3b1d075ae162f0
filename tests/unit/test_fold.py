"""A task's record is a merge of its events: order, repetition and grouping do not matter."""

import copy
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meadow.events import (
    CustomEvent,
    TaskCancelled,
    TaskFact,
    TaskFailed,
    TaskReceived,
    TaskRejected,
    TaskRetried,
    TaskRevoked,
    TaskSent,
    TaskStarted,
    TaskSucceeded,
)
from meadow_api.fold import Record, absorb, fold, merge, state_of

UUID = "3f2c"

times = st.sampled_from([1.0, 2.0, 3.0, 4.5])
texts = st.sampled_from([None, "", "a", "b"])
base = {
    "uuid": st.just(UUID),
    "hostname": st.sampled_from(["w1@h", "w2@h"]),
    "timestamp": times,
    "seen": times,
    "clock": st.integers(0, 2),
    "pid": st.sampled_from([None, 1, 2]),
}
details = {
    "name": texts,
    "args": texts,
    "kwargs": texts,
    "root_id": texts,
    "parent_id": texts,
    "retries": st.integers(0, 2),
    "eta": texts,
    "expires": texts,
}
error = {"exception": texts, "traceback": texts}
KINDS: list[st.SearchStrategy[TaskFact]] = [
    st.builds(TaskSent, **base, **details, queue=texts, exchange=texts, routing_key=texts),  # type: ignore[arg-type]
    st.builds(TaskReceived, **base, **details),  # type: ignore[arg-type]
    st.builds(TaskStarted, **base),  # type: ignore[arg-type]
    st.builds(TaskSucceeded, **base, result=texts, runtime=st.sampled_from([None, 0.5, 1.5])),  # type: ignore[arg-type]
    st.builds(TaskFailed, **base, **error),  # type: ignore[arg-type]
    st.builds(TaskRetried, **base, **error),  # type: ignore[arg-type]
    st.builds(TaskRevoked, **base),  # type: ignore[arg-type]
    st.builds(TaskRejected, **base),  # type: ignore[arg-type]
    st.builds(TaskCancelled, **base),  # type: ignore[arg-type]
    st.builds(CustomEvent, **base, event=st.sampled_from(["task-progress", "task-x", "other"])),  # type: ignore[arg-type]
]
facts = st.one_of(KINDS)
# Events of one kind meet in the same instant more often than mixed ones: there values have to decide.
histories = st.one_of(
    st.lists(facts, max_size=8), st.sampled_from(KINDS).flatmap(lambda kind: st.lists(kind, max_size=5))
)


def joined(left: Record, right: Record) -> Record:
    both = copy.deepcopy(left)
    merge(both, right)
    return both


@given(histories, st.randoms(use_true_random=False))
@settings(max_examples=150)
def test_order_does_not_matter(history: list[TaskFact], random: Any) -> None:
    shuffled = list(history)
    random.shuffle(shuffled)
    assert fold(UUID, shuffled) == fold(UUID, history)


@given(histories, st.lists(st.integers(0, 7), max_size=8))
@settings(max_examples=150)
def test_repetition_does_not_matter(history: list[TaskFact], again: list[int]) -> None:
    repeated = history + [history[i] for i in again if i < len(history)]
    assert fold(UUID, repeated) == fold(UUID, history)


@given(histories, st.lists(st.integers(0, 3), min_size=8, max_size=8), st.permutations(range(4)))
@settings(max_examples=150)
def test_merging_parts_gives_the_same_as_folding_all(history: list[TaskFact], part: list[int], order: Any) -> None:
    parts = [fold(UUID, [f for f, p in zip(history, part, strict=False) if p == i]) for i in range(4)]
    together = Record(UUID)
    for i in order:
        merge(together, parts[i])
    assert together == fold(UUID, history)


@given(histories, histories, histories)
@settings(max_examples=150)
def test_the_merge_is_a_semilattice(a: list[TaskFact], b: list[TaskFact], c: list[TaskFact]) -> None:
    x, y, z = (fold(UUID, h) for h in (a, b, c))
    assert joined(x, x) == x
    assert joined(x, y) == joined(y, x)
    assert joined(joined(x, y), z) == joined(x, joined(y, z))


@given(histories)
@settings(max_examples=100)
def test_details_come_from_the_newest_attempt_and_gaps_are_filled_from_older_ones(history: list[TaskFact]) -> None:
    record = fold(UUID, history)
    described = [f for f in history if isinstance(f, TaskSent | TaskReceived)]
    keyed = sorted(((f.retries, isinstance(f, TaskReceived), f.timestamp), f.name) for f in described if f.name)
    assert record.name == (keyed[-1][1] if keyed else None)
    assert record.retries == (max(f.retries for f in described) if described else None)


def at(kind: type[Any], timestamp: float, **more: Any) -> Any:
    return kind(uuid=UUID, hostname="w1@h", timestamp=timestamp, seen=timestamp, **more)


STATES: list[tuple[str, list[TaskFact], str]] = [
    ("nothing but sent", [at(TaskSent, 1)], "PENDING"),
    ("received", [at(TaskSent, 1), at(TaskReceived, 2)], "RECEIVED"),
    ("started in the same instant", [at(TaskReceived, 2), at(TaskStarted, 2)], "STARTED"),
    ("succeeded", [at(TaskReceived, 2), at(TaskStarted, 3), at(TaskSucceeded, 4)], "SUCCESS"),
    ("started later than it succeeded", [at(TaskSucceeded, 4), at(TaskStarted, 9)], "SUCCESS"),
    ("failed and then rejected", [at(TaskFailed, 4), at(TaskRejected, 4.1)], "FAILURE"),
    ("failed, and succeeded when delivered again", [at(TaskFailed, 4), at(TaskSucceeded, 8)], "SUCCESS"),
    ("succeeded and failed in the same instant", [at(TaskFailed, 4), at(TaskSucceeded, 4)], "SUCCESS"),
    ("failed and revoked in the same instant", [at(TaskRevoked, 4), at(TaskFailed, 4)], "FAILURE"),
    ("revoked", [at(TaskStarted, 3), at(TaskRevoked, 4)], "REVOKED"),
    ("retried", [at(TaskReceived, 1), at(TaskStarted, 2), at(TaskRetried, 3)], "RETRY"),
    ("received again after a retry", [at(TaskRetried, 3), at(TaskReceived, 4)], "RECEIVED"),
    ("rejected only", [at(TaskReceived, 1), at(TaskRejected, 3)], "REJECTED"),
    ("an event of one's own", [at(TaskStarted, 1), at(CustomEvent, 2, event="task-progress")], "PROGRESS"),
    ("an event that is not of a task", [at(TaskStarted, 1), at(CustomEvent, 2, event="progress")], "STARTED"),
    ("cancelled with its worker's connection", [at(TaskStarted, 1), at(TaskCancelled, 2)], "RETRY"),
]


@pytest.mark.parametrize(("history", "state"), [case[1:] for case in STATES], ids=[case[0] for case in STATES])
def test_the_state_follows_from_the_times(history: list[TaskFact], state: str) -> None:
    for order in itertools.permutations(history):
        assert state_of(fold(UUID, order)) == state


def test_a_retried_task_keeps_its_last_error_after_success() -> None:
    record = fold(
        UUID,
        [
            at(TaskReceived, 1, name="proj.t", args="(1,)", parent_id=None),
            at(TaskRetried, 2, exception="RuntimeError('not yet')", traceback="Traceback…"),
            at(TaskReceived, 3, name="proj.t", args="(1,)", retries=1, eta="2026-01-01", parent_id=UUID),
            at(TaskSucceeded, 4, result="1", runtime=0.1),
        ],
    )
    assert (record.exception, record.traceback) == ("RuntimeError('not yet')", "Traceback…")
    assert (record.retries, record.eta, record.parent_id) == (1, "2026-01-01", UUID)
    assert state_of(record) == "SUCCESS"


def test_a_task_that_was_only_sent_has_a_client_and_no_worker() -> None:
    record = fold(UUID, [TaskSent(uuid=UUID, hostname="gen1@web", timestamp=5, seen=5, clock=7, queue="high")])
    assert (record.client, record.worker, record.timestamp, record.clock) == ("gen1@web", None, 5, 7)


def test_a_senders_later_clock_does_not_take_the_task_from_its_worker() -> None:
    record = fold(UUID, [at(TaskSent, 100), at(TaskStarted, 5)])
    assert (record.worker, record.timestamp) == ("w1@h", 5)


def test_a_task_that_no_worker_could_name_stays_without_name() -> None:
    record = fold(UUID, [at(TaskFailed, 4, exception="NotRegistered('x')")])
    assert (record.name, record.retries, state_of(record)) == (None, None, "FAILURE")


def test_numbers_that_no_database_holds_are_bounded() -> None:
    record = Record(UUID)
    absorb(record, at(TaskReceived, 1, retries=10**30, clock=-(10**30), pid=10**40))
    assert (record.retries, record.clock, record.pid) == (2**63 - 1, -(2**63 - 1), 2**63 - 1)
