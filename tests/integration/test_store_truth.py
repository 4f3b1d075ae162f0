"""Lost tasks, attempts and statistics in the real store, on both databases."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from meadow.bus import StreamMessage
from meadow.codec import encode_batch
from meadow.events import (
    AnyFact,
    CollectorReported,
    TaskReceived,
    TaskRetried,
    TaskSent,
    TaskStarted,
    TaskSucceeded,
    WorkerHeartbeat,
    WorkerOffline,
    WorkerOnline,
)
from meadow_api.errors import InvalidQuestion, PositionMoved
from meadow_api.intake import groups
from meadow_api.store import lost_writes, stats_writes
from meadow_api.store.attempt_reads import attempts
from meadow_api.store.database import Database
from meadow_api.store.schema import stats_journal, tasks
from meadow_api.store.stats_reads import Series, read_labels, read_series
from meadow_api.store.writer import Position, Writer
from meadow_api.tallies import HOUR, MINUTE

CLUSTER = "default"
BEGUN = 1_795_000_000.0 // 3600 * 3600


class Store:
    """Writes facts as the follower does, one message after the other."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.writer = Writer(database)
        self.position = Position("stream", 0)

    async def begin(self) -> None:
        await self.writer.load()
        await self.writer.begin_stream("S", self.position)

    async def write(self, *facts: AnyFact) -> set[str]:
        """Gives the tasks that changed."""
        sequence = self.position.sequence + 1
        message = StreamMessage(sequence, "s", encode_batch(CLUSTER, "c", facts))
        changed: set[str] = set()
        for group in groups([message], self.writer.digests):
            for changes in (await self.writer.write_group("S", self.position, group)).values():
                changed |= set(changes.tasks)
            self.position = Position("stream", group.sequence)
        return changed

    async def marks(self) -> dict[str, tuple[str, float | None, str | None]]:
        columns = (tasks.c.uuid, tasks.c.state, tasks.c.lost_since, tasks.c.lost_reason)
        rows = await self.database.read(lambda c: c.execute(select(*columns)).all())
        return {uuid: (state, since, reason) for uuid, state, since, reason in rows}

    async def series(self, dimension: str, label: str | None, until: float = BEGUN + 7200) -> Series:
        return await self.database.read(
            lambda c: read_series(c, CLUSTER, dimension, label, BEGUN, until, 60.0, now=BEGUN)
        )


@pytest.fixture
async def store(store_place: Path | str) -> AsyncIterator[Store]:
    database = Database(store_place)
    await database.open()
    opened = Store(database)
    await opened.begin()
    yield opened
    await database.close()


def told(kind: type[Any], at: float, worker: str = "w1@h", pid: int = 7, clock: int | None = None, **more: Any) -> Any:
    seen = BEGUN + at
    return kind(
        hostname=worker, pid=pid, timestamp=seen, seen=seen, clock=int(at * 10) + 1 if clock is None else clock, **more
    )


def report(at: float, *, since: float = 0.0, connected: bool = True) -> CollectorReported:
    return CollectorReported(seen=BEGUN + at, broker="redis://h", connected=connected, since=BEGUN + since)


async def test_tasks_of_a_worker_that_says_goodbye_are_lost_until_they_are_heard_of_again(store: Store) -> None:
    await store.write(
        told(TaskReceived, 1, uuid="held", name="n"),
        told(TaskReceived, 1, uuid="running", name="n"),
        told(TaskStarted, 2, uuid="running"),
        told(TaskReceived, 1, uuid="done", name="n"),
        told(TaskSucceeded, 3, uuid="done"),
        told(TaskRetried, 3, uuid="again"),
    )
    assert {mark[1] for mark in (await store.marks()).values()} == {None}
    changed = await store.write(told(WorkerOffline, 10), report(10))
    lost = BEGUN + 10
    assert {"held", "running"} <= changed
    assert await store.marks() == {
        "held": ("RECEIVED", lost, "worker-offline"),
        "running": ("STARTED", lost, "worker-offline"),
        "done": ("SUCCESS", None, None),
        "again": ("RETRY", None, None),
    }
    await store.write(told(TaskReceived, 12, "w2@h", 8, uuid="held", name="n"))
    assert (await store.marks())["held"] == ("RECEIVED", None, None)
    await store.write(told(TaskStarted, 2, uuid="running"), report(13))
    assert (await store.marks())["running"][2] == "worker-offline", "an old event that comes again changes nothing"


