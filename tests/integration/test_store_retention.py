"""What is old or too much goes, the failed by rules of their own, on both databases."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, insert, select

from meadow.settings import Settings
from meadow_api.housekeeping import Housekeeping
from meadow_api.store import retention, schema
from meadow_api.store.database import Database
from meadow_api.store.retention import Kind, Limits, Surplus
from tests.integration.store_rows import task_row

NOW = 1_000_000_000.0
DAY = 86400.0


@asynccontextmanager
async def opened(place: Path | str) -> AsyncIterator[Database]:
    database = Database(place)
    try:
        await database.open()
        yield database
    finally:
        await database.close()


async def fill(database: Database, number: int, *, texts: int = 10) -> None:
    """One task a day, the newest one a day old; every third failed."""

    def work(connection: Connection) -> None:
        connection.execute(insert(schema.clusters).values(id=1, name="default", tasks=number))
        rows = [
            task_row(n, at=NOW - n * DAY, state="SUCCESS" if n % 3 else "FAILURE", args="x" * texts)
            for n in range(1, number + 1)
        ]
        connection.execute(insert(schema.tasks), rows)

    await database.write(work)


async def left(database: Database) -> list[int]:
    """The numbers of the tasks that are left, which are their age in days."""
    uuids = await database.read(lambda c: c.execute(select(schema.tasks.c.uuid)).scalars().all())
    stored = await database.read(lambda c: c.execute(select(schema.clusters.c.tasks)).scalar_one())
    assert stored == len(uuids), "the number of tasks that is kept is wrong"
    return sorted(int(uuid.removeprefix("task-")) for uuid in uuids)


async def test_failed_tasks_are_kept_longer_than_others(store_place: Path | str) -> None:
    async with opened(store_place) as database:
        await fill(database, 30)
        housekeeping = Housekeeping(database, Limits(days=10.5, failed_days=20.5))
        assert await housekeeping.sweep(NOW) == 30 - 10 - 3
        assert await left(database) == [*range(1, 11), 12, 15, 18]
        assert await housekeeping.sweep(NOW + 2 * DAY) == 1
        assert await left(database) == [*range(1, 10), 12, 15, 18]


async def test_failed_tasks_can_be_kept_for_a_shorter_time_too(store_place: Path | str) -> None:
    async with opened(store_place) as database:
        await fill(database, 12)
        await Housekeeping(database, Limits(failed_days=5.0)).sweep(NOW)
        assert await left(database) == [1, 2, 3, 4, 5, 7, 8, 10, 11]


async def test_the_oldest_go_when_there_are_too_many(store_place: Path | str) -> None:
    async with opened(store_place) as database:
        await fill(database, 20)
        await Housekeeping(database, Limits(most=7)).sweep(NOW)
        assert await left(database) == [1, 2, 3, 4, 5, 6, 7]


async def test_failed_tasks_have_a_number_of_their_own(store_place: Path | str) -> None:
    async with opened(store_place) as database:
        await fill(database, 20)
        await Housekeeping(database, Limits(most=4, most_failed=2)).sweep(NOW)
        assert await left(database) == [1, 2, 3, 4, 5, 6]


async def test_the_oldest_go_until_the_store_is_small_enough(store_place: Path | str) -> None:
    async with opened(store_place) as database:
        await fill(database, 2000, texts=1000)
        before = await database.read(retention.size)
        assert before > 2_000_000
        await Housekeeping(database, Limits(most_bytes=1_500_000)).sweep(NOW)
        kept = await left(database)
        assert kept == list(range(1, len(kept) + 1)), "not the oldest went"
        assert 500 < len(kept) < 1900
        assert await database.read(retention.size) <= 1_500_000


async def test_more_than_one_step_goes_in_one_sweep(store_place: Path | str) -> None:
    async with opened(store_place) as database:
        await fill(database, 3000)
        housekeeping = Housekeeping(database, Limits(days=100.5, failed_days=100.5))
        assert await housekeeping.sweep(NOW) == 2900
        assert housekeeping.deleted == {"age": 2900}
        assert len(await left(database)) == 100


async def test_a_task_that_changed_meanwhile_stays(store_place: Path | str) -> None:
    """Between looking and deleting, an event may come."""
    async with opened(store_place) as database:
        await fill(database, 5)
        old = Surplus(Kind(1, False), before=NOW - 3.5 * DAY)
        found = await database.read(lambda c: retention.candidates(c, old, None, 100))
        assert [round((NOW - at) / DAY) for _, at in found] == [5, 4]
        change = schema.tasks.update().where(schema.tasks.c.uuid == "task-5").values(timestamp=NOW)
        await database.write(lambda c: c.execute(change).rowcount)
        assert await database.write(lambda c: retention.forget(c, old, [id for id, _ in found])) == 1
        assert await left(database) == [1, 2, 3, 5]


async def test_audit_records_stay_unless_they_are_given_an_age(store_place: Path | str) -> None:
    async with opened(store_place) as database:

        def work(connection: Connection) -> None:
            connection.execute(insert(schema.clusters).values(id=1, name="default", tasks=0))
            rows = [{"cluster": 1, "record": str(n), "at": NOW - n * DAY} for n in range(1, 6)]
            connection.execute(insert(schema.audit), rows)

        await database.write(work)
        count = select(func.count()).select_from(schema.audit)
        await Housekeeping(database, Limits(days=1.0, failed_days=1.0)).sweep(NOW)
        assert await database.read(lambda c: c.execute(count).scalar_one()) == 5
        await Housekeeping(database, Limits(audit_days=2.5)).sweep(NOW)
        assert await database.read(lambda c: c.execute(count).scalar_one()) == 2


async def test_statistics_by_the_hour_outlive_those_by_the_minute(store_place: Path | str) -> None:
    counts = dict.fromkeys(c.name for c in schema.stats.c if c.name in schema.rollups.c or c.name == "cancelled")
    async with opened(store_place) as database:

        def work(connection: Connection) -> None:
            connection.execute(insert(schema.clusters).values(id=1, name="default", tasks=0))
            rows = [
                {**dict.fromkeys(counts, 1), "cluster": 1, "step": step, "dimension": "all", "label": "", "at": at}
                for step in (60, 3600)
                for at in (int(NOW - 3 * DAY), int(NOW - 30 * DAY), int(NOW))
            ]
            connection.execute(insert(schema.stats), rows)

        await database.write(work)
        await Housekeeping(database, Limits(stats_days=10)).sweep(NOW)
        kept = select(schema.stats.c.step, schema.stats.c.at).order_by(schema.stats.c.step, schema.stats.c.at)
        rows = await database.read(lambda c: [tuple(row) for row in c.execute(kept)])
    assert rows == [(60, int(NOW)), (3600, int(NOW - 3 * DAY)), (3600, int(NOW))]


async def test_writing_has_its_turn_between_two_steps(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as database:
        await fill(database, 3000)
        waits = []
        done = False

        async def write_on_and_on() -> None:
            while not done:
                begun = time.perf_counter()
                await database.write(lambda c: None)
                waits.append(time.perf_counter() - begun)

        writing = asyncio.create_task(write_on_and_on())
        await Housekeeping(database, Limits(days=1.5, failed_days=1.5)).sweep(NOW)
        done = True
        await writing
    assert len(waits) >= 3


def test_failed_tasks_are_kept_as_long_as_others_unless_said() -> None:
    assert Limits.of(Settings(retention=5.0)).failed_days == 5.0
    assert Limits.of(Settings(retention=5.0, retention_failed=0.0)).failed_days == 0.0


@pytest.mark.parametrize("name", ["retention_failed", "max_failed_tasks", "max_store_bytes", "retention_audit"])
def test_limits_cannot_be_negative(name: str) -> None:
    with pytest.raises(Exception, match="cannot be negative"):
        Settings(**{name: -1})
