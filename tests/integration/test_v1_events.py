"""/api/v1/events: facts as they come, and going on where one was."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from meadow.bus import Bus
from meadow.testing import eventually
from meadow_api.v1 import event_stream
from tests.integration.api_service import MakeContext, publish
from tests.integration.v1_store import failed, get, task, telling
from tests.servers import operator


class Heard:
    """The events of one connection."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self, count: int) -> list[dict[str, Any]]:
        """The next `count` events: `event`, `id` and `data`."""
        found: list[dict[str, Any]] = []
        event: dict[str, Any] = {}
        async with asyncio.timeout(10):
            while len(found) < count:
                line = (await self.response.content.readline()).decode()
                if not line:
                    raise EOFError(found)
                key, _, value = line.rstrip("\n").partition(": ")
                if line == "\n" and "data" in event:
                    found.append(event)
                    event = {}
                elif key == "data":
                    event["data"] = json.loads(value)
                elif key in ("id", "event"):
                    event[key] = value
        return found


@asynccontextmanager
async def hearing(client: aiohttp.ClientSession, last: str | None = None, **query: str) -> AsyncIterator[Heard]:
    headers = {"Last-Event-ID": last} if last else {}
    async with client.get("/api/v1/events", params=query, headers=headers) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        yield Heard(response)


async def test_events_come_as_they_happen_and_go_on_from_the_last_one(bus: Bus, make_context: MakeContext) -> None:
    async with telling(make_context) as (_, client):
        async with hearing(client) as heard:
            await publish(bus, *task(1), *task(2))
            first = await heard.next(3)
        assert [event["event"] for event in first] == ["task-sent", "task-received", "task-started"]
        assert first[0]["data"]["type"] == "task-sent"
        assert first[0]["data"]["uuid"] == "task-1"
        await publish(bus, *task(3))
        async with hearing(client, last=first[-1]["id"]) as heard:
            rest = await heard.next(9)
    assert [(e["event"], e["data"]["uuid"]) for e in rest][:2] == [
        ("task-succeeded", "task-1"),
        ("task-sent", "task-2"),
    ]
    ids = [event["id"] for event in (*first, *rest)]
    assert len(set(ids)) == 12
    assert [e["data"]["uuid"] for e in rest][-4:] == ["task-3"] * 4


async def test_only_what_was_asked_for_is_sent(bus: Bus, make_context: MakeContext) -> None:
    async with telling(make_context) as (_, client):
        await publish(bus, *task(1), *task(2, worker="w2@h"), *failed(3, 42, at=1_795_381_962.0))
        for query, expected in (
            ({"type": "task-failed,task-succeeded"}, ["task-1", "task-2", "failed-3"]),
            ({"worker": "w2@h"}, ["task-2"] * 3),
            ({"uuid": "task-1", "type": "task-started"}, ["task-1"]),
        ):
            async with hearing(client, after="0", **query) as heard:
                assert [event["data"]["uuid"] for event in await heard.next(len(expected))] == expected


async def test_what_is_gone_from_the_stream_is_told(bus: Bus, make_context: MakeContext) -> None:
    async with telling(make_context, *task(1)) as (_, client):
        async with operator(bus) as jetstream:
            await jetstream.purge_stream("MEADOW_EVENTS")
        await publish(bus, *task(2))
        async with hearing(client, last="1.0") as heard:
            missed, sent = (await heard.next(2))[:2]
        assert (missed["event"], missed["data"]) == ("missed", {"from": 1, "to": 2})
        assert (sent["event"], sent["data"]["uuid"]) == ("task-sent", "task-2")
        async with hearing(client, last="999") as heard:  # of a stream that was there before this one
            assert (await heard.next(1))[0]["event"] == "missed"


async def test_a_place_that_is_none_is_refused(make_context: MakeContext) -> None:
    async with telling(make_context) as (_, client):
        for place in ("x", "-1", "1.x", "1.2.3", "9" * 30, "١"):
            status, problem = await get(client, "events", after=place)
            assert (place, status, problem["error"]) == (place, 422, "invalid-parameter")


async def test_only_so_many_may_follow_at_once(make_context: MakeContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "MOST_CLIENTS", 1)
    async with telling(make_context) as (_, client):
        async with hearing(client):
            status, problem = await get(client, "events")
            assert (status, problem["error"]) == (503, "too-many")
        await eventually(lambda: follows(client))


async def follows(client: aiohttp.ClientSession) -> bool:
    async with client.get("/api/v1/events") as response:
        return response.status == 200


async def test_one_that_takes_nothing_is_cut_off_and_can_go_on(
    bus: Bus, make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "PATIENCE", 0.3)
    monkeypatch.setattr(event_stream, "FAREWELL", 0.1)
    wide = "(" + "y" * 3000 + ")"
    async with telling(make_context) as (service, client):
        for begin in range(0, 4000, 100):
            await publish(bus, *(f for n in range(begin, begin + 100) for f in task(n, args=wide)))
        streams = service._resources._streams
        async with hearing(client, after="0"):
            await eventually(lambda: not streams._open)
        async with hearing(client, after="0", type="task-succeeded") as heard:
            assert (await heard.next(1))[0]["data"]["uuid"] == "task-0"


async def test_a_stop_ends_the_streams_and_says_so(bus: Bus, make_context: MakeContext) -> None:
    async with telling(make_context) as (service, client), hearing(client) as heard:
        await service.hang_up()
        assert [(e["event"], e["data"]) for e in await heard.next(1)] == [("end", {"reason": "stopping"})]


async def test_texts_that_only_format_task_can_judge_are_left_out(bus: Bus, make_context: MakeContext) -> None:
    def hide(shown: SimpleNamespace) -> SimpleNamespace:
        shown.args = "***"
        return shown

    async with telling(make_context, format_task=hide) as (_, client):
        await publish(bus, *task(1, args="('secret',)"))
        async with hearing(client, after="0") as heard:
            events = await heard.next(4)
    assert "args" not in events[1]["data"]
    assert "result" not in events[3]["data"]
    assert events[1]["data"]["name"] == "proj.add"
