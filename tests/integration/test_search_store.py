"""Searches in a store with tasks: every way of finding them gives the same, on both databases; the text index too."""

import asyncio
import contextlib
import random
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, event, func, insert, select, update

from meadow.queries import TaskListQuery
from meadow.testing import eventually
from meadow_api.search import indexing, text_index
from meadow_api.search.conditions import Scope, condition
from meadow_api.search.index_writer import IndexWriter
from meadow_api.search.indexing import Indexing
from meadow_api.search.language import parse
from meadow_api.search.postgres_trigrams import make_index
from meadow_api.search.suggest import suggest
from meadow_api.search.text_index import TextIndex
from meadow_api.store import schema, task_search, text_marks
from meadow_api.store.database import Database
from meadow_api.store.schema import NO_NUMBER, NO_TIME, tasks
from meadow_api.store.task_reads import TaskPage, find_page
from meadow_api.store.task_search import distinct

NOW = 1_795_400_000.0
CLUSTER = "default"


def row(number: int, **more: Any) -> dict[str, Any]:
    values: dict[str, Any] = dict.fromkeys(tasks.c.keys())
    values |= {
        "id": number,
        "cluster": 1,
        "uuid": f"task-{number:04d}",
        "name": "proj.add",
        "worker": "celery@w1",
        "queue": "celery",
        "state": "SUCCESS",
        "timestamp": NOW - 1000 + number,
        "received": NOW - 1001 + number,
        "started": NOW - 1000.5 + number,
        "runtime": 0.5,
        "args": f"({number},)",
        "kwargs": "{}",
    }
    return values | more


TASKS = [
    row(1, kwargs="{'user_id': 42, 'mail': 'Anna@example.com'}", result="'done 100%'"),
    row(2, kwargs="{'user_id': 421, 'note': \"it's {'user_id': 42}\"}", queue="high", runtime=7.25, sent=NOW - 1060),
    row(
        3, name="proj.sub", state="FAILURE", exception="KeyError('colour')", traceback="Traceback …\nKeyError: 'colour'"
    ),
    row(4, name="proj.sub", state="FAILURE", worker="celery@w2", runtime=NO_NUMBER, args="('Straße', 'ünïcode')"),
    row(5, name="other", state="STARTED", worker="celery@w2", lost_since=NOW, runtime=NO_NUMBER),
    row(6, name="other", state="RETRY", retries=2, retried=NOW, root_id="task-0001", parent_id="task-0002"),
    row(7, name="", worker="", queue=None, state="PENDING", received=NO_TIME, started=NO_TIME, runtime=NO_NUMBER),
    row(8, state="RECEIVED", started=NO_TIME, runtime=NO_NUMBER, eta="2026-11-23T04:00:00+01:00"),
]

