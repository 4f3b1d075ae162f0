"""A store of each release before becomes one of this release, with its data, on both databases."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Connection, Engine, MetaData, Table, create_engine, insert, inspect, select, text

from meadow import queries
from meadow.bus import Bus
from meadow.errors import StartRefused
from meadow.events import TaskSucceeded
from meadow_api.lost import Watched
from meadow_api.presence import WorkerRecord
from meadow_api.store import revisions, schema
from meadow_api.store.database import Database
from meadow_api.store.lost_writes import Marks, mark_lost
from meadow_api.store.migrations.upgrade import missing, scripts, upgrade
from tests.integration.api_service import MakeContext, ask, publish, running_api, stored

BEFORE_REVISIONS = "0001"


@contextmanager
def engine_of(where: Path | str) -> Iterator[Engine]:
    url = f"sqlite:///{where}" if isinstance(where, Path) else where.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


def make_old(where: Path | str, revision: str) -> None:
    """The tables of an old release, with two tasks of one cluster."""
    with engine_of(where) as engine:
        for script in scripts().iterate_revisions(revision, "base"):
            assert script.module  # each can be loaded
        with engine.begin() as connection:
            run(connection, revision)
            connection.execute(text("INSERT INTO clusters (id, name, tasks) VALUES (1, 'default', 2)"))
            if revision == BEFORE_REVISIONS:
                connection.execute(text("INSERT INTO meta (key, value) VALUES ('schema', '1')"))
            else:
                revisions.mark(connection, revision)
            for number, state in ((1, "STARTED"), (2, "FAILURE")):
                connection.execute(
                    text(
                        "INSERT INTO tasks (cluster, state, timestamp, received, started, runtime, name, worker, uuid, "
                        "args) VALUES (1, :state, :at, :at, :at, -1e300, 'proj.add', 'w1@h', :uuid, '(1,)')"
                    ),
                    {"state": state, "at": 1000.0 + number, "uuid": f"task-{number}"},
                )
            connection.execute(text("INSERT INTO positions VALUES ('MEADOW_EVENTS', 'x', 7)"))


def run(connection: Connection, revision: str) -> None:
    from alembic.operations import Operations

    op = Operations(MigrationContext.configure(connection))
    for script in list(scripts().iterate_revisions(revision, "base"))[::-1]:
        list(script.module.upgrade(op))


def differences(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "include_object": included})
        return list(compare_metadata(context, schema.metadata))


def included(_: Any, name: str | None, kind: str, reflected: bool, known: Any) -> bool:
    """The index for searching text belongs to the search, which makes and removes it."""
    return not (kind == "table" and reflected and str(name).startswith("text_"))


async def opened(where: Path | str) -> None:
    database = Database(where)
    try:
        await database.open()
    finally:
        await database.close()


async def test_a_new_store_has_exactly_the_tables_of_the_schema(store_place: Path | str) -> None:
    await opened(store_place)
    with engine_of(store_place) as engine:
        assert await asyncio.to_thread(differences, engine) == []


@pytest.mark.parametrize("revision", [script.revision for script in missing("base")])
async def test_an_older_store_gets_exactly_the_tables_of_the_schema_and_keeps_its_tasks(
    store_place: Path | str, revision: str
) -> None:
    await asyncio.to_thread(make_old, store_place, revision)
    await opened(store_place)
    with engine_of(store_place) as engine:
        assert differences(engine) == []
        with engine.connect() as connection:
            rows = connection.execute(text("SELECT uuid, state, args FROM tasks ORDER BY uuid")).all()
            assert [tuple(row) for row in rows] == [("task-1", "STARTED", "(1,)"), ("task-2", "FAILURE", "(1,)")]
            assert connection.execute(text("SELECT sequence FROM positions")).scalar() == 7
            assert revisions.revision(connection, "x") == revisions.HEAD


@pytest.mark.parametrize("revision", [script.revision for script in missing("base")])
async def test_every_value_of_an_older_store_is_there_afterwards(store_place: Path | str, revision: str) -> None:
    await asyncio.to_thread(make_old, store_place, revision)
    with engine_of(store_place) as engine:
        before = await asyncio.to_thread(one_row_more_in_each_table, engine)
    await opened(store_place)
    with engine_of(store_place) as engine, engine.connect() as connection:
        for table, rows in before.items():
            assert read_all(connection, table) == rows, table.name
    assert len(before) >= 15, "tables that a release has are missing here"
    assert {table.name: len(rows) for table, rows in before.items()}["tasks"] == 3


@pytest.mark.parametrize("revision", [script.revision for script in missing("base")])
async def test_the_open_tasks_of_an_older_store_are_found_by_their_index(
    store_place: Path | str, revision: str
) -> None:
    """SQLite is told to use the index, and refuses where its condition is not the question's."""
    await asyncio.to_thread(make_old, store_place, revision)
    with engine_of(store_place) as engine, engine.begin() as connection:
        connection.execute(text("UPDATE tasks SET pid = 7"))
    database = Database(store_place)
    await database.open()
    goodbye = {"w1@h": WorkerRecord("w1@h", last_seen=1500.0, offline_at=1500.0)}
    try:
        _, changed = await database.write(lambda c: mark_lost(c, 1, Marks(), goodbye, {}, 2000.0, Watched()))
    finally:
        await database.close()
    assert changed == ["task-1"]


