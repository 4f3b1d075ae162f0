"""`meadow store …`: check, prune, export, import, migrate, on both databases and beside a running Meadow."""

import asyncio
import io
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, delete, insert, select, update

from meadow import queries, subjects
from meadow.audit import AuditIntent, AuditOutcome
from meadow.bus import Bus
from meadow.codec import encode
from meadow.errors import SettingsError, StartRefused
from meadow.events import TaskFailed, TaskReceived, TaskRetried, TaskStarted
from meadow.service import Context
from meadow.settings import Settings
from meadow.testing import eventually
from meadow_api import store_commands
from meadow_api.store import schema, transfer, weight
from meadow_api.store.database import Database, place_of
from meadow_api.store.sqlite_file import PAGE_SIZE
from meadow_api.store.weight import Kind
from tests.integration.api_service import (
    CLUSTER,
    MakeContext,
    ask,
    heartbeat,
    publish,
    running_api,
    stored,
    task_events,
)
from tests.integration.store_rows import task_row
from tests.servers import operator

TABLES = (schema.tasks, schema.workers, schema.audit)


@pytest.fixture
def settings(store_place: Path | str, tmp_path: Path) -> Settings:
    """Settings of a store that is empty yet."""
    return Settings(data_dir=str(tmp_path), store=store_place if isinstance(store_place, str) else None)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Database]:
    database = Database(place_of(settings))
    try:
        await database.open()
        yield database
    finally:
        await database.close()


async def fill(settings: Settings, number: int = 10, **more: Any) -> None:
    def work(connection: Connection) -> None:
        connection.execute(insert(schema.clusters).values(id=1, name=CLUSTER, tasks=number))
        rows = [
            task_row(n, at=time.time() - n * 86400.0 + 3600.0, clock=1, pid=7, **more) for n in range(1, number + 1)
        ]
        connection.execute(insert(schema.tasks), rows)

    async with opened(settings) as database:
        await database.write(work)


class Said(list[str]):
    """What a command said."""

    def __call__(self, line: str) -> None:
        self.append(line)

    @property
    def text(self) -> str:
        return "\n".join(self)


async def content(settings: Settings) -> list[list[tuple[Any, ...]]]:
    """All rows, without the numbers that differ from store to store."""
    async with opened(settings) as database:

        def work(connection: Connection) -> list[list[tuple[Any, ...]]]:
            found = []
            for table in TABLES:
                columns = [column for column in table.c if column.name not in ("id", "cluster")]
                found.append(sorted((plain(row) for row in connection.execute(select(*columns))), key=repr))
            return found

        return await database.read(work)


def plain(row: Any) -> tuple[Any, ...]:
    """Its values; the log of attempts as data, since -1 and -1.0 are the same there."""
    return tuple(json.loads(v) if name == "attempts" and v else v for name, v in row._mapping.items())


async def test_a_sound_store_is_called_so_with_what_it_holds(settings: Settings) -> None:
    await fill(settings)
    said = Said()
    assert await store_commands.check(settings, said)
    assert "tasks of default   10 stored, as many as counted. SUCCESS 10" in said.text
    assert said[-1] == "All is well."


async def test_a_wrong_count_is_found_and_mended_by_prune(settings: Settings) -> None:
    await fill(settings)
    async with opened(settings) as database:
        await database.write(lambda c: c.execute(update(schema.clusters).values(tasks=99)).rowcount)
    said = Said()
    assert not await store_commands.check(settings, said)
    assert "FAIL  tasks of default   10 stored, but 99 counted" in said.text
    await store_commands.prune(settings, said, dry_run=False)
    assert await store_commands.check(settings, said)


async def test_a_damaged_index_is_found(tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path))
    await fill(settings)
    async with opened(settings) as database:

        def forge(connection: Connection) -> None:
            connection.exec_driver_sql("PRAGMA writable_schema=ON")
            connection.exec_driver_sql(
                "UPDATE sqlite_master SET sql = replace(sql, 'cluster, name, received', 'cluster, worker, received') "
                "WHERE name = 'tasks_name'"
            )

        await database.write(forge)
    said = Said()
    assert not await store_commands.check(settings, said)
    assert "FAIL  integrity" in said.text
    assert "tasks_name" in said.text