async def test_a_worker_that_begins_anew_has_lost_what_its_former_process_held(store: Store) -> None:
    await store.write(
        told(WorkerHeartbeat, 1, processed=0), told(TaskReceived, 2, uuid="old"), told(TaskStarted, 3, uuid="old")
    )
    await store.write(told(WorkerOnline, 30, pid=8, clock=1, processed=0), told(TaskReceived, 31, pid=8, uuid="new"))
    await store.write(told(WorkerHeartbeat, 40, pid=8, processed=0))
    assert await store.marks() == {
        "old": ("STARTED", BEGUN + 30, "worker-restarted"),
        "new": ("RECEIVED", None, None),
    }


async def test_a_container_whose_processes_all_have_the_same_pid_is_understood_too(store: Store) -> None:
    await store.write(told(WorkerHeartbeat, 1, pid=1, clock=900), told(TaskStarted, 3, pid=1, clock=901, uuid="old"))
    await store.write(told(WorkerOnline, 30, pid=1, clock=1), told(TaskStarted, 31, pid=1, clock=2, uuid="new"))
    await store.write(told(WorkerHeartbeat, 40, pid=1, clock=9))
    assert {uuid: mark[2] for uuid, mark in (await store.marks()).items()} == {"old": "worker-restarted", "new": None}


async def test_a_worker_that_reconnects_to_its_broker_has_lost_nothing(store: Store) -> None:
    await store.write(told(WorkerHeartbeat, 1), told(TaskStarted, 3, uuid="running"))
    await store.write(told(WorkerOnline, 30), told(WorkerHeartbeat, 40))
    assert (await store.marks())["running"] == ("STARTED", None, None)


async def test_silence_marks_and_the_same_process_heard_again_takes_the_mark_back(store: Store) -> None:
    await store.write(report(0), told(WorkerHeartbeat, 1), told(TaskStarted, 3, uuid="running"))
    await store.write(report(50))
    assert (await store.marks())["running"][1] is None
    await store.write(report(120))
    assert (await store.marks())["running"] == ("STARTED", BEGUN + 3, "worker-silent")
    await store.write(told(WorkerHeartbeat, 130))
    assert (await store.marks())["running"] == ("STARTED", None, None)


async def test_a_collector_that_was_away_makes_no_worker_silent(store: Store) -> None:
    await store.write(report(0), told(WorkerHeartbeat, 1), told(TaskStarted, 3, uuid="running"))
    await store.write(report(4000, since=3999))
    assert (await store.marks())["running"][1] is None
    await store.write(report(5000, connected=False))
    assert (await store.marks())["running"][1] is None


async def test_what_is_lost_stays_lost_while_nobody_listens(store: Store) -> None:
    await store.write(report(0), told(WorkerHeartbeat, 1), told(TaskStarted, 3, uuid="running"))
    await store.write(report(120))
    lost = ("STARTED", BEGUN + 3, "worker-silent")
    for happened in (report(130, connected=False), report(140, since=140), report(300, since=140)):
        await store.write(happened)
        assert (await store.marks())["running"] == lost
    await store.begin()  # as after a restart
    for happened in (report(310, since=309), report(500, since=309)):
        await store.write(happened)
        assert (await store.marks())["running"] == lost
    await store.write(told(WorkerHeartbeat, 510), report(511, since=309))
    assert (await store.marks())["running"] == ("STARTED", None, None)


async def test_very_many_lost_tasks_are_marked_a_few_with_each_group(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost_writes, "STEP", 20)
    await store.write(*[told(TaskReceived, 1, uuid=f"t{n}") for n in range(50)])
    await store.write(told(WorkerOffline, 10))
    counts = []
    for second in range(11, 16):
        counts.append(sum(mark[1] is not None for mark in (await store.marks()).values()))
        await store.write(report(second))
    assert counts == [20, 40, 50, 50, 50]


async def test_what_was_marked_survives_a_restart_and_so_does_what_was_not_looked_at_yet(store: Store) -> None:
    await store.write(told(TaskStarted, 1, uuid="a"), told(WorkerHeartbeat, 1))
    await store.write(told(WorkerOffline, 3))
    await store.begin()  # as after a restart: nothing is remembered but what is stored
    await store.write(report(4))
    assert (await store.marks())["a"] == ("STARTED", BEGUN + 3, "worker-offline")


async def test_attempts_are_read_back_with_the_errors_of_each(store: Store) -> None:
    await store.write(
        told(TaskReceived, 1, uuid="t", retries=0),
        told(TaskStarted, 2, uuid="t"),
        told(TaskRetried, 3, uuid="t", exception="OSError('gone')", traceback="first"),
    )
    assert (await store.marks())["t"][0] == "RETRY"
    await store.write(
        told(TaskReceived, 4, "w2@h", 8, uuid="t", retries=1),
        told(TaskStarted, 5, "w2@h", 8, uuid="t"),
        told(TaskSucceeded, 6, "w2@h", 8, uuid="t", runtime=1.0),
        told(TaskReceived, 7, uuid="other"),
    )
    found = await store.database.read(lambda c: attempts(c, CLUSTER, "t"))
    assert [(a.number, a.worker, a.pid, a.exception, a.traceback, a.state) for a in found] == [
        (1, "w1@h", 7, "OSError('gone')", "first", "RETRY"),
        (2, "w2@h", 8, None, None, "SUCCESS"),
    ]
    assert len(await store.database.read(lambda c: attempts(c, CLUSTER, "other"))) == 1
    assert await store.database.read(lambda c: attempts(c, CLUSTER, "unknown")) == []


