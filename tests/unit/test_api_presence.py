"""A worker is online while it is heard of, by our clock, and until it says goodbye."""

import itertools
from typing import Any

import pytest

from meadow.events import TaskStarted, WorkerEvent, WorkerHeartbeat, WorkerOffline, WorkerOnline
from meadow_api.presence import WorkerRecord, absorb, is_online, patience, since


def event(kind: type[WorkerEvent], at: float, *, seen: float | None = None, **more: Any) -> WorkerEvent:
    return kind(hostname="w", timestamp=at, seen=at if seen is None else seen, clock=int(at), **more)


def record_of(*facts: Any) -> WorkerRecord:
    record = WorkerRecord("w")
    for fact in facts:
        absorb(record, fact)
    return record


def test_a_worker_is_online_until_it_was_silent_for_too_long() -> None:
    record = record_of(event(WorkerHeartbeat, 100, freq=4.0))
    assert is_online(record, 110)
    assert not is_online(record, 110.1)


def test_a_wrong_clock_of_the_worker_does_not_matter() -> None:
    record = record_of(event(WorkerHeartbeat, 5.0, seen=100.0))
    assert is_online(record, 101)
    assert record.skew == -95.0


def test_a_worker_that_said_goodbye_is_offline_at_once_and_online_when_it_returns() -> None:
    gone = (event(WorkerOnline, 100), event(WorkerHeartbeat, 102), event(WorkerOffline, 103))
    for order in itertools.permutations(gone):
        record = record_of(*order)
        assert not is_online(record, 103.5)
        assert since(record, False) == 103
    returned = record_of(*gone, event(WorkerOnline, 104))
    assert is_online(returned, 104.5)
    assert since(returned, True) == 104


def test_an_event_about_a_task_shows_that_the_worker_lives() -> None:
    record = record_of(TaskStarted(uuid="u", hostname="w", timestamp=100, seen=100))
    assert is_online(record, 104)
    assert record.event_at is None


def test_the_newest_event_describes_the_worker_whatever_the_order() -> None:
    facts = [
        event(WorkerOnline, 1, pid=1, sw_ver="5.6"),
        event(WorkerHeartbeat, 9, active=3, processed=40, loadavg=(1.0, 2.0, 3.0), sw_ver="5.7"),
        event(WorkerHeartbeat, 7, active=1),
        event(WorkerHeartbeat, 5, active=2),
        event(WorkerHeartbeat, 3, active=9),
    ]
    for order in itertools.permutations(facts):
        record = record_of(*order)
        assert (record.active, record.processed, record.sw_ver, record.loadavg) == (3, 40, "5.7", (1.0, 2.0, 3.0))
        assert record.heartbeats == (3, 5, 7, 9)
        assert (record.first_seen, record.last_seen) == (1, 9)


@pytest.mark.parametrize(("freq", "seconds"), [(0.5, 5.0), (2.0, 5.0), (10.0, 25.0), (1e9, 300.0), (-5.0, 5.0)])
def test_patience_follows_the_heartbeat_within_bounds(freq: float, seconds: float) -> None:
    assert patience(freq) == seconds