FOUND: list[tuple[str, list[int]]] = [
    ("", [1, 2, 3, 4, 5, 6, 7, 8]),
    ("state:failure", [3, 4]),
    ("state:RE*", [6, 8]),
    ("-state:SUCCESS -state:FAILURE", [5, 6, 7, 8]),
    ("name:proj.*", [1, 2, 3, 4, 8]),
    ("name:PROJ.s", [3, 4]),
    ("name:=proj", []),
    ("-name:proj.*", [5, 6, 7]),
    ("worker:celery@w2", [4, 5]),
    ("queue:high", [2]),
    ("queue:*", [1, 2, 3, 4, 5, 6, 8]),
    ("kwargs.user_id:42", [1]),
    ("kwargs.user_id:42*", [1, 2]),
    ("kwargs:mail=anna@example.com", [1]),
    ("kwargs.mail:*@example.com", [1]),
    ("kwargs:user_id", [1, 2]),
    ("colour", [3]),
    ("-colour", [1, 2, 4, 5, 6, 7, 8]),
    ("exception:key*colour", [3]),
    ("exception:colour*key", []),
    ("traceback:*", [3]),
    ("args:straße", [4]),
    ("args:ÜNÏCODE", [4]),
    ("100%", [1]),
    ("t_sk", []),
    ("task-0003", [3]),
    ("uuid:task-000*", [1, 2, 3, 4, 5, 6, 7, 8]),
    ("uuid:=task-0003", [3]),
    ("root:task-0001", [1, 6]),
    ("parent:task-0002", [6]),
    ("runtime:>5", [2]),
    ("runtime:0.5", [1, 3, 6]),
    ("wait:>1m", [2]),
    ("wait:>2m", []),
    ("wait:>50s", [2]),
    ("retries:2", [6]),
    ("retries:0", [1, 2, 3, 4, 5, 7, 8]),
    ("is:retried", [6]),
    ("is:lost", [5]),
    ("-started:*", [7, 8]),
    ("finished:*", [1, 2, 3, 4]),
    ("received:>-998s", [4, 5, 6, 8]),
    ("received:<-998s", [1, 2]),
    ("received:-999s..-997s", [2, 3, 4]),
    ("received:2026-11-23", [1, 2, 3, 4, 5, 6, 8]),
    ("started:2026-11-22", []),
    ("eta:2026-11-23T03:00", [8]),
    ("eta:>+1d", []),
    ("(name:other OR colour) -is:lost", [3, 6]),
    ("state:SUCCESS runtime:<1 OR state:FAILURE worker:w2", [1, 4]),
]


@asynccontextmanager
async def opened(where: Path | str, rows: list[dict[str, Any]]) -> AsyncIterator[Database]:
    database = Database(where)
    await database.open()
    try:
        await database.write(lambda c: c.execute(insert(schema.clusters).values(id=1, name=CLUSTER)))
        if rows:
            await database.write(lambda c: c.execute(insert(tasks), rows))
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def indexed(database: Database, directory: Path) -> AsyncIterator[TextIndex]:
    """The store with a text index, as the service has it."""
    writer = IndexWriter(directory / "search.db")
    index = TextIndex(directory / "search.db", lambda: writer.mark)
    work = Indexing(database, directory / "store.db", writer)
    database.reading_options["text_index"] = index
    running = asyncio.create_task(work.run())
    try:
        await eventually(lambda: up_to_date(database, index))
        yield index
    finally:
        while not running.done():
            running.cancel()
            await asyncio.wait([running], timeout=0.5)
        await work.close()
        database.reading_options.clear()
        index.close()


async def up_to_date(database: Database, index: TextIndex) -> bool:
    with index.snapshot(1.0) as snapshot:
        if snapshot is None:
            return False
    newest, mark = await database.read(
        lambda c: (
            c.execute(select(func.max(tasks.c.id))).scalar() or 0,
            c.exec_driver_sql("SELECT coalesce(max(seq), 0) FROM text_marks").scalar() or 0,
        )
    )
    return snapshot.state.position >= newest and snapshot.state.marks >= mark


async def page(database: Database, seconds: float = 60.0, **query: Any) -> TaskPage:
    return await database.read(lambda c: find_page(c, TaskListQuery(cluster=CLUSTER, **query), lambda: NOW, seconds))


async def numbers(database: Database, **query: Any) -> list[int]:
    found = await page(database, **query)
    assert found.error is None
    return sorted(int(task["uuid"].removeprefix("task-")) for task in found.tasks)


@pytest.mark.parametrize("sort", ["-received", "name", "-runtime"])
async def test_what_searches_find_in_sqlite(tmp_path: Path, sort: str) -> None:
    async with opened(tmp_path / "store.db", TASKS) as database:
        plain = {search: await numbers(database, search=search, sort=sort) for search, _ in FOUND}
        async with indexed(database, tmp_path):
            helped = {search: await numbers(database, search=search, sort=sort) for search, _ in FOUND}
    assert plain == dict(FOUND)
    assert helped == dict(FOUND)