def a_task(number: int, at: float, name: str = "shop.pay", worker: str = "w1@h") -> list[AnyFact]:
    uuid = f"s{number}"
    return [
        told(TaskSent, at, "web@h", None, uuid=uuid, name=name, queue="high"),
        told(TaskReceived, at + 2, worker, uuid=uuid, name=name),
        told(TaskStarted, at + 3, worker, uuid=uuid),
        told(TaskSucceeded, at + 7, worker, uuid=uuid, runtime=4.0),
    ]


async def test_statistics_are_there_at_once_and_the_same_when_they_are_added_up(store: Store) -> None:
    for number in range(4):
        await store.write(*a_task(number, 10.0 * number))
    fresh = await store.series("queue", "high")
    await store.database.write(lambda c: stats_writes.add_up(c, 1))
    assert await store.database.read(lambda c: c.execute(select(stats_journal)).all()) == []
    assert await store.series("queue", "high") == fresh
    assert fresh.total.events == {
        **dict.fromkeys(("sent", "received", "started", "succeeded"), 4),
        **dict.fromkeys(("failed", "retried", "revoked", "rejected", "cancelled"), 0),
    }
    assert fresh.total.queue_wait.p50 == pytest.approx(2.0, rel=0.02)
    assert fresh.total.prefetch_wait.p95 == pytest.approx(1.0, rel=0.02)
    assert (fresh.total.run_time.count, fresh.total.run_time.max) == (4, pytest.approx(4.0, rel=0.02))


async def test_each_dimension_knows_its_labels_and_a_day_is_read_by_the_hour(store: Store) -> None:
    await store.write(*a_task(1, 5), *a_task(2, 6, "shop.mail", "w2@h"), *a_task(3, 3700, "shop.mail", "w2@h"))
    for dimension, labels in (("name", ["shop.mail", "shop.pay"]), ("worker", ["w2@h", "w1@h"]), ("queue", ["high"])):
        found = await store.database.read(
            lambda c, dimension=dimension: read_labels(c, CLUSTER, dimension, BEGUN, BEGUN + 7200, now=BEGUN)  # type: ignore[misc]
        )
        assert [row.label for row in found] == labels
    by_worker = await store.series("worker", "w2@h")
    assert (by_worker.total.events["sent"], by_worker.total.events["succeeded"]) == (0, 2)
    by_hour = await store.series("name", "shop.mail", until=BEGUN + 30 * 86400)
    assert (by_hour.step % HOUR, [point.events["started"] for point in by_hour.points]) == (0, [1, 1])
    by_minute = await store.series("all", None)
    assert (by_minute.step, [point.at - BEGUN for point in by_minute.points]) == (MINUTE, [0, 3660 // 60 * 60])


async def test_too_many_labels_are_counted_together_and_shown_as_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats_writes, "MOST_LABELS", 3)
    for number in range(6):
        await store.write(*a_task(number, 1, f"name{number}"), *a_task(10 + number, 2, "much"))
    await store.database.write(lambda c: stats_writes.add_up(c, 1))
    found = await store.database.read(lambda c: read_labels(c, CLUSTER, "name", BEGUN, BEGUN + 60, now=BEGUN))
    assert {row.label: row.total.events["started"] for row in found} == {
        "much": 6,
        "(other)": 4,
        "name0": 1,
        "name1": 1,
    }


async def test_a_group_that_is_refused_leaves_nothing_in_the_statistics(store: Store) -> None:
    await store.write(*a_task(1, 1))
    group = next(groups([StreamMessage(2, "s", encode_batch(CLUSTER, "c", a_task(2, 2)))], set()))
    with pytest.raises(PositionMoved):
        await store.writer.write_group("S", Position("stream", 99), group)
    assert (await store.series("all", None)).total.events["sent"] == 1


@pytest.mark.parametrize(("dimension", "since"), [("host", BEGUN), ("name", BEGUN + 1e9), ("name", -1.0)])
async def test_senseless_questions_are_refused(store: Store, dimension: str, since: float) -> None:
    with pytest.raises(InvalidQuestion):
        await store.database.read(lambda c: read_series(c, CLUSTER, dimension, "x", since, BEGUN + 10, 60.0))