async def test_an_index_that_is_being_built_is_no_fault_and_one_that_was_given_up_is(postgres: str) -> None:
    """As that for texts is, beside a running Meadow, for minutes."""
    settings = Settings(store=postgres)
    await fill(settings)
    said = Said()
    with psycopg.connect(postgres) as writing, psycopg.connect(postgres, autocommit=True) as building:
        writing.execute("LOCK TABLE tasks IN ROW EXCLUSIVE MODE")  # building an index waits for whoever writes
        work = asyncio.create_task(asyncio.to_thread(building.execute, "CREATE INDEX CONCURRENTLY slow ON tasks (pid)"))
        await eventually(lambda: "slow" in progress_of_indexes(postgres))
        assert await store_commands.check(settings, said)
        assert "note  integrity          Being built: slow." in said.text
        building.cancel()
        with pytest.raises(psycopg.errors.QueryCanceled):
            await work
    assert not await store_commands.check(settings, said)
    assert "FAIL  integrity          Invalid: slow." in said.text


def progress_of_indexes(postgres: str) -> list[str]:
    with psycopg.connect(postgres) as connection:
        rows = connection.execute("SELECT index_relid::regclass::text FROM pg_stat_progress_create_index").fetchall()
    return [name for (name,) in rows]


async def test_positions_are_compared_with_the_streams(bus: Bus, make_context: MakeContext) -> None:
    context = make_context(nats_url=bus.url)
    async with running_api(context) as api:
        await stored(api, await publish(bus, *task_events(1)))
    await publish(bus, *task_events(2))
    said = Said()
    assert await store_commands.check(context.settings, said)
    assert "MEADOW_EVENTS      read up to message 1 of 2." in said.text
    async with operator(bus) as jetstream:
        await jetstream.purge_stream(subjects.EVENTS_STREAM)
    await publish(bus, *task_events(3))
    assert not await store_commands.check(context.settings, said)
    assert "1 messages after 1 were deleted before they were read" in said.text


async def test_a_dry_run_says_how_much_would_go_and_deletes_nothing(settings: Settings) -> None:
    await fill(settings)
    said = Said()
    limited = Settings(data_dir=settings.data_dir, store=settings.store, retention=4.0)
    await store_commands.prune(limited, said, dry_run=True)
    assert said == ["6 tasks that did not fail would go by age.", "0 failed tasks would go by age."]
    await store_commands.prune(limited, said, dry_run=False)
    assert "6 tasks were deleted" in said[-1]
    assert "6 by age" in said[-1]
    assert [len(rows) for rows in await content(settings)] == [4, 0, 0]


async def test_a_dry_run_counts_what_several_rules_find_once(settings: Settings) -> None:
    """Of ten tasks, five are too old. Of the other five, the store may hold four, and three by their size."""
    await fill(settings, args="x" * 100)
    async with opened(settings) as database:
        one = await database.read(lambda c: weight.average(c, Kind(1, False), 10))
    rules = {"retention": 5.0, "max_tasks": 4, "max_other_bytes": int(3.5 * one)}
    limited = Settings(data_dir=settings.data_dir, store=settings.store, **rules)
    said = Said()
    await store_commands.prune(limited, said, dry_run=True)
    assert said == [
        "5 tasks that did not fail would go by age.",
        "0 failed tasks would go by age.",
        "1 tasks would go by number.",
        "About 1 tasks that did not fail would go by size.",
    ]
    await store_commands.prune(limited, said, dry_run=False)
    assert "7 tasks were deleted" in said[-1]
    assert said[-1].endswith(": 5 by age, 1 by number, 1 by size.")


