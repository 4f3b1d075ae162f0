"""`python -m benchmarks.load BROKER RATE SECONDS [FIRST]`: publish events at that rate and print a JSON line.

Runs in a process of its own, so that the measured process and its measurer are not slowed by it.
"""

import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import amqp

from benchmarks.workload import Workload, amqp_frames, redis_command

EVENTS_PER_TASK = 4.2
MOST_AHEAD = 5000


class RedisWriter:
    """Pipelines PUBLISH commands and counts the answers."""

    encode = staticmethod(redis_command)

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port))
        self._sent = self._answered = 0
        threading.Thread(target=self._drain, daemon=True).start()

    def send(self, data: bytes, messages: int) -> None:
        """Write, waiting while too much is unanswered."""
        self._sent += messages
        self._socket.sendall(data)
        while self._sent - self._answered > MOST_AHEAD:
            time.sleep(0.0005)

    def finish(self) -> None:
        """Wait until Redis has answered everything."""
        while self._answered < self._sent:
            time.sleep(0.002)

    def _drain(self) -> None:
        while data := self._socket.recv(1 << 16):
            self._answered += data.count(b"\r\n")


class AmqpWriter:
    """Writes frames that were encoded before onto py-amqp's socket."""

    encode = staticmethod(amqp_frames)

    def __init__(self, host: str, port: int, user: str, password: str) -> None:
        self._connection = amqp.Connection(f"{host}:{port}", userid=user, password=password)
        self._connection.connect()
        channel = self._connection.channel(1)
        channel.exchange_declare("celeryev", "topic", durable=True, auto_delete=False)
        self._socket = self._connection.transport.sock
        self._socket.setblocking(True)

    def send(self, data: bytes, messages: int) -> None:
        """Write; RabbitMQ slows the socket down when it cannot follow."""
        self._socket.sendall(data)

    def finish(self) -> None:
        """Everything is written."""


def chunks(encode: Callable[..., bytes], tasks: int, first: int, size: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Bytes to write at once, with how many events, events about tasks and messages they hold."""
    data: list[bytes] = []
    events = about_tasks = 0
    for message in Workload().messages(tasks, first):
        data.append(encode(message))
        events += message.events
        about_tasks += message.events if message.about_tasks else 0
        if events >= size:
            yield b"".join(data), events, about_tasks, len(data)
            data, events, about_tasks = [], 0, 0
    if data:
        yield b"".join(data), events, about_tasks, len(data)


def main() -> None:
    """Publish and report."""
    broker, rate, seconds = urlsplit(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    first = int(sys.argv[4]) if len(sys.argv) > 4 else 0
    if broker.hostname not in ("127.0.0.1", "localhost"):
        raise SystemExit("Load goes to this machine only.")
    writer: RedisWriter | AmqpWriter
    if broker.scheme == "redis":
        writer = RedisWriter(broker.hostname, broker.port or 6379)
    else:
        writer = AmqpWriter(
            broker.hostname, broker.port or 5672, broker.username or "guest", broker.password or "guest"
        )
    size = max(1, min(64, int(rate / 100)))
    prepared = list(chunks(writer.encode, int(rate * seconds / EVENTS_PER_TASK), first, size))
    sent = about_tasks = 0
    began = time.perf_counter()
    for data, events, tasks, messages in prepared:
        ahead = began + sent / rate - time.perf_counter()
        if ahead > 0:
            time.sleep(ahead)
        writer.send(data, messages)
        sent += events
        about_tasks += tasks
    writer.finish()
    took = time.perf_counter() - began
    print(json.dumps({"events": sent, "task_events": about_tasks, "seconds": took, "rate": sent / took}))


if __name__ == "__main__":
    main()
