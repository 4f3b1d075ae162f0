"""NATS is away for longer than memory lasts: on Redis, events wait in a file where there may be one."""

import asyncio
import logging
import os
import resource
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import redis

from meadow.broker import BrokerConfig
from meadow.bus import Bus, StreamLimits
from meadow.events import CollectorGap, TaskFailed
from meadow.nats_server import EmbeddedNats
from meadow.settings import Settings
from meadow.testing import eventually, make_context, running_nats
from meadow_collector.service import CollectorService
from meadow_collector.spill import Spill
from tests.integration.apps.collector_stage import facts_of, running_collector
from tests.integration.apps.standby_stage import collector_process, envelope, event, leader, stands_by

MIB = 1024 * 1024
MEMORY = 4 * MIB
SIZE = 20_000
"""Bytes of each event, nearly all of them its traceback."""


def send(url: str, numbers: range, rate: float = float("inf")) -> None:
    """Publish large events of these numbers, at most at that rate."""
    client = redis.Redis.from_url(url)
    start = time.monotonic()
    for sent, number in enumerate(numbers):
        time.sleep(max(start + sent / rate - time.monotonic(), 0.0))
        body = {**event(number), "type": "task-failed", "exception": "E()", "traceback": "x" * SIZE}
        client.publish("/0.celeryev/task.failed", envelope(body))
    client.close()


async def stored(bus: Bus) -> list[int]:
    """The numbers of the events that the stream holds, in its order."""
    return [int(fact.uuid[1:]) for fact in await facts_of(bus, TaskFailed, "tasks")]


async def all_stored(bus: Bus, numbers: set[int]) -> None:
    async def there() -> bool:
        return set(await stored(bus)) >= numbers

    await eventually(there, timeout=40.0, every=0.2)


