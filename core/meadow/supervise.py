"""The collector as a child process: nothing that a page or the store does may stall the reader of events.

The parent writes one JSON document to the child's standard input: settings, NATS address, broker. Standard input
stays open; when it closes, the parent is gone and the child stops.
"""

import asyncio
import dataclasses
import logging
import os
import signal
import sys
from typing import Any

from msgspec import Struct

from meadow.broker import BrokerConfig
from meadow.child import parent_bound
from meadow.codec import decode, encode
from meadow.errors import MeadowError
from meadow.settings import OPTIONS, Settings

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 15.0
STOOD = 30.0
STOP_TIMEOUT = 6.0


class Orders(Struct, frozen=True):
    """What the child is told."""

    settings: dict[str, Any]
    broker: BrokerConfig


class CollectorChild:
    """Starts the collector process and starts it again when it ends."""

    def __init__(self, settings: Settings, nats_url: str, broker: BrokerConfig) -> None:
        plain = {
            name: value
            for name, value in dataclasses.asdict(dataclasses.replace(settings, format_task=None)).items()
            if not OPTIONS[name].file_only and value != float("inf")
        }
        # JSON has no infinity, and the collector has no use for histogram buckets.
        plain.pop("task_runtime_metric_buckets")
        plain["nats_url"] = nats_url
        self._orders = encode(Orders(plain, broker))
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def supervise(self) -> None:
        """Keep one child running until `stop`."""
        pause = FIRST_PAUSE
        loop = asyncio.get_running_loop()
        while not self._stopping:
            started = loop.time()
            process = await self._start()
            code = await process.wait()
            if self._stopping:
                return
            pause = FIRST_PAUSE if loop.time() - started > STOOD else min(pause * 2, LONGEST_PAUSE)
            log.error(
                "The collector process ended with %s and is started again in %.1f s.",
                code,
                pause,
                extra={"action": "collector.ended", "code": code},
            )
            await asyncio.sleep(pause)

    async def _start(self) -> asyncio.subprocess.Process:
        argv = parent_bound([sys.executable, "-m", "meadow.supervise"])
        process = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.PIPE, start_new_session=True)
        self._process = process
        if process.stdin is None:
            raise MeadowError("the collector process has no standard input")
        process.stdin.write(self._orders + b"\n")
        try:
            await process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            log.warning(
                "The collector process ended before it was told what to do.", extra={"action": "collector.ended"}
            )
        return process

    async def stop(self) -> None:
        """End the child in good order, by force when it takes too long. May be called twice."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await process.wait()
        except TimeoutError:
            log.warning(
                "The collector process did not stop in time and was killed.", extra={"action": "collector.killed"}
            )
            process.kill()
            await process.wait()


async def collect(orders: Orders) -> None:
    """Run the collector until SIGTERM, or until the parent is gone."""
    from contextlib import AsyncExitStack

    from meadow import interpreter, plugins
    from meadow.access.claims import Signer
    from meadow.access.gate import Gate
    from meadow.bus import Bus
    from meadow.composer import room
    from meadow.service import Context, Watch

    settings = Settings(**{name: _restore(value) for name, value in orders.settings.items()})
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_reader(0, _parent_spoke, loop, stopping)
    watch = Watch()
    async with AsyncExitStack() as stack:
        bus = await Bus.connect(settings.nats_url or "", name="meadow collector", patience=30.0)
        stack.push_async_callback(bus.close)
        manager, _ = plugins.load()
        # It serves no requests, so its gate signs nothing.
        gate = Gate(settings, (), Signer(os.urandom(32)), loopback=True)
        context = Context(settings=settings, bus=bus, plugins=manager, gate=gate, watch=watch)
        service = room("collector", "service").build(context, orders.broker)
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


def _restore(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def main() -> int:
    """The child's entry: read the orders from standard input and collect."""
    from meadow import logs

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    orders = decode(_read_line(), Orders)
    logs.configure(Settings(**{name: _restore(value) for name, value in orders.settings.items()}))
    try:
        asyncio.run(collect(orders))
    except MeadowError as exc:
        log.error("%s", exc, extra={"action": "collector.failed"})
        return 1
    return 0


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
    sys.exit(main())
