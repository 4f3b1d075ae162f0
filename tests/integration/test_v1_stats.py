"""/api/v1/stats and what else is summed up or looked up: queues, workers, suggestions."""

import time

from meadow import subjects
from meadow.events import QueueDepth, QueuesObserved
from meadow.testing import eventually
from tests.integration.api_service import MakeContext, publish
from tests.integration.v1_store import failed, get, task, telling


async def test_events_are_counted_and_times_are_spread_by_what_is_asked(make_context: MakeContext) -> None:
    now = float(int(time.time()))
    facts = [f for n in range(40) for f in task(-n, at=now, uuid=f"a-{n}")]
    facts += [f for n in range(10) for f in task(-n, at=now, uuid=f"m-{n}", name="proj.mail", worker="w2@h")]
    facts += failed(1, 1, at=now)
    async with telling(make_context, *facts) as (_, client):
        status, everything = await get(client, "stats", seconds=3600)
        _, mail = await get(client, "stats", seconds=3600, name="proj.mail")
        _, second = await get(client, "stats", seconds=3600, worker="w2@h")
        _, nothing = await get(client, "stats", seconds=3600, queue="nowhere")
        _, names = await get(client, "stats/labels", by="name", limit=2)
        refused, problem = await get(client, "stats", name="proj.add", worker="w1@h")
    assert (status, everything["dimension"], everything["total"]["events"]["succeeded"]) == (200, "all", 50)
    assert everything["total"]["events"]["failed"] == 1
    assert sum(point["events"]["received"] for point in everything["points"]) == 51
    run_time = everything["total"]["run_time"]
    assert run_time["count"] == 50
    assert abs(run_time["p50"] - 0.1) < 0.003
    assert abs(everything["total"]["queue_wait"]["p95"] - 0.1) < 0.003
    assert (mail["total"]["events"]["succeeded"], second["total"]["events"]["succeeded"]) == (10, 10)
    assert nothing["points"] == []
    assert [(label["label"], label["total"]["events"]["succeeded"]) for label in names["labels"]] == [
        ("proj.add", 40),
        ("proj.mail", 10),
    ]
    assert (refused, problem["error"]) == (422, "invalid-parameter")


async def test_workers_are_listed_by_queue_and_presence_and_shown_one_by_one(make_context: MakeContext) -> None:
    async with telling(make_context, *task(1)) as (_, client):
        _, online = await get(client, "workers", online="true")
        _, offline = await get(client, "workers", online="false")
        _, of_queue = await get(client, "workers", queue="high")
        status, worker = await get(client, "workers/w1@h")
        unknown, problem = await get(client, "workers/w9@h")
    assert [row["hostname"] for row in online["rows"]] == ["w1@h"]
    assert offline["rows"] == of_queue["rows"] == []
    assert (status, worker["worker"]["hostname"], worker["recent"][0]["uuid"]) == (200, "w1@h", "task-1")
    assert (unknown, problem["error"]) == (404, "not-found")


async def test_queues_come_with_as_much_history_as_asked(make_context: MakeContext) -> None:
    now = time.time()
    async with telling(make_context, *task(1)) as (service, client):
        for at, messages in ((now - 500, 7), (now - 5, 3)):
            observed = QueuesObserved(seen=at, queues=(QueueDepth(name="high", messages=messages),))
            await publish(service._context.bus, observed, kind=subjects.QUEUES)

        async def shown() -> bool:
            return bool((await get(client, "queues"))[1]["rows"]) and (await depths("queues"))[-1] == 3

        async def depths(path: str, **query: float) -> list[int]:
            _, answer = await get(client, path, **query)
            return [messages for _, messages in answer["rows"][0]["samples"]]

        await eventually(shown)
        assert await depths("queues", seconds=3600) == [7, 3]
        assert await depths("queues", seconds=60) == [3]
        assert await depths("queues", seconds=0) == []


async def test_what_may_come_next_in_a_search_is_suggested(make_context: MakeContext) -> None:
    async with telling(make_context, *task(1)) as (_, client):
        _, fields = await get(client, "search/suggest", q="na")
        _, names = await get(client, "search/suggest", q="state:SUCCESS name:proj", position=23)
    assert "name:" in [suggestion["text"] for suggestion in fields["suggestions"]]
    assert (names["start"], names["end"]) == (14, 23)
    assert names["suggestions"][0]["text"] == "name:proj.add"
