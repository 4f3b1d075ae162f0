"""/api/v1/export/tasks: any search as one file, whole or recognisably not."""

import asyncio
import csv
import io
import json
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from meadow_api.errors import QueryTooSlow
from meadow_api.store.database import Database
from meadow_api.v1 import exports
from tests.integration.api_service import MakeContext
from tests.integration.v1_store import failed, task, telling

MANY = exports.STEP * 2 + 7


def many() -> list[Any]:
    return [fact for number in range(MANY) for fact in task(number)]


async def read(client: aiohttp.ClientSession, **query: str) -> str:
    async with client.get("/api/v1/export/tasks", params=query) as response:
        assert response.status == 200
        return await response.text()


async def test_ndjson_has_every_task_of_the_search_with_its_whole_texts(make_context: MakeContext) -> None:
    long = "(" + "x" * 5000 + ")"
    async with telling(make_context, *many(), *task(MANY, args=long)) as (_, client):
        lines = [json.loads(line) for line in (await read(client, sort="received")).splitlines()]
        some = (await read(client, queue="high", fields="uuid")).splitlines()
        few = (await read(client, limit="501", fields="uuid", end="true")).splitlines()
    assert [line["uuid"] for line in lines] == [f"task-{n}" for n in range(MANY + 1)]
    assert lines[-1]["args"] == long
    assert len(some) == MANY // 2 + 1
    assert (len(few), json.loads(few[-1])) == (502, {"end": True, "tasks": 501})


async def test_csv_begins_with_its_fields_and_gives_no_formula_to_a_spreadsheet(make_context: MakeContext) -> None:
    risky = '=cmd|"/c calc"!A1'
    facts = [*task(1, kwargs=risky, args='a "quoted", text\nin two lines'), *failed(2, 42, at=1_795_381_962.0)]
    async with telling(make_context, *facts) as (_, client):
        text = await read(client, format="csv", fields="uuid,args,kwargs,runtime,retries", sort="name", end="true")
        async with client.head("/api/v1/export/tasks?format=csv") as response:
            assert response.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
            assert response.headers["Content-Disposition"] == 'attachment; filename="tasks.csv"'
    assert list(csv.reader(io.StringIO(text, newline=""))) == [
        ["uuid", "args", "kwargs", "runtime", "retries"],
        ["task-1", 'a "quoted", text\nin two lines', "'" + risky, "0.1", "0"],
        ["failed-2", "(42,)", "{}", "", "0"],
        ["# end", "2"],
    ]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1+1", "\n=1", "|x", "%x"])
def test_a_cell_that_could_be_a_formula_is_text(text: str) -> None:
    assert exports.harmless(text) == "'" + text


def test_an_ordinary_cell_stays_as_it_is() -> None:
    assert [exports.harmless(text) for text in ("(1, 2)", "{'a': -1}", "", "żółć")] == [
        "(1, 2)",
        "{'a': -1}",
        "",
        "żółć",
    ]


async def test_an_export_that_breaks_off_is_cut_in_the_middle_of_the_transfer(
    make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with telling(make_context, *many()) as (_, client):
        await fail_from(2, monkeypatch)
        with pytest.raises(aiohttp.ClientPayloadError):
            await read(client)
        monkeypatch.undo()
        assert len((await read(client)).splitlines()) == MANY


async def test_a_fault_before_the_first_line_has_a_status(
    make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with telling(make_context, *task(1)) as (_, client):
        async with client.get("/api/v1/export/tasks", params={"q": "(a"}) as response:
            assert (response.status, (await response.json())["error"]) == (422, "invalid-search")
        await fail_from(1, monkeypatch)
        async with client.get("/api/v1/export/tasks") as response:
            assert (response.status, (await response.json())["error"]) == (503, "too-slow")


async def fail_from(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From that step on the store takes too long."""
    real: Callable[..., Any] = Database.read
    count = 0

    async def read(self: Database, work: Callable[..., Any], **more: Any) -> Any:
        nonlocal count
        count += 1
        if count >= step:
            raise QueryTooSlow("The question was given up after 10 s.")
        return await real(self, work, **more)

    monkeypatch.setattr(Database, "read", read)


async def test_a_reader_that_waits_holds_only_its_own_export_up(make_context: MakeContext) -> None:
    wide = "(" + "y" * 30_000 + ")"
    facts = [fact for number in range(1200) for fact in task(number, args=wide)]
    async with (
        telling(make_context, *facts) as (_, client),
        client.get("/api/v1/export/tasks", headers={"Accept-Encoding": "identity"}) as slow,
    ):
        first = await slow.content.read(1000)
        assert len(first) == 1000
        whole = await asyncio.wait_for(read(client, fields="uuid"), timeout=20)
        assert len(whole.splitlines()) == 1200
        rest = first + await slow.read()
    assert rest.count(b"\n") == 1200
