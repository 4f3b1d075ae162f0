"""Pages of tasks: every row once, in every order, forwards and backwards; and the limits of questions."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from meadow.bus import StreamMessage
from meadow.codec import encode_batch
from meadow.events import AnyFact, TaskFailed, TaskReceived, TaskSent, TaskStarted, TaskSucceeded
from meadow.queries import NamesQuery, TaskListQuery, TaskRow
from meadow.settings import Settings
from meadow_api.answers import Answers
from meadow_api.errors import InvalidQuestion, QueryTooSlow
from meadow_api.intake import groups
from meadow_api.store.database import Database
from meadow_api.store.task_reads import SORTS
from meadow_api.store.writer import Position, Writer

COUNT = 61


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(tmp_path / "store.db")
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def answers(database: Database) -> Answers:
    """Answers from a store whose tasks are equal in much and lack a good deal."""
    facts: list[AnyFact] = []
    for n in range(COUNT):
        base = {"uuid": f"t{n}", "timestamp": float(n // 4), "seen": 1.0}
        if n % 7 == 0:
            facts.append(TaskSent(hostname="client", name=f"proj.n{n % 3}", **base))
            continue
        if n % 5:
            facts.append(TaskReceived(hostname=f"w{n % 2}", name=f"proj.n{n % 3}", **base))
        facts.append(TaskStarted(hostname=f"w{n % 2}", **base))
        if n % 3 == 0:
            facts.append(TaskSucceeded(hostname=f"w{n % 2}", runtime=float(n % 4), **base))
        elif n % 3 == 1:
            facts.append(TaskFailed(hostname=f"w{n % 2}", **base))
    await write(database, facts)
    return Answers(database, Settings())


async def write(database: Database, facts: list[AnyFact]) -> None:
    writer, before = Writer(database), Position("stream", 0)
    await writer.load()
    await writer.begin_stream("S", before)
    message = StreamMessage(1, "s", encode_batch("default", "c", facts))
    for group in groups([message], writer.digests):
        await writer.write_group("S", before, group)


def rank(row: TaskRow, sort: str) -> tuple[Any, ...]:
    unknown: Any = "" if sort in ("name", "worker", "state") else -1e300
    value = getattr(row, sort)
    received = (row.received if row.received is not None else -1e300,) if isinstance(unknown, str) else ()
    return (unknown if value is None else value, *received)


@pytest.mark.parametrize("direction", ["", "-"])
@pytest.mark.parametrize("sort", sorted(SORTS))
async def test_pages_hold_every_row_once_and_in_order(answers: Answers, sort: str, direction: str) -> None:
    query = {"cluster": "default", "sort": direction + sort, "limit": 7}
    pages = [await answers.tasks(TaskListQuery(**query))]
    assert pages[0].previous is None
    while pages[-1].next is not None:
        pages.append(await answers.tasks(TaskListQuery(**query, cursor=pages[-1].next)))
    rows = [row for page in pages for row in page.rows]
    assert len({row.uuid for row in rows}) == len(rows) == COUNT
    ranks = [rank(row, sort) for row in rows]
    assert ranks == sorted(ranks, reverse=bool(direction))

    back = [pages[-1]]
    while back[-1].previous is not None:
        back.append(await answers.tasks(TaskListQuery(**query, cursor=back[-1].previous)))
    assert [page.rows for page in reversed(back)] == [page.rows for page in pages]


async def test_filters_narrow_the_pages(answers: Answers) -> None:
    found = await answers.tasks(
        TaskListQuery(cluster="default", state="FAILURE", worker="w1", name="proj.n1", search="proj", limit=100)
    )
    assert found.rows
    assert {(row.state, row.worker, row.name) for row in found.rows} == {("FAILURE", "w1", "proj.n1")}


async def test_a_fault_in_the_search_comes_back_with_its_position(answers: Answers) -> None:
    found = await answers.tasks(TaskListQuery(cluster="default", search="abc OR"))
    assert (found.rows, found.error_position) == ([], 4)
    assert found.error == 'OR must be followed by a search term at position 4. Add one, or quote the word: "or".'


@pytest.mark.parametrize(
    "wrong",
    [
        {"sort": "args"},
        {"sort": "--name"},
        {"limit": 0},
        {"limit": 10**9},
        {"cursor": "x"},
        {"cursor": "é"},
        {"cursor": "W10="},
        {"cursor": "WyJuYW1lIix0cnVlLFsxXSwxXQ=="},
    ],
)
async def test_a_question_that_makes_no_sense_is_refused(answers: Answers, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidQuestion):
        await answers.tasks(TaskListQuery(cluster="default", **wrong))


async def test_names_are_those_in_the_store(answers: Answers) -> None:
    names = await answers.names(NamesQuery(cluster="default"))
    assert names.tasks == ["proj.n0", "proj.n1", "proj.n2"]
    assert names.states == ["FAILURE", "PENDING", "STARTED", "SUCCESS"]
    assert names.workers == ["w0", "w1"]


async def test_of_another_cluster_nothing_is_known(answers: Answers) -> None:
    assert (await answers.tasks(TaskListQuery(cluster="elsewhere"))).rows == []


async def test_a_question_that_takes_too_long_is_given_up(database: Database) -> None:
    endless = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n")
    begun = time.monotonic()
    with pytest.raises(QueryTooSlow, match=r"given up after 0\.2 s"):
        await database.read(lambda c: c.execute(endless).scalar(), limit=0.2)
    assert time.monotonic() - begun < 5.0
    assert await database.read(lambda c: c.execute(text("SELECT 1")).scalar()) == 1


async def test_reading_cannot_write(database: Database) -> None:
    with pytest.raises(Exception, match="readonly"):
        await database.read(lambda c: c.execute(text("DELETE FROM tasks")))
