"""The store cannot be written for a while: the api says so, pages answer from what is there, and nothing is lost."""

import resource
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from meadow.bus import Bus
from meadow.testing import eventually
from tests.integration.api_service import publish, task_events
from tests.servers import free_port

WAITS = "Reading MEADOW_EVENTS has to wait"
GOES_ON = "Reading MEADOW_EVENTS goes on"
BEFORE, MEANWHILE = 50, 400


@dataclass
class Api:
    """An api in a process of its own."""

    process: subprocess.Popen[bytes]
    log: Path
    store: Path
    client: aiohttp.ClientSession

    def said(self, words: str) -> int:
        """How often its log has these words."""
        return self.log.read_text().count(words)

    async def get(self, path: str) -> tuple[int, Any]:
        try:
            async with self.client.get(path) as response:
                return response.status, await response.json(content_type=None)
        except aiohttp.ClientConnectorError:
            assert self.process.poll() is None, self.log.read_text()
            return 0, {}

    async def tasks(self) -> int:
        status, tasks = await self.get("/api/tasks")
        assert status in (0, 200), tasks
        return len(tasks)

    async def is_well(self) -> bool:
        return (await self.get("/api/v1/health"))[0] == 200

    async def complaint(self) -> str:
        """What its health says is wrong."""
        status, health = await self.get("/api/v1/health")
        return str(health["error"] or "") if status == 503 else ""


@pytest.fixture
async def api(bus: Bus, tmp_path: Path) -> AsyncIterator[Api]:
    """An api that has some tasks already."""
    port, log = free_port(), tmp_path / "api.log"
    command = [sys.executable, "-m", "tests.integration.apps.api_process", bus.url, str(tmp_path), str(port)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", timeout=aiohttp.ClientTimeout(5)) as client:
            started = Api(process, log, tmp_path / "store.db", client)
            await publish_tasks(bus, 0, BEFORE)
            await eventually(lambda: has(started, BEFORE), timeout=30.0)
            yield started
            assert process.poll() is None, log.read_text()
    finally:
        process.kill()
        process.wait()


async def publish_tasks(bus: Bus, first: int, count: int) -> None:
    """Each task in a batch of its own."""
    for number in range(first, first + count):
        await publish(bus, *task_events(number))


async def has(api: Api, count: int) -> bool:
    return await api.tasks() == count


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """Another program holds the write lock."""
    with closing(sqlite3.connect(store, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


@contextmanager
def full(api: Api) -> Iterator[None]:
    """No file of the keeper's may grow any more, as on a full disk."""
    (process,) = psutil.Process(api.process.pid).children()
    unlimited = process.rlimit(resource.RLIMIT_FSIZE)
    largest = max(path.stat().st_size for path in api.store.parent.glob("store.db*"))
    process.rlimit(resource.RLIMIT_FSIZE, (largest, unlimited[1]))
    yield
    process.rlimit(resource.RLIMIT_FSIZE, unlimited)


@asynccontextmanager
async def trouble(api: Api, bus: Bus) -> AsyncIterator[None]:
    """While this goes on tasks arrive; when it is over, all of them are there, each once."""
    await publish_tasks(bus, BEFORE, MEANWHILE)
    yield
    assert api.said(WAITS) == 1, api.log.read_text()
    assert api.said(GOES_ON) == 0
    assert await api.tasks() < BEFORE + MEANWHILE


async def everything_arrives_once(api: Api) -> None:
    await eventually(lambda: has(api, BEFORE + MEANWHILE), timeout=30.0)
    await eventually(api.is_well, timeout=10.0)
    assert api.said(GOES_ON) == 1
    with closing(sqlite3.connect(f"file:{api.store}?mode=ro", uri=True)) as connection:
        counts = connection.execute("SELECT type, count FROM worker_counts ORDER BY type").fetchall()
        assert counts == [(kind, BEFORE + MEANWHILE) for kind in ("task-received", "task-started", "task-succeeded")]
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_a_store_that_another_program_locks_is_waited_for(api: Api, bus: Bus) -> None:
    with locked(api.store):
        async with trouble(api, bus):
            complaint = await eventually(api.complaint, timeout=30.0, every=0.2)
            assert "lock" in complaint
    await everything_arrives_once(api)


async def test_a_full_disk_is_waited_for(api: Api, bus: Bus) -> None:
    with full(api):
        async with trouble(api, bus):
            assert await eventually(api.complaint, timeout=30.0, every=0.2)
    await everything_arrives_once(api)