async def test_what_searches_find_in_postgresql(postgres: str) -> None:
    # A pair is looked for by a regular expression there, which does not see that it stands within a text.
    expected = dict(FOUND) | {"kwargs.user_id:42": [1, 2]}
    async with opened(postgres, TASKS) as database:
        found = {search: await numbers(database, search=search) for search, _ in FOUND}
        sorted_ = {search: await numbers(database, search=search, sort="-runtime") for search, _ in FOUND}
    assert found == expected
    assert sorted_ == expected


def many(count: int) -> Iterator[dict[str, Any]]:
    chance = random.Random(7)
    for number in range(1, count + 1):
        yield row(
            number,
            name=chance.choice(
                ["proj.add", "proj.sub", "other", "rare"] if number % 50 == 0 else ["proj.add", "proj.sub"]
            ),
            state=chance.choice(["SUCCESS", "SUCCESS", "FAILURE"]),
            worker=f"celery@w{chance.randrange(4)}",
            queue=chance.choice(["celery", "high"]),
            received=NOW - chance.randrange(500),
            runtime=chance.choice([NO_NUMBER, 0.5, 1.5, 7.0]),
            args=f"('word-{number % 7}', 'id-{number:05d}')",
        )


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"state": "FAILURE"},
        {"search": "name:proj.* state:FAILURE"},
        {"search": "word-3"},
        {"search": "id-00777"},
        {"search": "runtime:>1 queue:high"},
        {"search": "word-3 OR name:rare", "sort": "name"},
        {"search": "name:rare", "sort": "-runtime"},
        {"state": "FAILURE", "sort": "runtime"},
        {"queue": "high", "sort": "-worker"},
        {"search": "received:-300s..-100s", "sort": "started"},
    ],
    ids=str,
)
async def test_pages_follow_each_other_without_a_gap_and_lead_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, query: dict[str, str]
) -> None:
    monkeypatch.setattr(task_search, "FEW", 30)
    monkeypatch.setattr(task_search, "FIRST_STRETCH", 50)
    async with opened(tmp_path / "store.db", list(many(1500))) as database:
        whole = [task["uuid"] for task in (await page(database, limit=500, **query)).tasks][:220]
        pages = [await page(database, limit=70, **query)]
        while pages[-1].next is not None and len(pages) < 4:
            pages.append(await page(database, limit=70, cursor=pages[-1].next, **query))
        assert [task["uuid"] for found in pages for task in found.tasks][:220] == whole
        back = pages[-1]
        for former in reversed(pages[:-1]):
            assert back.previous is not None
            back = await page(database, limit=70, cursor=back.previous, **query)
            assert back.tasks == former.tasks
        assert len(whole) == 220 or pages[-1].next is None


async def test_time_that_is_up_gives_a_partial_page_that_can_be_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_search, "FIRST_STRETCH", 100)
    monkeypatch.setattr(task_search, "LONGEST_STRETCH", 100)
    found: list[str] = []
    async with opened(tmp_path / "store.db", list(many(1000))) as database:
        one = await page(database, seconds=0.0, search="id-00500")
        assert one.partial
        while one.next is not None:
            found += [task["uuid"] for task in one.tasks]
            one = await page(database, seconds=0.0, search="id-00500", cursor=one.next)
        assert not one.partial
    assert found + [task["uuid"] for task in one.tasks] == ["task-0500"]


