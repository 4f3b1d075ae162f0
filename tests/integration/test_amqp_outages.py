"""Collectors are killed, RabbitMQ and NATS go away: on RabbitMQ every event arrives, and arrives once."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from meadow.broker import BrokerConfig
from meadow.bus import Bus, StreamLimits
from meadow.events import CollectorGap, TaskStarted
from meadow.service import Context
from meadow.settings import Settings
from meadow.subjects import EVENTS_STREAM
from meadow.supervise import ChildProcess
from meadow.testing import eventually, running_nats
from meadow.testing import make_context as build_context
from tests.integration.apps.amqp_stage import connected, cut_connections, our_queue, publish, sending, started
from tests.integration.apps.collector_stage import facts_of, running_collector
from tests.integration.apps.sender import counted
from tests.servers import RabbitMQ, free_port, running_rabbitmq

MakeContext = Callable[..., Context]


@asynccontextmanager
async def collector_process(bus: Bus, broker: BrokerConfig) -> AsyncIterator[ChildProcess]:
    """A collector as `meadow serve` runs it: started again whenever it ends."""
    child = ChildProcess("collector", Settings(data_dir="unused", cluster=broker.cluster), bus.url, broker)
    supervising = asyncio.create_task(child.supervise())
    try:
        yield child
    finally:
        await child.stop()
        await supervising


async def test_a_killed_collector_loses_nothing_and_doubles_nothing(bus: Bus, rabbitmq_server: RabbitMQ) -> None:
    broker = BrokerConfig(url=rabbitmq_server.url, heartbeat=10.0, cluster="killed")
    async with collector_process(bus, broker) as child:
        await eventually(lambda: our_queue(rabbitmq_server, "killed"), timeout=20.0)
        with sending(rabbitmq_server.url, rate=5000.0) as sender:
            for _ in range(3):
                before = (await bus.stream_state(EVENTS_STREAM)).last

                async def flows(before: int = before) -> bool:
                    return (await bus.stream_state(EVENTS_STREAM)).last > before + 40

                await eventually(flows, timeout=40.0)
                assert child.pid is not None
                os.kill(child.pid, signal.SIGKILL)
                await eventually(lambda: child.pid is None)

        async def all_arrived() -> bool:
            return len(await counted(bus)) == sender.sent

        await eventually(all_arrived, timeout=60.0, every=0.5)
    found = await counted(bus)
    assert set(found) == {f"e{number}" for number in range(sender.sent)}
    assert {uuid: times for uuid, times in found.items() if times > 1} == {}
    assert not await facts_of(bus, CollectorGap)


async def test_what_was_sent_while_no_collector_ran_is_read_by_the_next(
    make_context: MakeContext, bus: Bus, rabbitmq_server: RabbitMQ
) -> None:
    broker = BrokerConfig(url=rabbitmq_server.url, cluster="stopped")
    async with running_collector(make_context(cluster="stopped"), broker):
        await asyncio.to_thread(publish, rabbitmq_server.url, [started("before")])
        await eventually(lambda: counted(bus))
    await asyncio.to_thread(publish, rabbitmq_server.url, [[started(f"t{n}") for n in range(20)]])
    sent = time.monotonic()
    # Celery's own event queues forget after 5 s.
    await eventually(lambda: time.monotonic() - sent > 8.0, timeout=20.0, every=0.5)
    async with running_collector(make_context(cluster="stopped"), broker):

        async def all_arrived() -> bool:
            return len(await counted(bus)) == 21

        await eventually(all_arrived)
    assert max((await counted(bus)).values()) == 1


async def test_two_collectors_share_the_events_of_a_cluster(
    make_context: MakeContext, bus: Bus, rabbitmq_server: RabbitMQ
) -> None:
    broker = BrokerConfig(url=rabbitmq_server.url, cluster="shared")
    async with (
        running_collector(make_context(cluster="shared"), broker) as one,
        running_collector(make_context(cluster="shared"), broker) as other,
    ):
        bodies = [started(f"t{number}", clock=number) for number in range(2000)]
        await asyncio.to_thread(publish, rabbitmq_server.url, bodies)

        async def all_arrived() -> bool:
            return len(await counted(bus)) == 2000

        await eventually(all_arrived, timeout=20.0)
        assert one.health()["received"] > 100
        assert other.health()["received"] > 100
    assert set((await counted(bus)).values()) == {1}


async def test_while_nats_is_away_messages_stay_with_rabbitmq(rabbitmq_server: RabbitMQ, tmp_path: Path) -> None:
    async with running_nats(tmp_path / "nats") as server:
        bus = await Bus.connect(server.url, name="test")
        await bus.declare_streams(StreamLimits())
        context = build_context(bus, tmp_path, cluster="away", spill_bytes=64 * 1024 * 1024)
        broker = BrokerConfig(url=rabbitmq_server.url, cluster="away")
        async with running_collector(context, broker) as service:
            await asyncio.to_thread(publish, rabbitmq_server.url, [started("before")])
            await eventually(lambda: counted(bus))
            await server.stop()
            await eventually(lambda: not bus.connected)
            bodies = [started(f"t{number}", clock=number) for number in range(3000)]
            await asyncio.to_thread(publish, rabbitmq_server.url, bodies)

            async def unacknowledged() -> bool:
                queue = await our_queue(rabbitmq_server, "away")
                return bool(queue.get("messages_unacknowledged", 0) == 2000 and queue.get("messages_ready") == 1000)

            await eventually(unacknowledged, timeout=30.0, every=0.5)
            assert service.health()["buffered"] <= 2001
            assert service.health()["spilled_bytes"] == 0  # RabbitMQ keeps them itself
            # The connection breaks, too: all is delivered again, while copies of it still wait for NATS.
            await eventually(lambda: cut_connections(rabbitmq_server), timeout=30.0, every=0.5)
            await eventually(lambda: service.health()["received"] >= 4001, timeout=20.0)
            await server.start()

            async def all_arrived() -> bool:
                return len(await counted(bus)) == 3001

            await eventually(all_arrived, timeout=30.0)

            async def all_acknowledged() -> bool:
                queue = await our_queue(rabbitmq_server, "away")
                return bool(queue.get("messages", 1) == 0)

            await eventually(all_acknowledged, timeout=30.0, every=0.5)
        found = await counted(bus)
        gaps = await facts_of(bus, CollectorGap)
        await context.watch.stop()
        await bus.close()
    assert set(found.values()) == {1}
    assert gaps == []
    assert service.health()["dropped"] == 0


async def test_a_cut_connection_is_no_gap_because_the_queue_stays(
    make_context: MakeContext, bus: Bus, rabbitmq_server: RabbitMQ
) -> None:
    broker = BrokerConfig(url=rabbitmq_server.url, cluster="cut")
    async with running_collector(make_context(cluster="cut"), broker) as service:
        with sending(rabbitmq_server.url, rate=1000.0) as sender:
            for _ in range(2):
                await eventually(lambda: cut_connections(rabbitmq_server), timeout=60.0, every=0.5)
                await eventually(lambda: service.health()["ok"], timeout=20.0)

        async def all_arrived() -> bool:
            return len(await counted(bus)) == sender.sent

        await eventually(all_arrived, timeout=30.0)
    assert set((await counted(bus)).values()) == {1}
    assert await facts_of(bus, CollectorGap) == []


async def test_a_deleted_queue_is_made_again_and_the_gap_is_told(
    make_context: MakeContext, bus: Bus, rabbitmq_server: RabbitMQ
) -> None:
    broker = BrokerConfig(url=rabbitmq_server.url, cluster="deleted")
    async with running_collector(make_context(cluster="deleted"), broker) as service:
        queue = await eventually(lambda: our_queue(rabbitmq_server, "deleted"), timeout=20.0)
        with connected(rabbitmq_server.url) as channel:
            channel.queue_delete(queue["name"])
        reason = await eventually(lambda: service.health()["error"])
        assert queue["name"] in reason
        assert "deleted" in reason
        await eventually(lambda: service.health()["ok"], timeout=20.0)
        await asyncio.to_thread(publish, rabbitmq_server.url, [started("after")])
        (fact,) = await eventually(lambda: facts_of(bus, TaskStarted))
    assert fact.uuid == "after"
    assert [gap.reason for gap in await facts_of(bus, CollectorGap)] == ["broker-unavailable"]


async def test_a_restarted_node_is_read_again_and_the_gap_is_told(
    make_context: MakeContext, bus: Bus, tmp_path: Path
) -> None:
    ports = (free_port(), free_port(), free_port())
    with running_rabbitmq(tmp_path / "node", ports) as server:
        broker = BrokerConfig(url=server.url)
        service_of = running_collector(make_context(), broker)
        service = await service_of.__aenter__()
        await asyncio.to_thread(publish, server.url, [started("before")])
        await eventually(lambda: counted(bus))
    await eventually(lambda: not service.health()["ok"], timeout=20.0)
    with running_rabbitmq(tmp_path / "node", ports) as server:
        await asyncio.to_thread(publish, server.url, [started("after, before the collector is back")])
        await eventually(lambda: service.health()["ok"], timeout=30.0)

        async def both_arrived() -> bool:
            return len(await counted(bus)) == 2

        await eventually(both_arrived, timeout=20.0)
        await service_of.__aexit__(None, None, None)
    assert [gap.reason for gap in await facts_of(bus, CollectorGap)] == ["broker-unavailable"]
