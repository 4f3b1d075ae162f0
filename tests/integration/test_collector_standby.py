"""Several collectors of one cluster on Redis, where each hears everything: one publishes, another takes over."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from meadow.broker import BrokerConfig
from meadow.bus import Bus, StreamLimits
from meadow.codec import decode_batch
from meadow.events import CollectorGap, CollectorReported
from meadow.service import Context
from meadow.subjects import EVENTS_STREAM
from meadow.supervise import ChildProcess
from meadow.testing import eventually, running_nats
from tests.integration.apps.collector_stage import facts_of, running_collector
from tests.integration.apps.sender import counted
from tests.integration.apps.standby_stage import (
    collector_process,
    flows,
    leader,
    running_proxy,
    sending,
    stands_by,
    term,
)

RATE = 5000.0


async def all_stored(bus: Bus, sent: int) -> "Counter[str]":
    """Wait until as many different events are stored as were sent, and give how often each of them was."""

    async def there() -> bool:
        return len(await counted(bus)) >= sent

    await eventually(there, timeout=60.0, every=0.2)
    return await counted(bus)


def doubled(found: "Counter[str]") -> dict[str, int]:
    return {uuid: times for uuid, times in found.items() if times > 1}


async def test_a_killed_leader_is_replaced_in_three_seconds_and_nothing_is_lost_or_doubled(
    bus: Bus, redis_server: str
) -> None:
    silences = []
    async with (
        collector_process(bus.url, redis_server) as one,
        collector_process(bus.url, redis_server) as other,
    ):
        await stands_by(bus)
        with sending(redis_server, RATE) as sender:
            for _ in range(2):
                await flows(bus, 5_000)
                await stands_by(bus)
                leading = await leader(bus, one, other)
                assert leading.pid is not None
                os.kill(leading.pid, signal.SIGKILL)
                silences.append(await silence(bus))
        found = await all_stored(bus, sender.sent)
        gaps = await facts_of(bus, CollectorGap)  # before the last one stops, whose successor may hardly have started
    assert doubled(found) == {}
    assert len(found) == sender.sent
    assert gaps == []
    assert min(silences) < 3.0, silences  # each of them, but for what else the machine does


async def silence(bus: Bus) -> float:
    """The seconds from now until something is stored by another collector than the one that leads now."""
    loop = asyncio.get_running_loop()
    start = loop.time()

    async def another_publishes() -> bool:
        message = await bus.last_on(EVENTS_STREAM, "meadow.events.default.tasks")
        return message is not None and decode_batch(message.data).collector != killed_name

    killed_name = (await term(bus)).collector
    await eventually(another_publishes, timeout=20.0)
    return loop.time() - start


async def test_a_leader_that_was_paused_comes_back_as_a_standby_and_doubles_nothing(
    bus: Bus, redis_server: str
) -> None:
    async with (
        collector_process(bus.url, redis_server) as one,
        collector_process(bus.url, redis_server) as other,
    ):
        await stands_by(bus)
        with sending(redis_server, RATE) as sender:
            for _ in range(3):
                await flows(bus, 5_000)
                paused = await leader(bus, one, other)
                assert paused.pid is not None
                os.kill(paused.pid, signal.SIGSTOP)

                async def taken_over(paused: ChildProcess = paused) -> bool:
                    return await leader(bus, one, other) is not paused

                await eventually(taken_over)
                await flows(bus, 5_000)
                os.kill(paused.pid, signal.SIGCONT)
                await stands_by(bus)
        found = await all_stored(bus, sender.sent)
        assert (await term(bus)).takeovers == 3
    assert doubled(found) == {}
    assert len(found) == sender.sent
    assert await facts_of(bus, CollectorGap) == []


async def test_a_leader_that_is_stopped_hands_over_at_once(bus: Bus, redis_server: str) -> None:
    async with collector_process(bus.url, redis_server) as one, AsyncExitStack() as stack:
        await stands_by(bus, 0)
        other = await stack.enter_async_context(collector_process(bus.url, redis_server))
        await stands_by(bus)
        with sending(redis_server, RATE) as sender:
            await flows(bus, 10_000)
            assert await leader(bus, one, other) is one
            await one.stop()
            await eventually(lambda: led_by(bus, other), timeout=1.0)  # much sooner than the lease would end
            await flows(bus, 10_000)
        found = await all_stored(bus, sender.sent)
    assert doubled(found) == {}
    assert len(found) == sender.sent
    assert await facts_of(bus, CollectorGap) == []


async def led_by(bus: Bus, child: ChildProcess) -> bool:
    return (await term(bus)).collector.endswith(f"-{child.pid}")


async def test_nats_restarts_below_two_collectors_and_nothing_is_lost_or_doubled(
    redis_server: str, tmp_path: Path
) -> None:
    async with running_nats(tmp_path / "nats") as server, AsyncExitStack() as stack:
        bus = await Bus.connect(server.url, name="test")
        stack.push_async_callback(bus.close)
        await bus.declare_streams(StreamLimits())
        await stack.enter_async_context(collector_process(server.url, redis_server))
        await stack.enter_async_context(collector_process(server.url, redis_server))
        await stands_by(bus)
        with sending(redis_server, RATE) as sender:
            for _ in range(2):
                await flows(bus, 10_000)
                await server.stop()
                await eventually(lambda: not bus.connected)
                goal = sender.sent + 15_000  # three seconds: longer than the lease lasts
                await eventually(lambda goal=goal: sender.sent > goal, timeout=20.0)
                await server.start()
                await eventually(lambda: bus.connected)
                await flows(bus, 20_000)
                await stands_by(bus)
        found = await all_stored(bus, sender.sent)
        gaps = await facts_of(bus, CollectorGap)
    assert doubled(found) == {}
    assert len(found) == sender.sent
    assert gaps == []


async def test_of_three_collectors_each_takes_over_in_turn(bus: Bus, redis_server: str) -> None:
    async with AsyncExitStack() as stack:
        children = [await stack.enter_async_context(collector_process(bus.url, redis_server)) for _ in range(3)]
        await stands_by(bus, 2)
        with sending(redis_server, 2000.0) as sender:
            led = []
            for _ in range(2):
                await flows(bus, 2_000)
                leading = await leader(bus, *children)
                led.append(leading)
                assert leading.pid is not None
                os.kill(leading.pid, signal.SIGSTOP)

                async def taken_over(leading: ChildProcess = leading) -> bool:
                    return not await led_by(bus, leading)

                await eventually(taken_over)
            await flows(bus, 2_000)
            assert await leader(bus, *children) not in led
            for child in led:
                assert child.pid is not None
                os.kill(child.pid, signal.SIGCONT)
            await stands_by(bus, 2)
        found = await all_stored(bus, sender.sent)
    assert doubled(found) == {}
    assert len(found) == sender.sent


async def test_a_leader_that_loses_the_broker_leaves_it_to_one_that_hears_it(
    make_context: Callable[..., Context], bus: Bus, redis_server: str, tmp_path: Path
) -> None:
    with running_proxy(redis_server) as proxy:
        async with AsyncExitStack() as stack:
            one = await stack.enter_async_context(running_collector(make_context(), BrokerConfig(url=proxy.url)))
            await eventually(lambda: one.health()["leads"])
            other = await stack.enter_async_context(running_collector(make_context(), BrokerConfig(url=redis_server)))
            await eventually(lambda: one.health()["standbys"])
            with sending(redis_server, 2000.0) as sender:
                await flows(bus, 2_000)
                proxy.cut()
                await eventually(lambda: other.health()["leads"])
                await flows(bus, 4_000)
            found = await all_stored(bus, sender.sent)
    assert doubled(found) == {}
    assert len(found) == sender.sent
    assert await facts_of(bus, CollectorGap) == []


async def test_a_collector_alone_publishes_as_soon_as_it_hears(
    make_context: Callable[..., Context], bus: Bus, redis_server: str
) -> None:
    async with running_collector(make_context(), BrokerConfig(url=redis_server)) as service:
        await eventually(lambda: service.health()["leads"], timeout=1.0)
        assert service.health()["takeovers"] == 0
        assert service.health()["standbys"] == []
    async with running_collector(make_context(), BrokerConfig(url=redis_server)) as service:
        await eventually(lambda: service.health()["leads"], timeout=1.0)


async def test_a_standby_says_who_leads_and_publishes_nothing(
    make_context: Callable[..., Context], bus: Bus, redis_server: str
) -> None:
    context = make_context(queue_interval=0.1)
    async with running_collector(context, BrokerConfig(url=redis_server)) as leading:
        await eventually(lambda: leading.health()["leads"])
        async with running_collector(make_context(queue_interval=0.1), BrokerConfig(url=redis_server)) as standing:
            await eventually(lambda: leading.health()["standbys"])
            with sending(redis_server, 1000.0) as sender:
                await flows(bus, 1000)
            found = await all_stored(bus, sender.sent)
            health = standing.health()
            assert not health["leads"]
            assert health["leader"] == leading.health()["leader"]
            assert health["received"] > 0
            assert health["published"] == 0
    assert doubled(found) == {}


async def test_a_time_in_which_no_collector_ran_is_told_as_a_gap(
    make_context: Callable[..., Context], bus: Bus, redis_server: str
) -> None:
    async with running_collector(make_context(), BrokerConfig(url=redis_server)) as service:
        await eventually(lambda: service.health()["leads"])
    (stopped, *_) = (await facts_of(bus, CollectorReported, "collector"))[-1:]
    await eventually(lambda: time.time() - stopped.seen > 1.5)
    async with running_collector(make_context(), BrokerConfig(url=redis_server)):
        (gap,) = await eventually(lambda: facts_of(bus, CollectorGap))
    assert gap.reason == "no-collector"
    assert gap.start == stopped.seen
    assert 1.5 < gap.end - gap.start < 6.0


async def test_collectors_of_one_cluster_that_read_two_brokers_are_warned_of(
    make_context: Callable[..., Context], bus: Bus, redis_server: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_collector(make_context(), BrokerConfig(url=redis_server)) as one:
        await eventually(lambda: one.health()["leads"])
        other = redis_server.replace("127.0.0.1", "localhost")
        async with running_collector(make_context(), BrokerConfig(url=other)):
            await eventually(lambda: "name them with --cluster" in caplog.text)
