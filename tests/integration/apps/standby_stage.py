"""What the tests of several collectors on one Redis share: processes, a sender of many events, and who leads."""

import asyncio
import base64
import json
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from urllib.parse import urlsplit

import redis

from meadow.broker import BrokerConfig
from meadow.bus import Bus
from meadow.codec import decode
from meadow.events import CollectorReported
from meadow.settings import Settings
from meadow.subjects import EVENTS_STREAM
from meadow.supervise import ChildProcess
from meadow.testing import eventually
from meadow_collector.fence import Term
from tests.integration.apps.collector_stage import facts_of
from tests.integration.apps.sender import NumberedSender, Send, counted

TERM = "meadow.events.default.term"


def sending(url: str, rate: float) -> NumberedSender:
    """Publishes events `e0`, `e1`, … as a worker does, in lists of two."""

    @contextmanager
    def connect() -> Iterator[Send]:
        with redis.Redis.from_url(url) as client:

            def send(numbers: list[int]) -> None:
                pipeline = client.pipeline(transaction=False)
                for pair in zip(numbers[::2], numbers[1::2], strict=True):
                    pipeline.publish("/0.celeryev/task.multi", envelope([event(number) for number in pair]))
                pipeline.execute()

            yield send

    return NumberedSender(connect, rate)


class Proxy:
    """A way to Redis that can be cut and stays cut. `url` leads through it."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target).port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open = [self._listener]
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Close everything, and take no new connection."""
        for sock in self._open:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def running_proxy(target: str) -> Iterator[Proxy]:
    """A proxy in front of the server at the URL `target`."""
    proxy = Proxy(target)
    try:
        yield proxy
    finally:
        proxy.cut()


def event(number: int) -> dict[str, object]:
    """The event of that number, as a worker sends it."""
    return {
        "type": "task-started",
        "uuid": f"e{number}",
        "hostname": "w1@stage",
        "pid": 7,
        "clock": number + 1,
        "timestamp": time.time(),
        "utcoffset": 0,
    }


def envelope(body: object) -> bytes:
    """A message as kombu publishes it on Redis."""
    return json.dumps(
        {
            "body": base64.b64encode(json.dumps(body).encode()).decode(),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {},
            "properties": {"body_encoding": "base64"},
        }
    ).encode()


@asynccontextmanager
async def collector_process(
    nats_url: str, redis_url: str, settings: Settings | None = None
) -> AsyncIterator[ChildProcess]:
    """A collector in a process of its own, as `meadow serve` runs it; one that was killed is started again."""
    child = ChildProcess("collector", settings or Settings(data_dir="unused"), nats_url, BrokerConfig(url=redis_url))
    supervising = asyncio.create_task(child.supervise())
    try:
        yield child
    finally:
        if child.pid is not None:
            os.kill(child.pid, signal.SIGCONT)
        await child.stop()
        await supervising


async def term(bus: Bus) -> Term:
    """Who published last, by the newest fence in the stream."""
    message = await bus.last_on(EVENTS_STREAM, TERM)
    assert message is not None
    return decode(message.data, Term)


async def leader(bus: Bus, *children: ChildProcess) -> ChildProcess:
    """The one of these that leads."""
    name = (await term(bus)).collector
    (found,) = [child for child in children if name.endswith(f"-{child.pid}")]
    return found


async def stands_by(bus: Bus, number: int = 1) -> None:
    """Wait until the leader reports that many standbys."""

    async def told() -> bool:
        reports = await facts_of(bus, CollectorReported, "collector")
        return bool(reports) and len(reports[-1].standbys) == number

    await eventually(told, timeout=30.0, every=0.1)


async def flows(bus: Bus, events: int) -> None:
    """Wait until that many more events are stored."""
    before = sum((await counted(bus)).values())

    async def enough() -> bool:
        return sum((await counted(bus)).values()) >= before + events

    await eventually(enough, timeout=40.0, every=0.1)