async def test_a_dry_run_says_what_the_size_of_the_store_would_take(settings: Settings) -> None:
    await fill(settings, number=2000, args="x" * 1000)
    async with opened(settings) as database:
        used = await database.read(weight.store_size)
    for most in (used + 1, used // 2):
        said = Said()
        limited = Settings(data_dir=settings.data_dir, store=settings.store, retention=0.0, max_store_bytes=most)
        await store_commands.prune(limited, said, dry_run=True)
        assert said == ["Nothing would go."] if most > used else ["About 1,020 tasks would go by size."]


async def test_prune_is_refused_beside_a_running_meadow_but_looking_is_not(
    bus: Bus, make_context: MakeContext, store_place: Path | str, tmp_path: Path
) -> None:
    context = make_context(store=store_place if isinstance(store_place, str) else None)
    async with running_api(context) as api:
        await stored(api, await publish(bus, *task_events(1), *task_events(2)))
        said = Said()
        with pytest.raises(StartRefused, match="in use by"):
            await store_commands.prune(context.settings, said, dry_run=False)
        await store_commands.prune(context.settings, said, dry_run=True)
        assert await store_commands.check(context.settings, said)
        assert "2 stored" in said.text
        exported = io.BytesIO()
        await store_commands.export(context.settings, said, exported)
        assert exported.getvalue().count(b'"type":"task"') == 2
        await stored(api, await publish(bus, *task_events(3)))  # it goes on as if nothing had been


def retried_task(at: float) -> list[Any]:
    base = {"uuid": "again", "hostname": "w1@h", "pid": 7}
    return [
        TaskReceived(**base, timestamp=at, seen=at, clock=1, name="proj.add", args="(1,)", kwargs="{}", retries=0),
        TaskStarted(**base, timestamp=at + 1, seen=at + 1, clock=2),
        TaskRetried(**base, timestamp=at + 2, seen=at + 2, clock=3, exception="OSError('first')", traceback="T1"),
        TaskReceived(**base, timestamp=at + 3, seen=at + 3, clock=4, name="proj.add", args="(1,)", retries=1),
        TaskStarted(**base, timestamp=at + 4, seen=at + 4, clock=5),
        TaskFailed(**base, timestamp=at + 5, seen=at + 5, clock=6, exception="OSError('last')", traceback="T2"),
    ]


async def some_history(bus: Bus, context: Context) -> bytes:
    """Tasks, one with attempts, a worker and an audit record; gives what export makes of them."""
    async with running_api(context) as api:
        now = time.time()
        intent = AuditIntent(
            id="a1",
            cluster=CLUSTER,
            at=10.0,
            actor="ann",
            actor_kind="user",
            source="::1",
            command="revoke",
            target="t",
        )
        await bus.append(subjects.audit(CLUSTER), encode(intent))
        await bus.append(subjects.audit(CLUSTER), encode(AuditOutcome(id="a1", cluster=CLUSTER, at=11.0, code="ok")))
        await stored(api, await publish(bus, *task_events(1), *retried_task(now), heartbeat(at=now)))
        await eventually(lambda: api.health()["streams"][subjects.AUDIT_STREAM]["position"] >= 2)
    exported = io.BytesIO()
    await store_commands.export(context.settings, Said(), exported)
    return exported.getvalue()


async def test_what_was_exported_is_the_same_after_it_was_imported_twice(
    bus: Bus, make_context: MakeContext, settings: Settings
) -> None:
    context = make_context()
    exported = await some_history(bus, context)
    types = [json.loads(line)["type"] for line in exported.splitlines()]
    assert types == ["meadow-store", "task", "task", "audit", "worker", "meadow-store-end"]
    said = Said()
    for _ in range(2):
        await store_commands.import_(settings, said, io.BytesIO(exported))
    assert [line.partition(" in ")[0] for line in said] == [
        "6 lines were read: 4 tasks, workers and audit records are new",
        "6 lines were read: 0 tasks, workers and audit records are new",
    ]
    assert await content(settings) == await content(context.settings)
    assert await store_commands.check(settings, said)


async def test_an_import_is_merged_with_what_is_known_already(
    bus: Bus, make_context: MakeContext, settings: Settings
) -> None:
    """Each of two stores saw a part; the order in which they are brought together does not matter."""
    first, second = make_context(), make_context()
    at = time.time()
    events = [*task_events(1, at=at), *retried_task(at)]
    exports = []
    for context, seen in ((first, events[:4]), (second, events[2:])):
        async with running_api(context) as api:
            await stored(api, await publish(bus, *seen))
        exported = io.BytesIO()
        await store_commands.export(context.settings, Said(), exported)
        exports.append(exported.getvalue())
        async with operator(bus) as jetstream:
            await jetstream.purge_stream(subjects.EVENTS_STREAM)
    for exported in exports:
        await store_commands.import_(settings, Said(), io.BytesIO(exported))
    other = Settings(data_dir=str(Path(str(settings.data_dir)) / "other"))
    for exported in reversed(exports):
        await store_commands.import_(other, Said(), io.BytesIO(exported))
    whole = (await content(settings))[0]
    assert whole == (await content(other))[0]
    columns = [column.name for column in schema.tasks.c if column.name not in ("id", "cluster")]
    states = {row[columns.index("uuid")]: row[columns.index("state")] for row in whole}
    assert states == {"task-1": "SUCCESS", "again": "FAILURE"}


@pytest.mark.parametrize("before", [3, transfer.PAGE])
async def test_a_line_that_is_no_export_is_named_and_those_before_it_are_imported(
    settings: Settings, before: int
) -> None:
    await fill(settings, number=before)
    exported = io.BytesIO()
    await store_commands.export(settings, Said(), exported)
    lines = exported.getvalue().splitlines(keepends=True)
    other = Settings(data_dir=str(Path(str(settings.data_dir)) / "other"))
    with pytest.raises(StartRefused, match=f"Line {before + 1} was not written by 'meadow store export'") as refused:
        await store_commands.import_(other, Said(), io.BytesIO(b"".join([*lines[:before], b'{"type":"task"}\n'])))
    assert "The lines before it were imported." in str(refused.value)
    assert [len(rows) for rows in await content(other)] == [before - 1, 0, 0]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"root:x:0:0:root\n", "Line 1 was not written by 'meadow store export'"),
        (b'{"type":"meadow-store","version":9}\n', "newer Meadow"),
        (b'{"type":"audit","cluster":"a b","record":"r","at":1}\n', "'a b' is not the name of a cluster"),
        (b"", "the file is empty"),
    ],
)
async def test_a_file_that_is_no_export_makes_no_store(tmp_path: Path, line: bytes, fault: str) -> None:
    with pytest.raises(StartRefused, match=fault):
        await store_commands.import_(Settings(data_dir=str(tmp_path)), Said(), io.BytesIO(line))
    assert list(tmp_path.iterdir()) == []


