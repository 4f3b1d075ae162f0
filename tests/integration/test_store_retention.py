"""What is old or too much goes, the failed by rules of their own, on both databases."""

import asyncio
import random
import string
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.dialects import sqlite

from meadow.settings import Settings
from meadow_api.housekeeping import Housekeeping
from meadow_api.store import retention, schema, weight
from meadow_api.store.database import Database
from meadow_api.store.retention import Limits, Surplus
from meadow_api.store.weight import Kind
from tests.integration.store_rows import task_row

NOW = 1_000_000_000.0
DAY = 86400.0

LETTERS = "".join(random.Random(1).choices(string.ascii_letters, k=9000))  # PostgreSQL would compress a repeated one


@asynccontextmanager
async def opened(place: Path | str) -> AsyncIterator[Database]:
    database = Database(place)
    try:
        await database.open()
        yield database
    finally:
        await database.close()


async def fill(database: Database, number: int, *, texts: int = 10, failures: int = 10) -> None:
    """One task a day, the newest one a day old; every third failed. They carry texts of these lengths."""

    def work(connection: Connection) -> None:
        connection.execute(insert(schema.clusters).values(id=1, name="default", tasks=number))
        rows = [
            task_row(n, at=NOW - n * DAY, args=LETTERS[:texts], state="SUCCESS")
            if n % 3
            else task_row(n, at=NOW - n * DAY, args=LETTERS[:failures], state="FAILURE")
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


async def test_what_went_by_age_is_not_counted_as_too_much(store_place: Path | str) -> None:
    """Ten of twenty are too old; the ten that are left are as many as there may be."""
    async with opened(store_place) as database:
        await fill(database, 20)
        await Housekeeping(database, Limits(days=10.5, failed_days=10.5, most=10)).sweep(NOW)
        assert await left(database) == list(range(1, 11))


async def test_what_another_process_has_deleted_meanwhile_is_not_deleted_again(store_place: Path | str) -> None:
    """One lost its turn in the midst of a sweep and does not know yet, another has taken over."""
    async with opened(store_place) as database:
        await fill(database, 20)
        (surplus,) = await database.read(lambda c: retention.by_number(c, Limits(most=12)))
        await Housekeeping(database, Limits(most=14)).sweep(NOW)

        def delete_more(connection: Connection) -> int:
            found = retention.candidates(connection, surplus, None, 5)
            return retention.forget(connection, surplus, [id for id, _ in found])

        assert await database.write(delete_more) == 2
        assert await database.write(delete_more) == 0
        assert await left(database) == list(range(1, 13))


async def test_failed_tasks_and_others_have_sizes_of_their_own(store_place: Path | str) -> None:
    async with opened(store_place) as database:
        await fill(database, 1200, texts=3000, failures=9000)
        housekeeping = Housekeeping(database, Limits(most_failed_bytes=1_000_000, most_other_bytes=2_000_000))
        await housekeeping.sweep(NOW)
        kept = await left(database)
        failed, others = [n for n in kept if n % 3 == 0], [n for n in kept if n % 3]
        assert failed == list(range(3, failed[-1] + 1, 3)), "not the oldest failed ones went"
        assert others == [n for n in range(1, others[-1] + 1) if n % 3], "not the oldest others went"
        assert 0.75 < len(failed) * 9000 / 1_000_000 < 1.0
        assert 0.6 < len(others) * 3000 / 2_000_000 < 1.0
        assert housekeeping.deleted == {"size": 1200 - len(kept)}
        assert await housekeeping.sweep(NOW) == 0, "what is small enough is left alone"


async def test_one_of_the_two_sizes_may_be_limited_alone(store_place: Path | str) -> None:
    async with opened(store_place) as database:
        await fill(database, 300, texts=3000, failures=3000)
        await Housekeeping(database, Limits(most_failed_bytes=100_000)).sweep(NOW)
        kept = await left(database)
        assert [n for n in kept if n % 3] == [n for n in range(1, 301) if n % 3]
        assert 20 < len([n for n in kept if n % 3 == 0]) < 34


async def test_old_tasks_that_are_larger_take_no_new_ones_with_them(store_place: Path | str) -> None:
    """Reckoned by the average task, half of all would have gone, most of them small."""
    async with opened(store_place) as database:
        await fill(database, 1000, texts=100)
        larger = update(schema.tasks).where(schema.tasks.c.timestamp < NOW - 800.5 * DAY).values(kwargs=LETTERS)
        await database.write(lambda c: c.execute(larger).rowcount)
        everything = await database.read(lambda c: 666 * weight.average(c, Kind(1, False), 666))
        await Housekeeping(database, Limits(most_other_bytes=int(everything) // 2)).sweep(NOW)
        kept = [n for n in await left(database) if n % 3]
        assert 800 < kept[-1] < 920


async def test_what_tasks_are_reckoned_to_take_is_about_what_they_take(store_place: Path | str) -> None:
    async with opened(store_place) as database:
        await fill(database, 4000, texts=600, failures=5000)

        def reckon(connection: Connection) -> float:
            kinds = Kind(1, True), Kind(1, False)
            numbers = [weight.count(connection, kind) for kind in kinds]
            return sum(n * weight.average(connection, kind, n) for n, kind in zip(numbers, kinds, strict=True))

        reckoned, really = await database.read(reckon), await database.read(pages_of_tasks)
    assert 0.85 < reckoned / really < 1.15


def pages_of_tasks(connection: Connection) -> int:
    """The bytes of the pages that hold tasks and their indexes."""
    if connection.dialect.name == "sqlite":
        pages = "SELECT sum(pgsize) FROM dbstat WHERE name IN (SELECT name FROM sqlite_master WHERE tbl_name = 'tasks')"
        return int(connection.exec_driver_sql(pages).scalar_one())
    return int(connection.exec_driver_sql("SELECT pg_total_relation_size('tasks')").scalar_one())


async def test_the_oldest_go_until_the_store_is_small_enough(store_place: Path | str) -> None:
    async with opened(store_place) as database:
        await fill(database, 2000, texts=1000)
        before = await database.read(weight.store_size)
        assert before > 2_000_000
        await Housekeeping(database, Limits(most_bytes=1_500_000)).sweep(NOW)
        kept = await left(database)
        assert kept == list(range(1, len(kept) + 1)), "not the oldest went"
        assert 500 < len(kept) < 1900
        assert await database.read(weight.store_size) <= 1_500_000


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


async def test_tasks_are_deleted_by_the_number_of_their_row(tmp_path: Path) -> None:
    """SQLite would rather read all old tasks of a cluster for each step: half a second where there are millions."""
    async with opened(tmp_path / "store.db") as database:
        for kind in (Kind(1, False), Kind(1, None)):
            rows = Surplus(kind, before=NOW).conditions_on_rows()
            statement = delete(schema.tasks).where(schema.tasks.c.id.in_([1, 2, 3]), *rows)
            text = str(statement.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))
            plan = await database.read(lambda c, t=text: c.exec_driver_sql(f"EXPLAIN QUERY PLAN {t}").all())  # type: ignore[misc]
            assert "USING INTEGER PRIMARY KEY" in plan[0].detail


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


@pytest.mark.parametrize(
    "name",
    [
        "retention_failed",
        "retention_audit",
        "max_failed_tasks",
        "max_store_bytes",
        "max_failed_bytes",
        "max_other_bytes",
    ],
)
def test_limits_cannot_be_negative(name: str) -> None:
    with pytest.raises(Exception, match="cannot be negative"):
        Settings(**{name: -1})
