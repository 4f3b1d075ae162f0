"""The score of completeness: exact whatever the order, and never a loss that did not happen."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meadow.events import CeleryEvent, TaskReceived, TaskStarted, WorkerHeartbeat, WorkerOffline, WorkerOnline
from meadow_api import completeness
from meadow_api.completeness import MOST_RUNS, SETTLE, Lives, Run, Score, absorb, merged, settle

T0 = 1_000_000.0


@dataclass
class Process:
    """A worker process as Celery writes it: each event takes the next tick of its clock."""

    pid: int = 7
    now: float = T0
    clock: int = 0
    processed: int = 0
    skew: float = 0.0
    told: list[CeleryEvent] = field(default_factory=list)

    def wait(self, seconds: float) -> "Process":
        self.now += seconds
        return self

    def start(self, count: int = 1) -> list[CeleryEvent]:
        """Accept so many tasks; gives their start events."""
        begun = len(self.told)
        for _ in range(count):
            self.processed += 1
            self.told.append(TaskStarted(uuid=f"{self.pid}-{self.clock}", **self._head()))
        return self.told[begun:]

    def receive(self) -> CeleryEvent:
        self.told.append(TaskReceived(uuid=f"r-{self.clock}", **self._head()))
        return self.told[-1]

    def beat(self, kind: type[WorkerHeartbeat] = WorkerHeartbeat) -> CeleryEvent:
        self.told.append(kind(processed=self.processed, **self._head()))
        return self.told[-1]

    def online(self) -> CeleryEvent:
        return self.beat(WorkerOnline)  # type: ignore[arg-type]

    def offline(self) -> CeleryEvent:
        return self.beat(WorkerOffline)  # type: ignore[arg-type]

    def _head(self) -> dict[str, object]:
        self.clock += 1
        self.now += 0.001
        return {
            "hostname": "w@h",
            "pid": self.pid,
            "clock": self.clock,
            "timestamp": self.now + self.skew,
            "seen": self.now,
        }


class Observer:
    """Takes groups of events in as the store does, with a restart after each."""

    def __init__(self) -> None:
        self.lives: Lives = {}
        self.scores: list[Score] = []
        self.now = 0.0

    def take(self, events: Sequence[CeleryEvent]) -> None:
        self.now = max([self.now, *(event.seen for event in events)])
        lives = completeness.copied(self.lives)
        self.scores += [*absorb(lives, events), *settle(lives, self.now)]
        self.lives = msgspec.json.decode(msgspec.json.encode(lives), type=Lives)

    def pass_time(self, seconds: float = SETTLE + 1) -> "Observer":
        self.now += seconds
        lives = completeness.copied(self.lives)
        self.scores += settle(lives, self.now)
        self.lives = lives
        return self

    @property
    def expected(self) -> int:
        return sum(score.expected for score in self.scores)

    @property
    def seen(self) -> int:
        return sum(score.seen for score in self.scores)

    @property
    def missing(self) -> int:
        return self.expected - self.seen


def watched(pid: int = 7, **more: float) -> tuple[Process, Observer]:
    """A worker that is counted already, with 1 task of 1 seen."""
    process, observer = Process(pid=pid, **more), Observer()
    process.online()
    process.start()
    process.wait(2).beat()
    observer.take(process.told)
    observer.pass_time()
    assert (observer.expected, observer.seen) == (1, 1)
    process.told.clear()
    process.wait(SETTLE + 1)
    return process, observer


def test_what_arrives_is_counted_and_nothing_is_missing() -> None:
    process, observer = watched()
    for _ in range(3):
        process.start(5)
        process.wait(2).beat()
    observer.take(process.told)
    observer.pass_time()
    assert (observer.expected, observer.seen) == (16, 16)


def test_starts_that_never_arrive_are_missing_exactly_with_the_time_when_they_were_lost() -> None:
    process, observer = watched()
    before = process.beat()
    lost = process.start(37)
    process.wait(2)
    process.start(3)
    after = process.beat()
    process.wait(2).beat()
    observer.take([event for event in process.told if event not in lost])
    observer.pass_time()
    assert (observer.expected, observer.seen) == (41, 4)
    score = next(score for score in observer.scores if score.seen < score.expected)
    assert score.start == before.seen
    assert after.seen <= score.end <= process.now


def test_a_heartbeat_that_overtakes_starts_is_not_taken_for_a_loss() -> None:
    process, observer = watched()
    starts = process.start(10)
    overtaking = process.beat()
    observer.take([overtaking])
    observer.take(starts)
    process.wait(2)
    observer.take([process.beat()])
    observer.pass_time()
    assert (observer.expected, observer.seen) == (11, 11)


def test_a_difference_counts_only_when_the_next_heartbeat_confirms_it() -> None:
    process, observer = watched()
    process.beat()
    process.processed += 1  # a pool of threads counted the task, and sends its start only after the heartbeat
    process.beat()
    process.processed -= 1
    process.start()
    observer.take(process.told)
    observer.pass_time()
    assert observer.missing == 0
    process.wait(SETTLE + 3)
    observer.take([process.beat()])
    observer.pass_time()
    assert (observer.expected, observer.seen) == (2, 2)


def test_a_worker_that_shuts_down_is_judged_by_its_last_word() -> None:
    process, observer = watched()
    process.start(4)
    observer.take([process.offline()])
    observer.pass_time()
    assert observer.missing == 4


def test_starts_that_come_late_heal_what_was_missing() -> None:
    process, observer = watched()
    late = process.start(6)
    process.beat()
    process.wait(2).beat()
    observer.take([event for event in process.told if event not in late])
    observer.pass_time()
    assert observer.missing == 6
    observer.take(late)
    assert (observer.expected, observer.seen) == (7, 7)


def test_starts_that_come_twice_are_a_surplus() -> None:
    process, observer = watched()
    process.start(3)
    process.beat()
    process.wait(2).beat()
    observer.take([*process.told, *process.told])
    observer.pass_time()
    assert observer.missing == -3


def test_events_that_are_switched_on_later_are_no_loss() -> None:
    process, observer = Process(), Observer()
    observer.take([process.online()])
    for _ in range(4):
        process.start(25)  # without -E nothing says so
        process.wait(2)
        observer.take([process.beat()])
    process.start(5)
    observer.take(process.start(2))  # now they are on
    process.wait(2)
    observer.take([process.beat()])
    observer.take(process.start(9))
    process.wait(2)
    observer.take([process.beat()])
    observer.pass_time()
    assert (observer.expected, observer.seen) == (9, 9)


def test_without_any_event_about_a_task_a_worker_is_not_scored() -> None:
    process, observer = Process(), Observer()
    for _ in range(5):
        process.start(10)
        process.wait(2)
        observer.take([process.beat()])
    observer.pass_time()
    assert observer.scores == []


def test_a_worker_that_ran_before_anybody_looked_is_scored_from_then_on() -> None:
    process, observer = Process(processed=5000, clock=90_000), Observer()
    process.beat()
    process.start(2)
    process.wait(2).beat()
    observer.take(process.told)
    observer.pass_time()
    assert (observer.expected, observer.seen) == (2, 2)


@pytest.mark.parametrize("pid", [7, 8])
def test_a_restarted_worker_begins_anew_with_the_same_pid_or_another(pid: int) -> None:
    process, observer = watched()
    process.start(50)
    process.wait(2).beat()
    observer.take(process.told)
    observer.pass_time()
    again = Process(pid=pid, now=process.now + 10)
    again.online()
    again.start(3)
    again.wait(2).beat()
    observer.take(again.told)
    observer.pass_time()
    assert (observer.expected, observer.seen) == (54, 54)


def test_two_workers_of_the_same_name_are_told_apart_by_their_pids() -> None:
    one, other, observer = Process(pid=1), Process(pid=2, clock=500), Observer()
    for _ in range(6):
        for process in (one, other):
            process.receive()
            process.start(process.pid)
            process.wait(2).beat()
            observer.take(process.told)
            process.told.clear()
    observer.pass_time()
    assert observer.missing == 0
    assert observer.expected >= 12


def test_a_heartbeat_that_claims_the_impossible_begins_a_new_count() -> None:
    process, observer = watched()
    process.processed = 2**53
    process.beat()
    process.wait(2).beat()
    observer.take(process.told)
    observer.pass_time()
    assert observer.missing == 0


def test_events_without_a_clock_are_not_scored() -> None:
    observer = Observer()
    beats = [WorkerHeartbeat(hostname="w@h", timestamp=T0 + n, seen=T0 + n, processed=9 * n) for n in range(5)]
    observer.take([TaskStarted(uuid="a", hostname="w@h", timestamp=T0, seen=T0), *beats])
    observer.pass_time()
    assert (observer.lives, observer.scores) == ({}, [])


def test_many_starts_are_kept_in_few_runs_that_heartbeats_part() -> None:
    runs = merged((), range(1, 20_001), cuts=[5000, 12_345])
    assert len(runs) <= MOST_RUNS
    assert sum(run.starts for run in runs) == 20_000
    assert sum(run.starts for run in runs if run.last <= 12_345) == 12_345
    assert not any(run.first <= 12_345 < run.last for run in runs)
    assert sum(run.starts for run in merged(runs, [777, 777], cuts=[])) == 20_002
    assert merged([Run(1, 5, 2)], [9, 3], cuts=[]) == (Run(1, 5, 3), Run(9, 9, 1))


@dataclass(frozen=True)
class Tape:
    """What a worker did: counts of starts between heartbeats, in one or more processes."""

    lives: list[list[int]]
    lost: frozenset[int]
    delays: list[float]
    sizes: list[int]


tapes = st.builds(
    Tape,
    lives=st.lists(st.lists(st.integers(0, 6), min_size=2, max_size=8), min_size=1, max_size=3),
    lost=st.frozensets(st.integers(0, 120), max_size=40),
    delays=st.lists(st.floats(0, SETTLE - 1), min_size=1, max_size=40),
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=20),
)


def played(tape: Tape, *, lose: bool, same_pid: bool) -> tuple[list[CeleryEvent], int]:
    """The events as they reach the store (each late by its delay), and how many starts were lost on the way."""
    now, told, lost, number = T0, [], 0, 0
    for life, rounds in enumerate(tape.lives):
        process = Process(pid=7 if same_pid else 7 + life, now=now, skew=-3600.0)
        process.online()
        process.start()
        process.wait(2).beat()  # the first task is always seen, so everything after it is scored
        told += process.told
        for count in rounds:
            for start in process.start(count):
                number += 1
                if lose and number in tape.lost:
                    lost += 1
                else:
                    told.append(start)
            told.append(process.wait(2).beat())
        told += [process.wait(2).beat(), process.wait(2).beat()]
        now = process.now + 10
    delayed = [(event, tape.delays[at % len(tape.delays)]) for at, event in enumerate(told)]
    delayed.sort(key=lambda pair: pair[0].seen + pair[1])
    return [msgspec.structs.replace(event, seen=event.seen + delay) for event, delay in delayed], lost


def grouped(events: Sequence[CeleryEvent], sizes: Sequence[int]) -> list[Sequence[CeleryEvent]]:
    groups, at, turn = [], 0, 0
    while at < len(events):
        size = sizes[turn % len(sizes)]
        groups.append(events[at : at + size])
        at, turn = at + size, turn + 1
    return groups


@settings(deadline=None)
@given(tapes, st.booleans())
def test_in_any_order_and_any_groups_a_complete_stream_never_shows_a_loss(tape: Tape, same_pid: bool) -> None:
    events, _ = played(tape, lose=False, same_pid=same_pid)
    observer = Observer()
    for group in grouped(events, tape.sizes):
        observer.take(group)
        assert observer.missing == 0
    observer.pass_time(60)
    starts = sum(1 + sum(rounds) for rounds in tape.lives)
    assert (observer.expected, observer.seen) == (starts, starts)


@settings(deadline=None)
@given(tapes, st.booleans())
def test_in_any_order_and_any_groups_exactly_what_was_lost_is_missing(tape: Tape, same_pid: bool) -> None:
    events, lost = played(tape, lose=True, same_pid=same_pid)
    observer = Observer()
    for group in grouped(events, tape.sizes):
        observer.take(group)
        assert 0 <= observer.missing <= lost
    observer.pass_time(60)
    assert observer.missing == lost
