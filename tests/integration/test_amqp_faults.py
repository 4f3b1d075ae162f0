"""The line to RabbitMQ goes silent, or breaks in the middle of a frame: the collector notices, says so in a sentence,
and reads on from its queue; every event arrives once and no gap is told, because the queue has kept them."""

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit

from meadow.broker import BrokerConfig
from meadow.bus import Bus
from meadow.events import CollectorGap
from meadow.service import Context
from meadow.testing import eventually
from tests.integration.apps.amqp_stage import publish, started
from tests.integration.apps.collector_stage import facts_of, running_collector
from tests.integration.apps.redis_stage import Line, running_line
from tests.integration.apps.sender import counted
from tests.servers import RabbitMQ

MakeContext = Callable[..., Context]


def through(line: Line, cluster: str, heartbeat: float = 0.0) -> BrokerConfig:
    """The broker at the other end of the line."""
    url = f"amqp://guest:guest@127.0.0.1:{line.port}//"
    return BrokerConfig(url=url, cluster=cluster, heartbeat=heartbeat, connection_timeout=1.0)


def port_of(server: RabbitMQ) -> int:
    port = urlsplit(server.url).port
    assert port is not None
    return port


async def test_a_broker_that_no_longer_answers_is_noticed_by_its_missing_heartbeats(
    make_context: MakeContext, bus: Bus, rabbitmq_server: RabbitMQ
) -> None:
    with running_line(port_of(rabbitmq_server)) as line:
        context = make_context(cluster="silent")
        async with running_collector(context, through(line, "silent", heartbeat=1.0)) as service:
            await asyncio.to_thread(publish, rabbitmq_server.url, [started("before")])
            await eventually(lambda: counted(bus))
            line.silence()
            await asyncio.to_thread(publish, rabbitmq_server.url, [started(f"t{n}", clock=n) for n in range(20)])
            reason = await eventually(lambda: service.health()["error"], timeout=20.0)
            assert "heartbeats" in reason
            line.speak()

            async def all_arrived() -> bool:
                return len(await counted(bus)) == 21

            await eventually(all_arrived, timeout=60.0)
    assert set((await counted(bus)).values()) == {1}
    assert await facts_of(bus, CollectorGap) == []


async def test_a_message_that_is_cut_in_the_middle_of_a_frame_comes_again_whole(
    make_context: MakeContext, bus: Bus, rabbitmq_server: RabbitMQ
) -> None:
    with running_line(port_of(rabbitmq_server)) as line:
        async with running_collector(make_context(cluster="halved"), through(line, "halved")) as service:
            await asyncio.to_thread(publish, rabbitmq_server.url, [started("before")])
            await eventually(lambda: counted(bus))
            line.cut_after = 300
            bodies = [[started(f"t{n}", clock=n, note="x" * 2_000)] for n in range(10)]
            await asyncio.to_thread(publish, rabbitmq_server.url, bodies)

            async def all_arrived() -> bool:
                return len(await counted(bus)) == 11

            await eventually(all_arrived, timeout=60.0)
            assert line.cut_after is None
        assert service.health()["discarded"] == {}
    assert set((await counted(bus)).values()) == {1}
    assert await facts_of(bus, CollectorGap) == []