async def test_an_export_that_was_cut_is_imported_and_said_to_be_cut(settings: Settings) -> None:
    await fill(settings)
    exported = io.BytesIO()
    await store_commands.export(settings, Said(), exported)
    other, said = Settings(data_dir=str(Path(str(settings.data_dir)) / "other")), Said()
    lines = exported.getvalue().splitlines(keepends=True)
    assert not await store_commands.import_(other, said, io.BytesIO(b"".join(lines[:6])))
    assert "6 lines were read: 5 tasks" in said[0]
    assert "The last line of an export is missing" in said[1]
    assert await store_commands.import_(other, said, io.BytesIO(b"".join(lines)))
    assert "12 lines were read: 5 tasks" in said[-1]


@pytest.mark.parametrize("target", ["-", "/dev/full"])
def test_an_export_that_finds_no_room_says_so(tmp_path: Path, target: str) -> None:
    asyncio.run(fill(Settings(data_dir=str(tmp_path))))
    with Path("/dev/full").open("wb") as full:
        words = [sys.executable, "-m", "meadow.cli", "store", "export", target, f"--data-dir={tmp_path}"]
        exported = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, check=False)
    assert exported.returncode == 1
    assert exported.stderr.decode().splitlines() == [
        "Error: The export cannot be written: No space left on device. What was written is not whole."
    ]


@pytest.mark.parametrize("command", ["prune", "migrate"])
async def test_what_needs_a_store_makes_none(tmp_path: Path, command: str) -> None:
    """A --data-dir with a slip in it is no new store."""
    settings, more = Settings(data_dir=str(tmp_path / "slip")), {"dry_run": False} if command == "prune" else {}
    with pytest.raises(StartRefused, match="There is no task store at"):
        await getattr(store_commands, command)(settings, Said(), **more)
    assert list(tmp_path.iterdir()) == []


