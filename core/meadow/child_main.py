"""A child process of Meadow's from its own side: `python -m meadow.child_main ROLE`, with orders on standard input.

It runs one service until SIGTERM, or until standard input closes, since then there is no parent any more.
"""

import asyncio
import logging
import os
import signal
import sys
from contextlib import AsyncExitStack
from typing import Any

import pluggy

from meadow import interpreter, logs, plugins
from meadow.bus import Bus
from meadow.codec import decode, encode
from meadow.errors import MeadowError
from meadow.rooms import CHILDREN
from meadow.service import Child, ChildContext, Watch
from meadow.settings import Settings
from meadow.supervise import Orders, Refusal

log = logging.getLogger(__name__)


async def serve(role: str, room: Any, orders: Orders, manager: pluggy.PluginManager, out: int | None) -> None:
    """Run what the room builds until the end; raises what failed."""
    settings = _settings(orders)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_reader(0, _parent_spoke, loop, stopping)
    watch = Watch()
    async with AsyncExitStack() as stack:
        bus = await Bus.connect(settings.nats_url or "", name=f"meadow {role}", patience=30.0)
        stack.push_async_callback(bus.close)
        context = ChildContext(settings=settings, bus=bus, plugins=manager, watch=watch, out=out)
        service: Child = room.build(context, orders.broker)
        stack.push_async_callback(watch.stop)
        watch.start("loop lag", watch.loop_lag.run())
        stack.push_async_callback(service.stop)
        await service.listen()
        await service.speak()
        interpreter.prepare()
        failed = asyncio.create_task(watch.failed(), name="watch for failures")
        asked = asyncio.create_task(stopping.wait(), name="wait for the end")
        await asyncio.wait({failed, asked}, return_when=asyncio.FIRST_COMPLETED)
        failed.cancel()
        asked.cancel()
    if watch.failure is not None:
        raise watch.failure


def _parent_spoke(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    if not os.read(0, 4096):  # the pipe is closed: there is no parent any more
        loop.remove_reader(0)
        stopping.set()


def _settings(orders: Orders) -> Settings:
    return Settings(**{name: _restore(value) for name, value in orders.settings.items()})


def _restore(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def main(role: str) -> int:
    """The child's entry."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    os.umask(0o077)
    # Who spawns it early gives it time to load.
    room = CHILDREN[role].room
    manager = plugins.load()[0] if CHILDREN[role].plugins else plugins.none()
    line = _read_line()
    if not line:  # it was not needed
        return 0
    orders = decode(line, Orders)
    logs.configure(_settings(orders))
    out = _take_standard_output() if orders.heard else None
    try:
        asyncio.run(serve(role, room, orders, manager, out))
    except MeadowError as exc:
        if out is not None:
            os.write(out, encode(Refusal(str(exc))) + b"\n")
        else:
            log.error("%s", exc, extra={"action": f"{role}.failed"})
        return 1
    return 0


def _take_standard_output() -> int:
    """Standard output for what the parent hears; what else is printed goes where the log goes."""
    out = os.dup(1)
    os.dup2(2, 1)
    return out


def _read_line() -> bytes:
    """One line from standard input, read without a buffer that would swallow what comes after it."""
    data = bytearray()
    while not data.endswith(b"\n"):
        piece = os.read(0, 65536)
        if not piece:
            break
        data += piece
    return bytes(data)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