async def test_the_index_follows_whatever_happens_to_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random changes, and after each of them searches by the index find what searches without it find."""
    monkeypatch.setattr(indexing, "SETTLED", 0.0)
    monkeypatch.setattr(indexing, "TICK", 0.01)
    monkeypatch.setattr(text_index, "RANGE", 50)
    chance = random.Random(3)
    words = [f"word-{number}" for number in range(7)]
    async with opened(tmp_path / "store.db", list(many(120))) as database, indexed(database, tmp_path) as index:
        for change in range(40):
            await database.write(lambda c: _change(c, chance))
            if change % 8 == 0:
                await eventually(lambda: up_to_date(database, index))
            word = chance.choice(words)
            with_index = await numbers(database, search=word, limit=500)
            database.reading_options.pop("text_index")
            assert await numbers(database, search=word, limit=500) == with_index
            database.reading_options["text_index"] = index


def _change(connection: Any, chance: random.Random) -> None:
    number = chance.randrange(1, 200)
    word = f"'word-{chance.randrange(7)}'"
    match chance.randrange(4):
        case 0:
            connection.execute(update(tasks).where(tasks.c.id == number).values(result=word))
            text_marks.mark(connection, [number])
        case 1:
            connection.execute(update(tasks).where(tasks.c.id == number).values(args=word, state="FAILURE"))
            text_marks.mark(connection, [number])
        case 2:
            connection.execute(delete(tasks).where(tasks.c.id > number, tasks.c.id < number + 20))
        case _:
            newest = connection.execute(select(func.max(tasks.c.id))).scalar() or 0
            added = [row(newest + n + 1, uuid=f"task-{chance.randrange(10**9)}", args=word) for n in range(5)]
            connection.execute(insert(tasks), added)


@pytest.mark.parametrize("damage", ["removed", "overwritten", "of another store"])
async def test_a_lost_or_damaged_index_is_built_again(tmp_path: Path, damage: str) -> None:
    async with opened(tmp_path / "store.db", TASKS) as database:
        async with indexed(database, tmp_path):
            assert await numbers(database, search="colour") == [3]
        file = tmp_path / "search.db"
        if damage == "removed":
            file.unlink()
        elif damage == "overwritten":
            file.write_bytes(b"no database" * 1000)
        else:
            with sqlite3.connect(file) as raw:
                raw.execute("UPDATE state SET value = 'another' WHERE key = 'identity'")
            raw.close()
        async with indexed(database, tmp_path):
            assert await numbers(database, search="colour") == [3]


@pytest.mark.parametrize("damaged", [("-wal",), ("", "-wal")], ids=str)
async def test_an_index_that_is_damaged_while_it_is_in_use_misses_nothing_and_is_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: tuple[str, ...]
) -> None:
    """No task comes meanwhile, so that only who searches can notice."""
    monkeypatch.setattr(indexing, "TICK", 0.01)
    monkeypatch.setattr(indexing, "PAUSE", 0.01)
    async with opened(tmp_path / "store.db", list(many(300))) as database, indexed(database, tmp_path):
        assert await numbers(database, search="id-00007") == [7]
        files = [tmp_path / f"search.db{suffix}" for suffix in damaged]
        for file in files:
            with file.open("r+b") as opened_file:
                opened_file.write(b"no index" * (file.stat().st_size // 8))
        # The thread that searched has it all in its cache. While it is busy another one answers.
        free = threading.Event()
        busy = asyncio.create_task(database.read(lambda _: free.wait(60.0)))

        async def built_again() -> bool:
            wanted = range(1, 300, 37)
            found = await asyncio.gather(*(numbers(database, search=f"id-{number:05d}") for number in wanted))
            assert found == [[number] for number in wanted]
            return await sound(tmp_path / "search.db")

        await eventually(built_again)
        free.set()
        assert await busy


async def sound(file: Path) -> bool:
    """Whether SQLite finds nothing wrong with the file, and all of `many(300)` in it."""

    def check() -> bool:
        try:
            with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as raw:
                checked = raw.execute("PRAGMA integrity_check").fetchone()
                position = raw.execute("SELECT value FROM state WHERE key = 'position'").fetchone()
        except sqlite3.Error:
            return False
        return (checked, position) == (("ok",), ("300",))

    return await asyncio.to_thread(check)


async def test_ranges_whose_tasks_are_gone_leave_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_index, "RANGE", 400)
    monkeypatch.setattr(indexing, "TICK", 0.01)
    monkeypatch.setattr(indexing, "HOUSEKEEPING", 0.0)
    async with opened(tmp_path / "store.db", list(many(1000))) as database, indexed(database, tmp_path) as index:
        await database.write(lambda c: c.execute(delete(tasks).where(tasks.c.id < 700)))

        def ranges() -> list[int]:
            with index.snapshot(1.0) as snapshot:
                assert snapshot is not None
                return list(snapshot.numbers)

        await eventually(lambda: ranges() == [1, 2])
        assert await numbers(database, search="id-00750") == [750]
        assert await numbers(database, search="id-00300") == []


@pytest.mark.parametrize(
    ("query", "suggested", "start"),
    [
        ("", "name:", 0),
        ("sta", "state:", 0),
        ("state:f", "state:FAILURE", 0),
        ("-state:f", "state:FAILURE", 1),
        ("(name:sub OR worker:w2", "worker:celery@w2", 13),
        ("is:", "is:lost", 0),
        ("kwargs.us", "kwargs.user_id:", 0),
        ("received:", "received:>-1h", 0),
        ("sub", "name:proj.sub", 0),
        ("colour A", "AND", 7),
    ],
)
async def test_what_is_suggested(tmp_path: Path, query: str, suggested: str, start: int) -> None:
    async with opened(tmp_path / "store.db", TASKS) as database:
        found = await database.read(lambda c: suggest(c, CLUSTER, query, len(query)))
    assert suggested in [suggestion.text for suggestion in found.suggestions]
    assert (found.start, found.end) == (start, len(query))


async def test_postgresql_finds_texts_by_trigrams(postgres: str) -> None:
    async with opened(postgres, list(many(2000))) as database:
        made = await asyncio.to_thread(make_index, postgres, [])
        if not made:
            pytest.skip("this PostgreSQL has no pg_trgm")
        assert await asyncio.to_thread(make_index, postgres, [])
        await database.write(lambda c: c.exec_driver_sql("ANALYZE tasks"))
        assert await numbers(database, search="id-00777") == [777]
        search = parse("args:id-00777")
        assert search is not None

        def plan(connection: Any) -> str:
            scope = Scope(NOW, "postgresql", lambda name: distinct(connection, 1, tasks.c[name]))
            statement = select(tasks.c.id).where(tasks.c.cluster == 1, condition(search, scope))
            compiled = statement.compile(connection, compile_kwargs={"literal_binds": True})
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            return "\n".join(connection.exec_driver_sql(f"EXPLAIN {compiled}").scalars())

        assert "tasks_text" in await database.read(plan)


PAGES: list[dict[str, str]] = [
    {},
    {"sort": "runtime"},
    {"sort": "-started"},
    {"sort": "name"},
    {"sort": "-state"},
    {"sort": "-worker"},
    {"sort": "-timestamp"},
    {"state": "FAILURE"},
    {"name": "proj.add"},
    {"worker": "celery@w1"},
    {"state": "FAILURE", "name": "proj.add"},
    {"state": "FAILURE", "worker": "celery@w1"},
    {"search": "received:>-1h"},
    {"search": "state:FAILURE received:>-1h"},
    {"search": "name:proj.* -state:SUCCESS"},
]


@pytest.mark.parametrize("query", PAGES, ids=str)
async def test_no_usual_page_reads_or_sorts_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, query: dict[str, str]
) -> None:
    """Each of its statements is answered by an index in order: SQLite neither scans the table nor sorts."""
    async with opened(tmp_path / "store.db", list(many(300))) as database:

        def plans(connection: Any) -> list[str]:
            asked: list[tuple[str, Any]] = []
            event.listen(
                connection, "before_cursor_execute", lambda _, __, sql, values, *___: asked.append((sql, values))
            )
            find_page(connection, TaskListQuery(cluster=CLUSTER, limit=50, **query), lambda: NOW)
            return [
                line[-1]
                for sql, values in list(asked)
                if "FROM tasks" in sql and "RECURSIVE" not in sql
                for line in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values).all()
            ]

        found = await database.read(plans)
    assert found
    for line in found:
        assert not line.startswith("SCAN tasks"), found
        assert "TEMP B-TREE" not in line, found
