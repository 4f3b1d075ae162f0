"""Real Redis servers and sentinels, a line to cut between them and a reader, and a reader that remembers."""

import asyncio
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from meadow.broker import BrokerAdapter, BrokerConfig, EventSource, JsonBodies
from meadow.errors import BrokerUnavailable, InvalidEvent
from meadow.event_body import JSON, decode_body
from meadow.testing import eventually
from tests.servers import free_port, program, wait_for_port


@contextmanager
def running_redis_with(directory: Path, port: int, *options: str) -> Iterator[None]:
    """A redis-server without persistence on that port, with more options of its own."""
    argv = [program("redis-server"), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(directory)]
    argv += options if "--port" in options else ["--port", str(port), *options]
    with _running(argv, directory / f"redis-{port}.log", port):
        yield


@contextmanager
def running_sentinel(directory: Path, master_port: int, *, quorum: int = 1) -> Iterator[int]:
    """A sentinel that watches the master `shop`; gives its port."""
    port = free_port()
    conf = directory / f"sentinel-{port}.conf"
    conf.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {directory}\nsentinel resolve-hostnames yes\n"
        f"sentinel monitor shop 127.0.0.1 {master_port} {quorum}\n"
        "sentinel down-after-milliseconds shop 500\nsentinel failover-timeout shop 2000\n",
        encoding="utf-8",
    )
    with _running([program("redis-server"), str(conf), "--sentinel"], directory / f"sentinel-{port}.log", port):
        yield port


@contextmanager
def _running(argv: list[str], log_file: Path, port: int) -> Iterator[None]:
    with log_file.open("ab") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        wait_for_port(port, process)
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def connected_client(url: str, **options: Any) -> "Iterator[redis.Redis]":
    """A client that is closed afterwards."""
    client = redis.Redis.from_url(url, **options)
    try:
        yield client
    finally:
        client.close()


@dataclass
class Heard:
    """What a source has said so far, over all its connections."""

    source: EventSource
    bodies: list[Any] = field(default_factory=list)
    discarded: list[tuple[str, str]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    connections: int = 0

    @property
    def events(self) -> list[Any]:
        """All events, one by one."""
        return [event for body in self.bodies for event in (body if isinstance(body, list) else [body])]

    @property
    def uuids(self) -> list[str]:
        """The tasks that the events are about, in the order of their arrival."""
        return [event["uuid"] for event in self.events]

    def deliver(self, body: Any, seen: float, *_: Any, **__: Any) -> None:
        """Remember it, decoded."""
        if not isinstance(body, JsonBodies):
            self.bodies.append(body)
            return
        for data in body.bodies:
            try:
                self.bodies.append(decode_body(data, JSON, accept_pickle=False))
            except InvalidEvent as exc:
                self.discard(exc.reason, str(exc))

    def discard(self, reason: str, detail: str) -> None:
        """Remember it."""
        self.discarded.append((reason, detail))

    def connected(self, **_: Any) -> None:
        """Count it."""
        self.connections += 1


@asynccontextmanager
async def listening(source: EventSource, *, patience: float = 15.0) -> AsyncIterator[Heard]:
    """A source that runs in a thread and has connected; when its connection is lost, it is run again."""
    heard = Heard(source)
    stopping = threading.Event()

    def work() -> None:
        while not stopping.is_set():
            try:
                source.run(heard.deliver, heard.discard, heard.connected)
            except BrokerUnavailable as exc:
                heard.errors.append(str(exc))
                stopping.wait(0.05)

    thread = threading.Thread(target=work, name="listening", daemon=True)
    thread.start()
    try:
        await eventually(lambda: heard.connections, timeout=patience)
        yield heard
    finally:
        stopping.set()
        source.stop()
        await asyncio.to_thread(thread.join, 10.0)
        assert not thread.is_alive()


def refusal(adapter: BrokerAdapter, config: BrokerConfig) -> str:
    """Why the broker's events cannot be read."""
    source = adapter.events(config)
    heard = Heard(source)

    def connected(**_: Any) -> None:
        source.stop()

    try:
        source.run(heard.deliver, heard.discard, connected)
    except BrokerUnavailable as exc:
        return str(exc)
    raise AssertionError("the events can be read")


class Line:
    """A line from a port of its own to a server, which can go silent or be cut after some bytes."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._ends: list[socket.socket] = []
        self._silent = threading.Event()
        self.cut_after: int | None = None
        threading.Thread(target=self._accept, name="line", daemon=True).start()

    def silence(self) -> None:
        """Pass nothing on from now on, and say nothing."""
        self._silent.set()

    def speak(self) -> None:
        """Pass on again what comes from now on; what came meanwhile is lost."""
        self._silent.clear()

    def close(self) -> None:
        """End the line and all that goes over it."""
        for end in (self._listening, *self._ends):
            _hang_up(end)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            self._ends += [near, far]
            threading.Thread(target=self._pass_on, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(far, near, True), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, to_reader: bool) -> None:
        try:
            while data := source.recv(65536):
                if self._silent.is_set():
                    continue
                if to_reader and self.cut_after is not None:
                    data, self.cut_after = data[: self.cut_after], self.cut_after - len(data)
                    target.sendall(data)
                    if self.cut_after <= 0:
                        self.cut_after = None
                        break
                    continue
                target.sendall(data)
        except OSError:
            pass  # the other end hung up
        _hang_up(source)
        _hang_up(target)


def _hang_up(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it had ended before
    sock.close()


@contextmanager
def running_line(port: int) -> Iterator[Line]:
    """A line to the server on that port."""
    line = Line(port)
    try:
        yield line
    finally:
        line.close()
