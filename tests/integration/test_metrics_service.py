"""Facts said on the bus appear at /metrics, and nothing else does."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp.test_utils import TestClient, TestServer

from meadow import subjects
from meadow.bus import Bus
from meadow.codec import encode_batch
from meadow.events import AnyFact, QueueDepth, QueuesObserved, TaskReceived, WorkerHeartbeat, WorkerOffline
from meadow.http import build_application
from meadow.service import Context
from meadow.testing import eventually
from meadow_metrics.service import build

MakeContext = Callable[..., Context]

RECEIVED = TaskReceived(uuid="a", hostname="celery@w1", timestamp=1.0, seen=1.0, name="app.add")
ALIVE = WorkerHeartbeat(hostname="celery@w1", timestamp=1.0, seen=1.0, active=3)
COUNTED = 'flower_events_total{task="app.add",type="task-received",worker="celery@w1"}'


async def say(bus: Bus, *facts: AnyFact, cluster: str = "default", kind: str = subjects.TASKS) -> None:
    await bus.append(subjects.events(cluster, kind), encode_batch(cluster, "test", facts))


@asynccontextmanager
async def serving(context: Context) -> AsyncIterator[TestClient]:  # type: ignore[type-arg]
    """The service behind its gate, on a real socket."""
    service = build(context)
    await service.listen()
    application = build_application(context.settings, context.gate, [service])
    try:
        async with TestClient(TestServer(application)) as client:
            await service.speak()
            yield client
    finally:
        await service.stop()
        await service.stop()  # the second time does no harm


async def page(client: TestClient, **headers: str) -> str:  # type: ignore[type-arg]
    response = await client.get("/metrics", headers=headers)
    assert response.status == 200
    return await response.text()


async def test_facts_on_the_bus_appear_at_metrics(bus: Bus, make_context: MakeContext) -> None:
    async with serving(make_context()) as client:
        await say(bus, ALIVE, kind=subjects.WORKERS)
        await say(bus, RECEIVED)
        depth = QueuesObserved(seen=1.0, queues=(QueueDepth(name="mail", messages=7),))
        await say(bus, depth, kind=subjects.QUEUES)

        async def complete() -> bool:
            text = await page(client)
            return all(
                line in text
                for line in (
                    f"{COUNTED} 1.0",
                    'flower_worker_online{worker="celery@w1"} 1.0',
                    'flower_worker_number_of_currently_executing_tasks{worker="celery@w1"} 3.0',
                    'flower_worker_prefetched_tasks{task="app.add",worker="celery@w1"} 1.0',
                    'meadow_queue_messages{queue="mail"} 7.0',
                    "meadow_events_processed_total 3.0",
                    "meadow_collector_connected 0.0",
                )
            )

        await eventually(complete)


async def test_what_was_said_before_the_start_and_about_other_clusters_is_not_counted(
    bus: Bus, make_context: MakeContext
) -> None:
    await say(bus, RECEIVED)
    async with serving(make_context()) as client:
        await say(bus, RECEIVED, cluster="elsewhere")
        await say(bus, RECEIVED)
        await eventually(lambda: _contains(client, "meadow_events_processed_total 1.0"))
        assert f"{COUNTED} 1.0" in await page(client)


async def test_a_message_that_is_no_batch_is_counted_and_the_next_ones_are_read(
    bus: Bus, make_context: MakeContext
) -> None:
    async with serving(make_context()) as client:
        await bus.append(subjects.events("default", subjects.TASKS), b"\x80 no JSON")
        await say(bus, RECEIVED)
        await eventually(lambda: _contains(client, f"{COUNTED} 1.0"))
        assert "meadow_invalid_messages_total 1.0" in await page(client)


async def test_prometheus_needs_no_login_and_gets_the_format_it_asks_for(make_context: MakeContext) -> None:
    async with serving(make_context(basic_auth=("ada:lovelace",))) as client:
        plain = await client.get("/metrics")
        assert (plain.status, plain.content_type) == (200, "text/plain")
        modern = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        assert modern.content_type == "application/openmetrics-text"
        assert (await modern.text()).endswith("# EOF\n")
        packed = await client.get("/metrics", headers={"Accept-Encoding": "gzip"})
        assert packed.headers["Content-Encoding"] == "gzip"
        assert "# TYPE flower_events_total counter" in await packed.text()
        unpacked = await client.get("/metrics", headers={"Accept-Encoding": "identity"})
        assert "Content-Encoding" not in unpacked.headers


async def test_workers_that_are_offline_are_purged_when_the_page_is_read(bus: Bus, make_context: MakeContext) -> None:
    async with serving(make_context(purge_offline_workers=0)) as client:
        await say(bus, ALIVE, RECEIVED)
        await eventually(lambda: _contains(client, COUNTED))
        await say(bus, WorkerOffline(hostname="celery@w1", timestamp=2.0, seen=2.0))
        await eventually(lambda: _contains(client, "meadow_events_processed_total 3.0"))
        assert 'worker="celery@w1"' not in await page(client)


async def test_the_service_is_well_only_while_it_reads(make_context: MakeContext) -> None:
    service = build(make_context())
    assert service.health()["ok"] is False
    await service.listen()
    assert service.health()["ok"] is True
    await service.stop()
    assert service.health()["ok"] is False


async def _contains(client: TestClient, text: str) -> bool:  # type: ignore[type-arg]
    return text in await page(client)