async def test_a_damaged_file_is_named_and_left_where_it_is(tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path))
    store = tmp_path / "store.db"
    store.write_bytes(b"no database at all" * 1000)
    for command in (
        lambda: store_commands.check(settings, Said()),
        lambda: store_commands.prune(settings, Said(), dry_run=False),
        lambda: store_commands.migrate(settings, Said()),
        lambda: store_commands.export(settings, Said(), io.BytesIO()),
    ):
        with pytest.raises(StartRefused, match=r"store\.db is damaged: file is not a database\. Stop Meadow and move"):
            await command()
    assert store.read_bytes().startswith(b"no database at all")


async def test_a_table_that_cannot_be_read_fails_its_check_and_not_the_others(tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path))
    await fill(settings, number=2000)
    store = tmp_path / "store.db"
    with sqlite3.connect(store) as connection:
        pages = "SELECT pageno, name FROM dbstat WHERE name = 'tasks_state' AND pagetype = 'leaf'"
        page = connection.execute(pages).fetchone()[0]
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with store.open("r+b") as file:
        file.seek((page - 1) * PAGE_SIZE)
        file.write(b"\xff" * PAGE_SIZE)
    said = Said()
    assert not await store_commands.check(settings, said)
    assert "FAIL  integrity" in said.text
    assert "FAIL  tasks              cannot be read: database disk image is malformed" in said.text
    assert "note  workers            0 stored." in said.text


def meadow(*words: str, **more: Any) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run([sys.executable, "-m", "meadow.cli", "store", *words], capture_output=True, **more)


def test_the_command_line_exports_through_a_pipe(tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path))
    asyncio.run(fill(settings, number=3))
    exported = meadow("export", "-", f"--data-dir={tmp_path}")
    assert exported.returncode == 0, exported.stderr
    assert [json.loads(line)["type"] for line in exported.stdout.splitlines()] == [
        "meadow-store",
        *["task"] * 3,
        "meadow-store-end",
    ]
    assert b"3 tasks, workers and audit records were written" in exported.stderr


def test_a_wrong_store_is_named_without_its_password() -> None:
    unreadable = meadow("check", "--store=postgresql://root:geheim@h:x/d")
    assert unreadable.returncode == 1
    assert b"--store is not a URL that can be read" in unreadable.stderr
    assert b"geheim" not in unreadable.stderr
    with pytest.raises(SettingsError, match="must be a PostgreSQL URL") as refused:
        Settings(store="mysql://root:geheim@h/d")
    assert "geheim" not in str(refused.value)


async def test_a_store_that_is_not_there_is_not_made_by_looking(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="There is no task store at"):
        await store_commands.check(Settings(data_dir=str(tmp_path)), Said())
    assert list(tmp_path.iterdir()) == []


async def test_the_count_of_tasks_stays_right_when_rows_are_imported_into_a_cluster(settings: Settings) -> None:
    await fill(settings, number=3)
    exported = io.BytesIO()
    await store_commands.export(settings, Said(), exported)
    async with opened(settings) as database:
        await database.write(lambda c: c.execute(delete(schema.tasks).where(schema.tasks.c.uuid == "task-2")).rowcount)
        await database.write(lambda c: c.execute(update(schema.clusters).values(tasks=2)).rowcount)
    await store_commands.import_(settings, Said(), io.BytesIO(exported.getvalue()))
    assert await store_commands.check(settings, Said())


async def test_the_answers_are_the_same_from_an_imported_store(bus: Bus, make_context: MakeContext) -> None:
    context, other = make_context(), make_context()
    exported = await some_history(bus, context)
    async with operator(bus) as jetstream:
        await jetstream.purge_stream(subjects.EVENTS_STREAM)
    await store_commands.import_(other.settings, Said(), io.BytesIO(exported))
    async with running_api(other):
        found = (await ask(bus, "task", queries.TaskAnswer, uuid="again")).task
    assert found is not None
    assert (found["state"], found["exception"]) == ("FAILURE", "OSError('last')")
