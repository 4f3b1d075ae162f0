"""NATS refuses a batch: the stream is gone or full, or a message has become too large. The collector waits, says why,
and goes on when it can; what had to be given up is counted."""

import asyncio
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from nats.js import api

from meadow.broker import BrokerConfig
from meadow.bus import Bus, StreamLimits
from meadow.events import CollectorGap, TaskFailed, TaskStarted
from meadow.nats_server import find_binary
from meadow.service import Context
from meadow.subjects import EVENTS_STREAM
from meadow.testing import eventually
from meadow.testing import make_context as build_context
from tests.integration.apps.collector_stage import client_app, facts_of, running_collector, send_events
from tests.servers import free_port, operator, wait_for_port

MakeContext = Callable[..., Context]


async def send(url: str, events: list[dict[str, Any]]) -> None:
    app = client_app(url)
    await asyncio.to_thread(send_events, app, events)
    app.close()


def started(*uuids: str) -> list[dict[str, Any]]:
    return [{"type": "task-started", "uuid": uuid} for uuid in uuids]


async def test_a_deleted_stream_is_made_again_and_what_waited_for_it_is_stored(
    make_context: MakeContext, bus: Bus, redis_server: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_collector(make_context(), BrokerConfig(url=redis_server)) as service, operator(bus) as jetstream:
        await send(redis_server, started("before"))
        await eventually(lambda: service.health()["published"])
        await jetstream.delete_stream(EVENTS_STREAM)
        await send(redis_server, started("after"))

        async def after() -> bool:
            return "after" in [fact.uuid for fact in await facts_of(bus, TaskStarted)]

        await eventually(after, timeout=20.0)
    assert "Facts wait for NATS" in caplog.text
    assert "A stream is gone and is made again" in caplog.text
    assert service.health()["dropped"] == 0


async def test_a_reader_of_a_stream_that_was_made_again_hears_what_is_new(bus: Bus) -> None:
    heard: list[bytes] = []

    async def listen() -> None:
        async for messages in bus.read(EVENTS_STREAM, after=0, subject="meadow.events.>"):
            heard.extend(message.data for message in messages)

    listening = asyncio.create_task(listen())
    for number in range(3):
        await bus.append("meadow.events.c.tasks", b"old %d" % number)
    await eventually(lambda: len(heard) == 3)
    async with operator(bus) as jetstream:
        await jetstream.delete_stream(EVENTS_STREAM)
    await bus.declare_streams(StreamLimits())
    await bus.append("meadow.events.c.tasks", b"new")
    await eventually(lambda: heard[-1] == b"new", timeout=20.0)
    listening.cancel()


async def test_facts_wait_while_the_stream_is_full_and_may_not_forget(
    make_context: MakeContext, bus: Bus, redis_server: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_collector(make_context(), BrokerConfig(url=redis_server)) as service, operator(bus) as jetstream:
        await send(redis_server, started("before"))
        await eventually(lambda: facts_of(bus, TaskStarted))
        config = (await jetstream.stream_info(EVENTS_STREAM)).config
        held = (await jetstream.stream_info(EVENTS_STREAM)).state.messages
        await jetstream.update_stream(config.evolve(discard=api.DiscardPolicy.NEW, max_msgs=held))
        await send(redis_server, started("kept"))
        await eventually(lambda: "Facts wait for NATS" in caplog.text)
        assert "maximum messages exceeded" in caplog.text
        assert service.health()["ok"] is True
        await jetstream.update_stream(config)

        async def both() -> bool:
            return [fact.uuid for fact in await facts_of(bus, TaskStarted)] == ["before", "kept"]

        await eventually(both, timeout=20.0)
    assert service.health()["dropped"] == 0
    assert await facts_of(bus, CollectorGap) == []


@contextmanager
def nats_server(directory: Path, port: int, max_payload: int) -> Iterator[None]:
    """An operator's own nats-server on that port; it keeps its streams in `directory`."""
    config = directory / "nats.conf"
    config.write_text(
        f'listen: "127.0.0.1:{port}"\nmax_payload: {max_payload}\njetstream {{ store_dir: "{directory / "js"}" }}\n'
    )
    with (directory / "nats.log").open("ab") as log:
        process = subprocess.Popen([str(find_binary()), "-c", str(config)], stdout=log, stderr=log)
    try:
        wait_for_port(port, process)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


async def test_batches_that_have_become_too_large_are_divided_and_what_cannot_be_is_counted(
    redis_server: str, tmp_path: Path
) -> None:
    port = free_port()
    with nats_server(tmp_path, port, 1024 * 1024):
        bus = await Bus.connect(f"nats://127.0.0.1:{port}", name="test")
        await bus.declare_streams(StreamLimits())
        context = build_context(bus, tmp_path)
        running = running_collector(context, BrokerConfig(url=redis_server))
        service = await running.__aenter__()
        await send(redis_server, started("before"))
        await eventually(lambda: service.health()["published"])
    await eventually(lambda: not bus.connected)
    events = [
        {"type": "task-failed", "uuid": f"t{n}", "exception": "E()", "traceback": "x" * (40_000 if n == 7 else 2_000)}
        for n in range(40)
    ]
    await send(redis_server, events)
    await eventually(lambda: service.health()["received"] == 41)
    with nats_server(tmp_path, port, 16 * 1024):

        async def all_but_one() -> bool:
            return len(await facts_of(bus, TaskFailed)) == 39

        await eventually(all_but_one, timeout=30.0)
        (gap,) = await eventually(lambda: facts_of(bus, CollectorGap), timeout=20.0)
        uuids = {fact.uuid for fact in await facts_of(bus, TaskFailed)}
        await running.__aexit__(None, None, None)
        await context.watch.stop()
        await bus.close()
    assert uuids == {f"t{number}" for number in range(40)} - {"t7"}
    assert (gap.events, service.health()["dropped"]) == (1, 1)
