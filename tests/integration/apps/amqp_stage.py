"""What the tests of the AMQP adapter share: the management API, and a sender of many events."""

import asyncio
import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import amqp

from tests.integration.apps.sender import NumberedSender, Send
from tests.servers import RabbitMQ


def ask(server: RabbitMQ, path: str, method: str = "GET", body: dict[str, Any] | None = None) -> Any:
    """Use the management API as a person would."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{urlsplit(server.api).port}/api/{path}",
        method=method,
        data=json.dumps(body).encode() if body is not None else None,
        headers={
            "Authorization": "Basic " + base64.b64encode(b"guest:guest").decode(),
            "Content-Type": "application/json",
        },
    )
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
        data = answer.read()
    return json.loads(data) if data else None


async def our_queue(server: RabbitMQ, cluster: str, vhost: str = "/") -> dict[str, Any]:
    """What the management API says of the cluster's queue; empty when there is none."""
    queues = await asyncio.to_thread(ask, server, f"queues/{quote(vhost, safe='')}")
    return next((queue for queue in queues if queue["name"].startswith(f"meadow.{cluster}.")), {})


async def cut_connections(server: RabbitMQ) -> int:
    """Close what reads events, as an operator can; gives how many that were."""

    def cut() -> int:
        number = 0
        for connection in ask(server, "connections"):
            name = connection.get("client_properties", {}).get("connection_name", "")
            if not name.startswith("Meadow events"):
                continue
            try:
                ask(server, f"connections/{quote(connection['name'])}", "DELETE")
                number += 1
            except urllib.error.HTTPError as exc:
                exc.close()
                if exc.code != 404:
                    raise
        return number

    return await asyncio.to_thread(cut)


def started(uuid: str, **fields: Any) -> dict[str, Any]:
    """An event as a worker sends it."""
    return {
        "type": "task-started",
        "uuid": uuid,
        "hostname": "w1@stage",
        "pid": 7,
        "clock": 1,
        "timestamp": time.time(),
        "utcoffset": 0,
    } | fields


def publish(url: str, bodies: Sequence[Any], content_type: str = "application/json", key: str = "task.multi") -> None:
    """Publish bodies (bytes as they are, anything else as JSON) to the event exchange."""
    with connected(url) as channel:
        for body in bodies:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            channel.basic_publish(amqp.Message(data, content_type=content_type), "celeryev", key)


@contextmanager
def connected(url: str) -> Iterator[Any]:
    """A channel of a connection of one's own."""
    with amqp.Connection(f"127.0.0.1:{urlsplit(url).port}") as connection:
        channel = connection.channel()
        channel.exchange_declare("celeryev", "topic", durable=True, auto_delete=False)
        yield channel


def sending(url: str, rate: float) -> NumberedSender:
    """Sends events `e0`, `e1`, … in lists of two."""

    @contextmanager
    def connect() -> Iterator[Send]:
        with connected(url) as channel:

            def send(numbers: list[int]) -> None:
                for pair in zip(numbers[::2], numbers[1::2], strict=True):
                    events = [started(f"e{number}", clock=number) for number in pair]
                    message = amqp.Message(json.dumps(events).encode(), content_type="application/json")
                    channel.basic_publish(message, "celeryev", "task.multi")

            yield send

    return NumberedSender(connect, rate)
