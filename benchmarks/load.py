"""`python -m benchmarks.load BROKER RATE SECONDS [FIRST]`: publish events at that rate and print a JSON line.

Runs in a process of its own, so that the measured process and its measurer are not slowed by it. What it says it has
sent, the broker has taken. FIRST is the number of the first round of traffic, so that two runs have different tasks.
"""

import json
import socket
import sys
import time
from urllib.parse import urlsplit

import amqp

from benchmarks.replay import Replay
from benchmarks.workload import amqp_frames, redis_command


class RedisWriter:
    """Writes PUBLISH commands and asks for no answers."""

    encode = staticmethod(redis_command)
    in_base64 = True

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port))
        self._socket.sendall(b"*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$3\r\nOFF\r\n")

    def send(self, data: bytes) -> None:
        """Write; Redis slows the socket down when it cannot follow."""
        self._socket.sendall(data)

    def finish(self) -> None:
        """Wait until Redis has done everything."""
        self._socket.sendall(b"*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$2\r\nON\r\n")
        if self._socket.recv(64) != b"+OK\r\n":
            raise SystemExit("Redis did not take everything.")


class AmqpWriter:
    """Writes frames that were encoded before onto py-amqp's socket."""

    encode = staticmethod(amqp_frames)
    in_base64 = False

    def __init__(self, host: str, port: int, user: str, password: str) -> None:
        patient = {socket.TCP_USER_TIMEOUT: 0}  # RabbitMQ does not listen to a publisher that is too fast
        self._connection = amqp.Connection(f"{host}:{port}", userid=user, password=password, socket_settings=patient)
        self._connection.connect()
        self._channel = self._connection.channel(1)
        self._channel.exchange_declare("celeryev", "topic", durable=True, auto_delete=False)
        self._socket = self._connection.transport.sock
        self._socket.setblocking(True)

    def send(self, data: bytes) -> None:
        """Write; RabbitMQ slows the socket down when it cannot follow."""
        self._socket.sendall(data)

    def finish(self) -> None:
        """Close the channel: RabbitMQ answers when it has routed all that came before."""
        self._channel.close()
        self._connection.close()


def writer_for(url: str) -> RedisWriter | AmqpWriter:
    """Opens the broker of this URL."""
    broker = urlsplit(url)
    if broker.hostname not in ("127.0.0.1", "localhost"):
        raise SystemExit("Load goes to this machine only.")
    if broker.scheme == "redis":
        return RedisWriter(broker.hostname, broker.port or 6379)
    return AmqpWriter(broker.hostname, broker.port or 5672, broker.username or "guest", broker.password or "guest")


def main() -> None:
    """Publish and report."""
    rate, seconds = float(sys.argv[2]), float(sys.argv[3])
    first = int(sys.argv[4]) if len(sys.argv) > 4 else 0
    writer = writer_for(sys.argv[1])
    size = max(1, min(100, int(rate / 100)))
    chunks = Replay(writer.encode, size, first=first, encoded_in_base64=writer.in_base64).chunks()
    sent = about_tasks = 0
    began = time.perf_counter()
    while sent < rate * seconds:
        ahead = began + sent / rate - time.perf_counter()
        if ahead > 0:
            time.sleep(ahead)
        chunk = next(chunks)
        writer.send(chunk.data)
        sent += chunk.events
        about_tasks += chunk.about_tasks
    writer.finish()
    took = time.perf_counter() - began
    used = time.process_time()
    print(json.dumps({"events": sent, "task_events": about_tasks, "seconds": took, "rate": sent / took, "cpu": used}))


if __name__ == "__main__":
    main()
