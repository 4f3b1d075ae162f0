"""For tests, Meadow's own and those of plugins: a real bus, a context, and waiting without sleeping."""

import asyncio
import dataclasses
import inspect
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pluggy

from meadow import plugins
from meadow.access.claims import Signer
from meadow.access.gate import Gate
from meadow.bus import Bus, StreamLimits
from meadow.nats_server import EmbeddedNats, find_binary
from meadow.service import Context, Watch
from meadow.settings import Settings

T = TypeVar("T")

KEY = b"a key that is used in tests only"


async def eventually(condition: Callable[[], T | Awaitable[T]], *, timeout: float = 10.0, every: float = 0.02) -> T:
    """Wait until `condition()` (a function or coroutine function) gives something true, and give it.

    Raises AssertionError after `timeout` seconds, with the last value or the last AssertionError.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    while True:
        problem: object
        try:
            value = condition()
            result = await value if inspect.isawaitable(value) else value
            if result:
                return result
            problem = result
        except AssertionError as exc:
            problem = exc
        if loop.time() > end:
            raise AssertionError(f"still not so after {timeout:g} s: {problem!r}")
        await asyncio.sleep(every)


@asynccontextmanager
async def running_nats(directory: Path | None = None) -> AsyncIterator[EmbeddedNats]:
    """A real nats-server of one's own, in `directory` or a temporary one."""
    with tempfile.TemporaryDirectory(prefix="meadow-nats-") as temporary:
        server = EmbeddedNats(directory or Path(temporary), find_binary())
        await server.start()
        try:
            yield server
        finally:
            await server.stop()


@asynccontextmanager
async def running_bus() -> AsyncIterator[Bus]:
    """A bus on a real nats-server of one's own, with Meadow's streams."""
    async with running_nats() as server:
        bus = await Bus.connect(server.url, name="test")
        try:
            await bus.declare_streams(StreamLimits())
            yield bus
        finally:
            await bus.close()


def make_context(bus: Bus, data_dir: Path, **settings: Any) -> Context:
    """A context for building one service: real plugins, a gate that asks nobody to sign in."""
    chosen = dataclasses.replace(Settings(), data_dir=str(data_dir), **settings)
    manager: pluggy.PluginManager = plugins.load()[0]
    sign_ins = [s for group in manager.hook.register_sign_in(settings=chosen) for s in group]
    gate = Gate(chosen, sign_ins, Signer(KEY), loopback=True)
    return Context(settings=chosen, bus=bus, plugins=manager, gate=gate, watch=Watch())
