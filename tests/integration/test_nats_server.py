"""The private nats-server: it starts, is Meadow's alone, and goes when Meadow goes, even when Meadow is killed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from meadow.bus import Bus, StreamLimits
from meadow.data_directory import DataDirectoryLock
from meadow.errors import BusUnavailable, DataDirectoryInUse, StartRefused
from meadow.nats_server import EmbeddedNats, find_binary
from meadow.subjects import EVENTS_STREAM, events
from meadow.testing import eventually, running_nats

HOLDER = """
import asyncio, sys
from pathlib import Path
from meadow.data_directory import DataDirectoryLock
from meadow.nats_server import EmbeddedNats, find_binary

async def main():
    directory = Path(sys.argv[1])
    with DataDirectoryLock(directory):
        server = EmbeddedNats(directory / "nats", find_binary())
        await server.start()
        print(server.pid, server.url, flush=True)
        await asyncio.sleep(3600)

asyncio.run(main())
"""


@contextmanager
def holding(directory: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, str]]:
    """A process that owns the directory and its NATS: the process, the server's pid, its URL."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(directory)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            pid, url = process.stdout.readline().split()
            yield process, int(pid), url.decode()
        finally:
            process.kill()


async def test_it_asks_for_its_password() -> None:
    async with running_nats() as server:
        bus = await Bus.connect(server.url, name="right")
        assert bus.connected
        await bus.close()
        bare = server.url.rpartition("@")[2]
        with pytest.raises(BusUnavailable, match="cannot be reached"):
            await Bus.connect(f"nats://{bare}", name="wrong")


async def test_it_dies_with_a_meadow_that_is_killed_and_the_next_one_may_start(tmp_path: Path) -> None:
    with holding(tmp_path) as (process, pid, url):
        bus = await Bus.connect(url, name="before")
        await bus.declare_streams(StreamLimits())
        await bus.append(events("c", "tasks"), b"kept")
        await bus.close()
        process.kill()
        process.wait()
        await eventually(lambda: not psutil.pid_exists(pid))
    with holding(tmp_path) as (_, _, url):
        bus = await Bus.connect(url, name="after")
        assert (await bus.stream_state(EVENTS_STREAM)).last == 1
        await bus.close()


async def test_a_second_meadow_on_the_same_directory_is_refused_by_name(tmp_path: Path) -> None:
    with (
        holding(tmp_path) as (process, _, _),
        pytest.raises(DataDirectoryInUse, match=rf"process {process.pid}.*--data-dir"),
    ):
        DataDirectoryLock(tmp_path).acquire()


async def test_a_killed_server_comes_back_on_its_port_and_the_bus_goes_on(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path, find_binary())
    await server.start()
    supervised = asyncio.create_task(server.supervise())
    bus = await Bus.connect(server.url, name="test")
    try:
        await bus.declare_streams(StreamLimits())
        await bus.append(events("c", "tasks"), b"one")
        before, url = server.pid, server.url
        assert before is not None
        os.kill(before, signal.SIGKILL)
        await eventually(lambda: server.pid not in (None, before))
        assert server.url == url

        async def stored() -> bool:
            try:
                return await bus.append(events("c", "tasks"), b"two", timeout=1.0) == 2
            except BusUnavailable:
                return False

        await eventually(stored)
    finally:
        await bus.close()
        await server.stop()
        await supervised


async def test_what_nats_says_when_it_cannot_start_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match=r"stopped at once"):
        await EmbeddedNats(tmp_path, Path("/bin/false")).start()
    with pytest.raises(StartRefused, match="--nats-server"):
        find_binary("no-such-program")


def test_a_directory_that_cannot_be_written_is_refused_with_the_option_to_change(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartRefused, match="--data-dir"):
        DataDirectoryLock(tmp_path / "file" / "below").acquire()
