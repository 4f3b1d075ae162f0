"""The broker goes, NATS goes, both come back: the collector says so, goes on, and loses only what nobody could keep."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meadow.broker import BrokerConfig
from meadow.bus import Bus, StreamLimits
from meadow.errors import StartRefused
from meadow.events import CollectorGap, CollectorReported, QueuesObserved, TaskFailed, TaskStarted
from meadow.service import Context
from meadow.testing import eventually, running_nats
from meadow.testing import make_context as build_context
from meadow_collector.service import build
from tests.integration.apps.collector_stage import client_app, facts_of, running_collector, send_events
from tests.servers import free_port, running_redis

MakeContext = Callable[..., Context]


def started(numbers: range) -> list[dict[str, Any]]:
    return [{"type": "task-started", "uuid": f"t{number}"} for number in numbers]


async def send(url: str, numbers: range) -> None:
    app = client_app(url)
    await asyncio.to_thread(send_events, app, started(numbers))
    app.close()


async def test_a_broker_that_cannot_be_reached_is_told_without_its_password(
    make_context: MakeContext, bus: Bus
) -> None:
    port = free_port()
    url = f"redis://:hunter2@127.0.0.1:{port}/0"

    async def reports() -> list[CollectorReported]:
        return await facts_of(bus, CollectorReported, "collector")

    service = build(make_context(queue_interval=0.1), BrokerConfig(url=url))
    await service.listen()
    await service.speak()
    (report, *_) = await eventually(
        lambda: told(reports, lambda r: not r.connected and r.error is not None), timeout=20.0
    )
    assert "hunter2" not in str(report)
    assert report.broker == f"redis://:***@127.0.0.1:{port}/0"
    assert service.health()["ok"] is False

    await service.stop()


async def test_a_broker_that_dies_and_returns_is_read_again_and_the_gap_is_told(
    make_context: MakeContext, bus: Bus, tmp_path: Path
) -> None:
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    service = build(make_context(queue_interval=0.1), BrokerConfig(url=url))
    await service.listen()
    await service.speak()
    with running_redis(tmp_path, port):
        await eventually(lambda: service.health()["ok"], timeout=20.0)
        await send(url, range(3))
        await eventually(lambda: arrived(bus, 3))
        await eventually(lambda: told_queues(bus, error=False))
    await eventually(lambda: not service.health()["ok"])
    await eventually(lambda: told_queues(bus, error=True), timeout=20.0)
    with running_redis(tmp_path, port):
        await eventually(lambda: service.health()["ok"], timeout=20.0)
        await send(url, range(3, 6))
        await eventually(lambda: arrived(bus, 6))
    await service.stop()
    (gap,) = await facts_of(bus, CollectorGap, "collector")
    assert gap.reason == "broker-unavailable"
    assert gap.start < gap.end
    states = [report.connected for report in await facts_of(bus, CollectorReported, "collector")]
    changes = [state for index, state in enumerate(states) if index == 0 or states[index - 1] != state]
    assert changes[-4:] == [True, False, True, False]


async def told(reports: Callable[[], Any], condition: Callable[[CollectorReported], bool]) -> list[CollectorReported]:
    return [report for report in await reports() if condition(report)]


async def told_queues(bus: Bus, *, error: bool) -> bool:
    latest = (await facts_of(bus, QueuesObserved, "queues"))[-1:]
    return any((fact.error is not None) is error for fact in latest)


async def arrived(bus: Bus, number: int) -> bool:
    return len(await facts_of(bus, TaskStarted, "tasks")) >= number


async def test_nothing_is_lost_or_doubled_while_nats_is_away(redis_server: str, tmp_path: Path) -> None:
    async with running_nats(tmp_path / "nats") as server:
        bus = await Bus.connect(server.url, name="test")
        await bus.declare_streams(StreamLimits())
        context = build_context(bus, tmp_path, batch_events=10)
        async with running_collector(context, BrokerConfig(url=redis_server)) as service:
            await send(redis_server, range(200))
            sending = asyncio.create_task(send(redis_server, range(200, 3000)))
            await eventually(lambda: service.health()["published"] > 250)
            await server.stop()
            await sending
            await eventually(lambda: service.health()["received"] == 3000)
            assert service.health()["buffered"] > 0
            assert service.health()["ok"] is True
            await server.start()
            await eventually(lambda: service.health()["buffered"] == 0, timeout=30.0)
            await eventually(lambda: arrived(bus, 3000), timeout=30.0)
        found = Counter(fact.uuid for fact in await facts_of(bus, TaskStarted, "tasks"))
        order = [int(fact.uuid[1:]) for fact in await facts_of(bus, TaskStarted, "tasks")]
        await context.watch.stop()
        await bus.close()
    assert set(found) == {f"t{number}" for number in range(3000)}
    assert max(found.values()) == 1
    assert order == sorted(order)
    assert service.health()["dropped"] == 0


async def test_a_full_buffer_drops_the_oldest_and_tells_how_many(redis_server: str, tmp_path: Path) -> None:
    async with running_nats(tmp_path / "nats") as server:
        bus = await Bus.connect(server.url, name="test")
        await bus.declare_streams(StreamLimits())
        context = build_context(bus, tmp_path, batch_events=10, buffer_bytes=1024 * 1024, queue_interval=3600.0)
        async with running_collector(context, BrokerConfig(url=redis_server)) as service:
            await send(redis_server, range(5))
            await eventually(lambda: arrived(bus, 5))
            await eventually(lambda: facts_of(bus, QueuesObserved))
            await server.stop()
            await eventually(lambda: not bus.connected)
            app = client_app(redis_server)
            events = [
                {"type": "task-failed", "uuid": f"t{number}", "exception": "E()", "traceback": "x" * 10_000}
                for number in range(300)
            ]
            await asyncio.to_thread(send_events, app, events)
            app.close()
            await eventually(lambda: service.health()["received"] == 305)
            await server.start()

            async def kept() -> set[int]:
                return {int(fact.uuid[1:]) for fact in await facts_of(bus, TaskFailed, "tasks")}

            async def last_is_kept() -> bool:
                return 299 in await kept()

            await eventually(last_is_kept, timeout=30.0)
            dropped = service.health()["dropped"]
            reports = await eventually(
                lambda: told(lambda: facts_of(bus, CollectorReported), lambda r: r.dropped == dropped), timeout=10.0
            )
        gaps = await facts_of(bus, CollectorGap, "collector")
        numbers = await kept()
        await context.watch.stop()
        await bus.close()
    assert 0 < dropped < 300
    assert reports
    assert sum(gap.events or 0 for gap in gaps) == dropped
    assert {gap.reason for gap in gaps} == {"buffer-full"}
    missing = sorted(set(range(300)) - numbers)
    assert missing == list(range(missing[0], missing[0] + dropped))  # behind what was already on its way to NATS


async def test_what_is_buffered_is_published_before_the_collector_stops(
    make_context: MakeContext, bus: Bus, redis_server: str
) -> None:
    async with running_collector(make_context(batch_wait=60_000.0), BrokerConfig(url=redis_server)) as service:
        await send(redis_server, range(50))
        await eventually(lambda: service.health()["received"] == 50)
        assert not await facts_of(bus, TaskStarted)
        await service.stop()
        await service.stop()
        assert len(await facts_of(bus, TaskStarted)) == 50


async def test_stopping_does_not_wait_for_a_broker_that_hangs(
    make_context: MakeContext, bus: Bus, tmp_path: Path
) -> None:
    with running_redis(tmp_path) as url:
        pid = server_pid(url)
        async with running_collector(make_context(queue_interval=0.05), BrokerConfig(url=url)) as service:
            os.kill(pid, signal.SIGSTOP)
            try:
                loop = asyncio.get_running_loop()
                start = loop.time()
                await service.stop()
                assert loop.time() - start < 5.0
            finally:
                os.kill(pid, signal.SIGCONT)


def server_pid(url: str) -> int:
    import redis

    client = redis.Redis.from_url(url)
    pid = int(client.info("server")["process_id"])
    client.close()
    return pid


async def test_an_event_larger_than_a_message_on_nats_is_cut_until_it_fits(
    make_context: MakeContext, bus: Bus, redis_server: str
) -> None:
    context = make_context(field_bytes=32 * 1024 * 1024)
    async with running_collector(context, BrokerConfig(url=redis_server)):
        app = client_app(redis_server)
        text = "\x01" * (1024 * 1024)  # JSON takes six bytes for each
        await asyncio.to_thread(
            send_events, app, [{"type": "task-failed", "uuid": "big", "exception": text, "traceback": text}]
        )
        app.close()
        (fact,) = await eventually(lambda: facts_of(bus, TaskFailed), timeout=20.0)
    assert "[cut by Meadow" in fact.exception
    assert "[cut by Meadow" in fact.traceback


async def test_a_broker_that_no_plugin_reads_stops_the_start_with_a_hint(make_context: MakeContext) -> None:
    with pytest.raises(StartRefused, match=r"carrier://ada:\*\*\*@pigeon.*--broker"):
        build(make_context(), BrokerConfig(url="carrier://ada:hunter2@pigeon"))
