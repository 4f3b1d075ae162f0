"""Equal questions are answered once, and never by an answer that is older than the question."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from meadow.bus import Bus
from meadow.testing import eventually
from meadow_api.errors import StoreError
from meadow_api.store.database import READERS, Database
from meadow_api.v1 import sharing
from meadow_api.v1.replies import Answer
from meadow_api.v1.sharing import Sharing
from tests.integration.api_service import MakeContext, publish, stored
from tests.integration.v1_store import get, task, telling

QUESTION = ("newest",)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    found = Database(tmp_path / "store.db")
    await found.open()
    try:
        yield found
    finally:
        await found.close()


class Work:
    """Answers, and counts how often."""

    def __init__(self, before: Callable[[], Any] = lambda: None) -> None:
        self.times = 0
        self.before = before

    def __call__(self, connection: Any) -> Answer:
        self.times += 1
        number = self.times
        self.before()
        return Answer(f'W/"{number}"', b"{}")


async def test_those_who_ask_the_same_before_anybody_answers_share_one_answer(database: Database) -> None:
    shared, work, go_on = Sharing(database), Work(), threading.Event()
    busy = [asyncio.create_task(database.read(lambda c: go_on.wait(30))) for _ in range(READERS)]
    asked = [asyncio.create_task(shared.answer(QUESTION, work)) for _ in range(5)]
    other = asyncio.create_task(shared.answer(("oldest",), Work()))
    await asyncio.sleep(0)
    go_on.set()
    answers = await asyncio.gather(*asked, other)
    assert work.times == 1
    assert {answer.etag for answer in answers} == {'W/"1"'}
    await asyncio.gather(*busy)


async def test_who_asks_while_an_answer_is_on_its_way_gets_a_newer_one(database: Database) -> None:
    shared, go_on = Sharing(database), threading.Event()
    work = Work(lambda: go_on.wait(30))
    first = asyncio.create_task(shared.answer(QUESTION, work))
    await eventually(lambda: work.times == 1)
    second = asyncio.create_task(shared.answer(QUESTION, work))
    await eventually(lambda: work.times == 2)
    go_on.set()
    assert [(await first).etag, (await second).etag] == ['W/"1"', 'W/"2"']


async def test_when_the_first_of_them_goes_away_the_others_are_answered_all_the_same(database: Database) -> None:
    shared, work, go_on = Sharing(database), Work(), threading.Event()
    busy = [asyncio.create_task(database.read(lambda c: go_on.wait(30))) for _ in range(READERS)]
    first, *others = [asyncio.create_task(shared.answer(QUESTION, work)) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    go_on.set()
    assert [answer.etag for answer in await asyncio.gather(*others)] == ['W/"1"', 'W/"1"']
    with pytest.raises(asyncio.CancelledError):
        await first
    await asyncio.gather(*busy)


async def test_a_failure_is_told_to_all_who_wait_and_the_next_question_is_asked_anew(database: Database) -> None:
    shared, go_on = Sharing(database), threading.Event()

    def fail(connection: Any) -> Answer:
        raise StoreError("no")

    busy = [asyncio.create_task(database.read(lambda c: go_on.wait(30))) for _ in range(READERS)]
    asked = [asyncio.create_task(shared.answer(QUESTION, fail)) for _ in range(3)]
    await asyncio.sleep(0)
    go_on.set()
    told = await asyncio.gather(*asked, return_exceptions=True)
    assert [str(answer) for answer in told] == ["no"] * 3
    assert (await shared.answer(QUESTION, Work())).etag == 'W/"1"'
    await asyncio.gather(*busy)


async def test_what_is_kept_stays_small(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "MOST_KEPT", 100)
    monkeypatch.setattr(sharing, "LARGEST_KEPT", 60)
    shared = Sharing(database)
    for number in range(4):
        shared.keep((number,), Answer(f"{number}", b"." * 40))
    shared.keep(("large",), Answer("large", b"." * 61))
    assert [shared.kept((number,)) is not None for number in range(4)] == [False, False, True, True]
    assert shared.kept(("large",)) is None


async def test_a_kept_answer_is_not_given_after_a_commit(bus: Bus, make_context: MakeContext) -> None:
    async with telling(make_context, *task(1)) as (service, client):
        _, before = await get(client, "tasks", fields="uuid")
        assert await get(client, "tasks", fields="uuid") == (200, before)
        await stored(service, await publish(bus, *task(2)))
        _, after = await get(client, "tasks", fields="uuid")
    assert [len(page["tasks"]) for page in (before, after)] == [1, 2]
