"""The doctor looks and tells; it changes nothing."""

import subprocess
from pathlib import Path

from meadow.bus import Bus, StreamLimits
from meadow.doctor import examine
from meadow.nats_server import find_binary
from meadow.settings import Settings
from meadow.subjects import EVENTS_STREAM
from tests.servers import free_port, operator, wait_for_port

MONTH = 30 * 86400.0


async def said_of(nats_url: str, directory: Path) -> str:
    """What the doctor says of a Meadow that uses this NATS."""
    said: list[str] = []
    settings = Settings(nats_url=nats_url, data_dir=str(directory), broker="memory://", port=0)
    assert not await examine(settings, said.append)  # no worker listens on such a broker
    return "\n".join(said)


async def test_the_streams_of_a_nats_that_is_in_use_keep_their_limits(bus: Bus, tmp_path: Path) -> None:
    await bus.declare_streams(StreamLimits(max_age=MONTH))
    assert f"ok    NATS           {bus.url.partition('@')[0].rpartition(':')[0]}:***@" in await said_of(
        bus.url, tmp_path
    )
    async with operator(bus) as jetstream:
        assert (await jetstream.stream_info(EVENTS_STREAM)).config.max_age == MONTH


async def test_a_nats_without_jetstream_is_told_with_what_to_do(tmp_path: Path) -> None:
    port = free_port()
    with (tmp_path / "nats.log").open("ab") as log:
        server = subprocess.Popen([str(find_binary()), "-a", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log)
    try:
        wait_for_port(port, server)
        said = await said_of(f"nats://127.0.0.1:{port}", tmp_path)
    finally:
        server.terminate()
        server.wait()
    assert "FAIL  NATS           This NATS has no JetStream." in said
    assert "→ Start it with 'nats-server -js'" in said