def one_row_more_in_each_table(engine: Engine) -> dict[Table, list[Any]]:
    """Put a row with a value in every column into each table; gives all that the tables hold then."""
    old = MetaData()
    with engine.begin() as connection:
        old.reflect(connection)
        tables = [table for table in old.sorted_tables if table.name not in ("meta", "alembic_version")]
        for table in tables:
            connection.execute(insert(table).values({column.name: sample(column) for column in table.c}))
        return {table: read_all(connection, table) for table in tables}


def sample(column: "Column[Any]") -> Any:
    """Some value of the column's type; a row's number and its cluster are those of nobody else."""
    values = {int: 99, float: 1234.5, str: f"some {column.name}", bytes: b"\x00\x01", dict: [1.5]}
    if column.foreign_keys:
        return 1
    return values.get(column.type.python_type, 99)


def read_all(connection: Connection, table: Table) -> list[Any]:
    rows = connection.execute(select(table).order_by(*table.primary_key.columns))
    return [tuple(bytes(value) if isinstance(value, memoryview) else value for value in row) for row in rows]


async def test_what_an_older_release_knew_of_a_task_is_merged_with_what_comes_now(
    bus: Bus, make_context: MakeContext, store_place: Path | str
) -> None:
    """It had started when the older Meadow was stopped, and succeeds under this one."""
    await asyncio.to_thread(make_old, store_place, BEFORE_REVISIONS)
    place = {"data_dir": str(store_place.parent)} if isinstance(store_place, Path) else {"store": store_place}
    context = make_context(retention=0.0)
    context = replace(context, settings=replace(context.settings, **place))
    ended = TaskSucceeded(uuid="task-1", hostname="w1@h", timestamp=1005.0, seen=1005.0, clock=9, pid=7, runtime=4.0)
    async with running_api(context) as api:
        await stored(api, await publish(bus, ended))
        task = (await ask(bus, "task", queries.TaskAnswer, uuid="task-1")).task
        overview = await ask(bus, "overview", queries.Overview, seconds=3600.0)
    assert task is not None
    assert (task["state"], task["name"], task["args"], task["runtime"]) == ("SUCCESS", "proj.add", "(1,)", 4.0)
    assert overview.tasks_stored == 2


async def test_a_store_from_before_there_were_revisions_is_adopted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    where = tmp_path / "store.db"
    await asyncio.to_thread(make_old, where, BEFORE_REVISIONS)
    with engine_of(where) as engine:
        assert "alembic_version" not in inspect(engine).get_table_names()
    with caplog.at_level(logging.INFO):
        await opened(where)
    assert f"is brought to schema {revisions.HEAD}" in caplog.text
    with engine_of(where) as engine, engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == revisions.HEAD


async def test_a_migration_that_was_interrupted_after_any_step_is_taken_up_again(store_place: Path | str) -> None:
    """Stop after the first step, then after the second …, as a kill would, and begin again."""
    await asyncio.to_thread(make_old, store_place, BEFORE_REVISIONS)
    with engine_of(store_place) as engine:
        for steps in range(1, 10):
            if await asyncio.to_thread(stop_after, engine, steps):
                break
    await opened(store_place)
    with engine_of(store_place) as engine:
        assert differences(engine) == []


def stop_after(engine: Engine, steps: int) -> bool:
    """Do the first steps of the first revision that is missing, each in its transaction; tells whether that was all."""
    from alembic.operations import Operations

    with engine.connect() as connection:
        work = missing(BEFORE_REVISIONS)[0].module.upgrade(Operations(MigrationContext.configure(connection)))
        for _ in range(steps):
            with connection.begin():
                if next(work, None) is None:
                    return True
    return False


@pytest.mark.parametrize("newer", ["9999", "a-branch-of-somebody"])
async def test_a_store_of_a_newer_meadow_is_refused_and_left_as_it_is(store_place: Path | str, newer: str) -> None:
    await opened(store_place)
    with engine_of(store_place) as engine, engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :newer"), {"newer": newer})
    with pytest.raises(StartRefused, match="newer Meadow") as refused:
        await opened(store_place)
    assert "--store" in str(refused.value)
    with engine_of(store_place) as engine, engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == newer


def test_the_last_revision_is_the_schemas_version() -> None:
    assert scripts().get_current_head() == revisions.HEAD
    assert int(revisions.HEAD) == schema.SCHEMA_VERSION


async def test_a_store_that_is_only_read_is_not_migrated(tmp_path: Path) -> None:
    where = tmp_path / "store.db"
    await asyncio.to_thread(make_old, where, BEFORE_REVISIONS)
    database = Database(where)
    with pytest.raises(StartRefused, match="meadow store migrate"):
        await database.open(create=False)
    await database.close()


def test_revisions_that_are_there_are_not_run_again(store_place: Path | str) -> None:
    make_old(store_place, BEFORE_REVISIONS)
    with engine_of(store_place) as engine:
        upgrade(engine, BEFORE_REVISIONS, "the store")
        upgrade(engine, revisions.HEAD, "the store")
        assert differences(engine) == []
