"""When a worker counts as gone."""

import pytest

from meadow.events import CollectorReported, WorkerHeartbeat, WorkerOffline, WorkerOnline
from meadow_api.completeness import Life
from meadow_api.lost import OFFLINE, RESTARTED, SILENT, Watched, absence, is_unclear, silence
from meadow_api.presence import WorkerRecord, absorb_all

NOW = 10_000.0
WATCHED = Watched(since=1.0, reported=NOW)


def worker(*events: tuple[type, float], freq: float = 2.0) -> WorkerRecord:
    record = WorkerRecord("w1@h")
    absorb_all(record, [kind(hostname="w1@h", timestamp=at, seen=at, freq=freq) for kind, at in events])
    return record


def life(began: float, until: float) -> Life:
    return Life(began=began, clock=5, timestamp=until)


def reason(record: WorkerRecord, lives: dict[int, Life] | None = None, watched: Watched = WATCHED) -> str | None:
    found = absence(record, lives or {}, NOW, watched)
    return None if found is None else found.reason


def test_a_worker_that_said_goodbye_is_gone_since_then() -> None:
    found = absence(worker((WorkerHeartbeat, NOW - 9), (WorkerOffline, NOW - 5)), {}, NOW, WATCHED)
    assert found is not None
    assert (found.reason, found.since, found.before) == (OFFLINE, NOW - 5, None)


def test_a_worker_that_is_heard_of_is_not_gone() -> None:
    assert reason(worker((WorkerHeartbeat, NOW - 3))) is None


def test_silence_counts_only_while_the_collector_was_there_to_hear() -> None:
    record = worker((WorkerHeartbeat, NOW - 500))
    assert reason(record) == SILENT
    assert reason(record, watched=Watched(since=NOW - 10, reported=NOW)) is None
    assert reason(record, watched=Watched()) is None


def test_while_nobody_listens_it_is_unclear_whether_a_worker_is_gone() -> None:
    silent, heard = worker((WorkerHeartbeat, NOW - 500)), worker((WorkerHeartbeat, NOW - 3))
    away, back = Watched(), Watched(since=NOW - 10, reported=NOW)
    assert [is_unclear(silent, NOW, watched) for watched in (WATCHED, away, back)] == [False, True, True]
    assert not is_unclear(heard, NOW, away)
    found = absence(silent, {7: life(100, NOW - 500)}, NOW, away)
    assert found is not None
    assert (found.reason, found.unclear) == (RESTARTED, True)


def test_a_worker_with_rare_heartbeats_may_be_silent_for_longer() -> None:
    assert reason(worker((WorkerHeartbeat, NOW - 100), freq=30.0)) is None
    assert silence(30.0) > 100 > silence(2.0)


def test_another_process_of_the_same_name_means_that_the_former_ended() -> None:
    record = worker((WorkerOnline, NOW - 20), (WorkerHeartbeat, NOW - 1))
    found = absence(record, {7: life(100, NOW - 30), 8: life(NOW - 20, NOW - 1)}, NOW, WATCHED)
    assert found is not None
    assert (found.reason, found.since, found.before, found.pids) == (RESTARTED, NOW - 20, NOW - 20, ())


def test_two_processes_that_share_a_name_by_mistake_are_both_there() -> None:
    found = absence(
        worker((WorkerHeartbeat, NOW - 1)), {7: life(100, NOW - 2), 8: life(NOW - 20, NOW - 1)}, NOW, WATCHED
    )
    assert found is not None
    assert found.pids == (7,)


@pytest.mark.parametrize(("connected", "since"), [(True, 70.0), (False, None)])
def test_the_collectors_newest_report_says_since_when_it_hears(connected: bool, since: float | None) -> None:
    newer = CollectorReported(seen=100.0, broker="redis://h", connected=connected, since=70.0)
    older = CollectorReported(seen=90.0, broker="redis://h", connected=True, since=1.0)
    assert Watched().after(newer).after(older).since == since