class Stage:
    """A collector with little memory, and the NATS that it publishes to."""

    def __init__(self, server: EmbeddedNats, bus: Bus, service: CollectorService, url: str) -> None:
        self.server = server
        self.bus = bus
        self.service = service
        self._url = url

    async def send(self, numbers: range) -> None:
        """Send events, and wait until the collector has them."""
        before = self.service.health()["received"]
        await asyncio.to_thread(send, self._url, numbers)
        await eventually(lambda: self.service.health()["received"] == before + len(numbers), timeout=30.0)

    async def send_slowly(self, numbers: range) -> None:
        """Send events no faster than the file takes them."""
        for first in range(numbers.start, numbers.stop, 50):
            await self.send(range(first, min(first + 50, numbers.stop)))
            await eventually(lambda: self.service.health()["buffered_bytes"] <= MEMORY // 2)


@asynccontextmanager
async def stage(url: str, directory: Path, spill_bytes: int = 64 * MIB) -> AsyncIterator[Stage]:
    """NATS goes as soon as the first event is stored."""
    async with running_nats(directory / "nats") as server:
        bus = await Bus.connect(server.url, name="test")
        await bus.declare_streams(StreamLimits())
        context = make_context(bus, directory, buffer_bytes=MEMORY, spill_bytes=spill_bytes, queue_interval=3600.0)
        try:
            async with running_collector(context, BrokerConfig(url=url)) as service:
                await eventually(lambda: service.health()["leads"])
                send(url, range(1))
                await all_stored(bus, {0})
                await server.stop()
                await eventually(lambda: not bus.connected)
                yield Stage(server, bus, service, url)
        finally:
            await context.watch.stop()
            await bus.close()


async def test_more_than_memory_holds_waits_in_a_file_and_nothing_is_lost_or_doubled_or_turned_round(
    redis_server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with stage(redis_server, tmp_path) as on:
        await on.send_slowly(range(1, 700))
        health = on.service.health()
        assert health["spilled_bytes"] > 8 * MIB
        assert health["buffered"] >= 699
        assert f"Events wait in a file in {tmp_path / 'spill'}" in caplog.text
        assert list((tmp_path / "spill").iterdir()) == []  # it has no name, so nothing can be left behind
        await on.server.start()
        await eventually(lambda: on.service.health()["spilled_bytes"] < health["spilled_bytes"], timeout=20.0)
        await on.send_slowly(range(700, 800))  # what comes meanwhile waits for what came before
        await all_stored(on.bus, set(range(800)))
        assert await stored(on.bus) == list(range(800))
        await eventually(lambda: on.service.health()["buffered"] == 0)
        assert on.service.health()["spilled_bytes"] == 0
        assert on.service.health()["dropped"] == 0
        await eventually(lambda: "No events wait in a file any more." in caplog.text)
        assert await facts_of(on.bus, CollectorGap) == []


async def test_a_full_file_gives_up_the_oldest_and_counts_them(redis_server: str, tmp_path: Path) -> None:
    async with stage(redis_server, tmp_path, spill_bytes=16 * MIB) as on:
        await on.send_slowly(range(1, 1300))
        assert on.service.health()["spilled_bytes"] <= 16 * MIB
        await on.server.start()
        await eventually(lambda: on.service.health()["buffered"] == 0, timeout=40.0)
        dropped = on.service.health()["dropped"]
        await all_stored(on.bus, {1299})
        numbers = await stored(on.bus)
        gaps = await facts_of(on.bus, CollectorGap, "collector")
    assert dropped > 100
    assert sum(gap.events or 0 for gap in gaps) == dropped
    assert {gap.reason for gap in gaps} == {"buffer-full"}
    missing = sorted(set(range(1300)) - set(numbers))
    assert missing == list(range(missing[0], missing[0] + dropped))
    assert numbers == sorted(set(numbers))


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """As if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_full_disk_is_told_and_what_then_does_not_fit_is_counted(
    redis_server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with stage(redis_server, tmp_path) as on:
        with files_no_larger_than(2 * MIB):
            await on.send(range(1, 500))
            await eventually(lambda: "Events cannot wait in a file" in caplog.text)
        assert "Make room there" in caplog.text
        await on.server.start()
        await eventually(lambda: on.service.health()["buffered"] == 0, timeout=40.0)
        await all_stored(on.bus, {499})
        numbers = await stored(on.bus)
        dropped = on.service.health()["dropped"]
        gaps = await facts_of(on.bus, CollectorGap, "collector")
    assert dropped > 50
    assert sum(gap.events or 0 for gap in gaps) == dropped == 500 - len(numbers)
    assert numbers == sorted(set(numbers))
    assert len(numbers) > 90  # what the disk had taken is not lost


async def test_a_directory_that_cannot_be_written_is_told_at_the_start(
    redis_server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "spill").write_text("no directory")
    async with stage(redis_server, tmp_path) as on:
        await eventually(lambda: f"Events cannot wait in a file in {tmp_path / 'spill'}" in caplog.text)
        await on.send(range(1, 500))
        await on.server.start()
        await all_stored(on.bus, {499})
        assert on.service.health()["dropped"] == 500 - len(await stored(on.bus))


async def test_a_standby_publishes_from_its_file_what_a_killed_leader_had_in_its_own(
    redis_server: str, tmp_path: Path
) -> None:
    settings = Settings(data_dir=str(tmp_path), buffer_bytes=MEMORY, spill_bytes=64 * MIB)
    async with running_nats(tmp_path / "nats") as server:
        bus = await Bus.connect(server.url, name="test")
        await bus.declare_streams(StreamLimits())
        async with (
            collector_process(server.url, redis_server, settings) as one,
            collector_process(server.url, redis_server, settings) as other,
        ):
            await stands_by(bus)
            await asyncio.to_thread(send, redis_server, range(100))
            await all_stored(bus, set(range(100)))
            killed = await leader(bus, one, other)
            await server.stop()
            await asyncio.to_thread(send, redis_server, range(100, 500), 250.0)
            pid = killed.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await asyncio.to_thread(send, redis_server, range(500, 600), 250.0)
            await eventually(lambda: killed.pid not in (None, pid))  # it is back, and has heard nothing of all this
            await server.start()
            await all_stored(bus, set(range(600)))
            gaps = await facts_of(bus, CollectorGap)
        found = Counter(await stored(bus))
        await bus.close()
    assert gaps == []
    assert found == dict.fromkeys(range(600), 1)


def test_blocks_go_round_in_the_file_and_the_oldest_make_room(tmp_path: Path) -> None:
    spill: Spill[int] = Spill(tmp_path / "spill", limit=100)
    gone: list[int] = []
    for number in range(50):
        size = 10 + number % 7 * 5
        gone += spill.make_room(size)
        spill.write(bytes([number]) * size, number)
        assert spill.bytes <= 100
        if number % 11 == 10:
            block = spill.oldest
            assert block is not None
            assert spill.read(block) == bytes([block.about]) * block.size
            gone.append(spill.drop())
    assert gone == list(range(len(gone)))  # the oldest first, none left out
    while (block := spill.oldest) is not None:
        assert spill.read(block) == bytes([block.about]) * block.size
        gone.append(spill.drop())
    assert gone == list(range(50))
    spill.shrink()
    assert spill.bytes == 0
    with pytest.raises(OSError, match="more than the file may take"):
        spill.write(b"x" * 101, 0)
    spill.close()
