"""Realistic event traffic: field sets, list lengths and wire forms as a prefork worker of Celery 5.7 sends them.

85 % of the tasks succeed, 10 % fail with a nine-line traceback, 5 % are retried once: 4.2 events a task. `task-sent`
goes out alone, workers' events in `task.multi` lists of one to three.
"""

import base64
import json
import random
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

NAMES = tuple(
    f"shop.{name}"
    for name in ("orders.process", "orders.reserve", "payments.charge", "mail.send", "search.index", "reports.build")
)
TRACEBACK = """Traceback (most recent call last):
  File "/srv/shop/lib/python3.11/site-packages/celery/app/trace.py", line 564, in trace_task
    R = retval = fun(*args, **kwargs)
                 ^^^^^^^^^^^^^^^^^^^^
  File "/srv/shop/lib/python3.11/site-packages/celery/app/trace.py", line 883, in __protected_call__
    return self.run(*args, **kwargs)
           ^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/srv/shop/shop/payments/tasks.py", line 118, in charge
    raise CardDeclined('card declined')
shop.payments.errors.CardDeclined: card declined
"""
IN_FLIGHT = 80
HEARTBEAT_EVERY = 400

Event = dict[str, Any]


@dataclass(frozen=True)
class Message:
    """One message on the event exchange."""

    routing_key: str
    hostname: str
    body: bytes
    events: int
    about_tasks: bool
    beat: Event | None = None
    """The event, where it is a worker's about itself."""


@dataclass
class Workload:
    """Deterministic traffic of some workers; `seed` makes the ids.

    `task_id` stands for the first characters of each id, `timestamp` for each time, where they are put in later.
    """

    workers: int = 10
    seed: int = 1
    task_id: str | None = None
    timestamp: str | None = None
    _random: random.Random = field(init=False)
    _clock: int = 1000

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._hosts = [f"celery@worker-{n:02d}.prod.example.com" for n in range(self.workers)]
        self._processed = [0] * self.workers

    @property
    def accepted(self) -> dict[str, int]:
        """How many tasks each worker has accepted so far."""
        return dict(zip(self._hosts, self._processed, strict=True))

    def messages(self, tasks: int, first: int = 0) -> Iterator[Message]:
        """The messages of that many tasks, interleaved as in life."""
        waiting: list[list[Event]] = [[] for _ in range(self.workers)]
        most = [1] * self.workers
        for worker, event in self._interleaved(tasks, first):
            if event["type"].startswith("worker"):
                yield worker_message(event)
                continue
            if worker is None:
                yield _message("task.sent", event["hostname"], event, 1)
                continue
            waiting[worker].append(event)
            if len(waiting[worker]) >= most[worker]:
                yield _message("task.multi", self._hosts[worker], waiting[worker], len(waiting[worker]))
                waiting[worker] = []
                most[worker] = self._random.choice((1, 1, 2, 2, 3))
        for worker, events in enumerate(waiting):
            if events:
                yield _message("task.multi", self._hosts[worker], events, len(events))

    def _interleaved(self, tasks: int, first: int) -> Iterator[tuple[int | None, Event]]:
        for worker in range(self.workers):
            yield worker, self._heartbeat(worker, "worker-online")
        live: list[Iterator[tuple[int | None, Event]]] = []
        following, end, count = first, first + tasks, 0
        while live or following < end:
            while len(live) < IN_FLIGHT and following < end:
                live.append(self._task(following))
                following += 1
            place = count % len(live)
            found = next(live[place], None)
            if found is None:
                live[place] = live[-1]
                live.pop()
                continue
            yield found
            count += 1
            if count % HEARTBEAT_EVERY == 0:
                worker = count // HEARTBEAT_EVERY % self.workers
                yield worker, self._heartbeat(worker, "worker-heartbeat")

    def _task(self, number: int) -> Iterator[tuple[int | None, Event]]:
        begin = f"{number * 2654435761 % 2**32:08x}"
        begin = begin if self.task_id is None else self.task_id + begin[len(self.task_id) :]
        uuid = f"{begin}-{self.seed & 0xFFFF:04x}-4000-a000-{number:012x}"
        worker = self._random.randrange(self.workers)
        chance = self._random.random()
        described = {
            "name": NAMES[number % len(NAMES)],
            "args": f"({100000 + number},)",
            "kwargs": f"{{'customer': 'cust-{number}@example.com', 'items': [{{'sku': 'A-{number % 5000}', 'qty': "
            f"{number % 7 + 1}}}], 'currency': 'EUR', 'region': 'eu-{number % 12}'}}",
            "root_id": uuid,
            "parent_id": None,
            "eta": None,
            "expires": None,
        }
        retried = chance < 0.05
        for attempt in (0, 1) if retried else (0,):
            sent = {"queue": "celery", "exchange": "", "routing_key": "celery", "retries": attempt}
            yield None, self._event(f"gen{number % 4}@web-{number % 4}", 4000, "task-sent", uuid, described | sent)
            self._processed[worker] += 1
            yield worker, self._by(worker, "task-received", uuid, described | {"retries": attempt})
            yield worker, self._by(worker, "task-started", uuid, {})
            if retried and attempt == 0:
                trouble = {"exception": "ConnectionError('smtp down')", "traceback": TRACEBACK}
                yield worker, self._by(worker, "task-retried", uuid, trouble)
        if not retried and chance < 0.15:
            trouble = {"exception": "CardDeclined('card declined')", "traceback": TRACEBACK}
            yield worker, self._by(worker, "task-failed", uuid, trouble)
        else:
            done = {"result": f"{{'order_id': {number}, 'status': 'ok'}}", "runtime": self._random.expovariate(8)}
            yield worker, self._by(worker, "task-succeeded", uuid, done)

    def _by(self, worker: int, kind: str, uuid: str, more: Event) -> Event:
        return self._event(self._hosts[worker], 20000 + worker, kind, uuid, more)

    def _event(self, host: str, pid: int, kind: str, uuid: str, more: Event) -> Event:
        self._clock += 1
        head = {"hostname": host, "utcoffset": 0, "pid": pid, "clock": self._clock, "uuid": uuid}
        return head | more | {"timestamp": self.timestamp or time.time(), "type": kind}

    def _heartbeat(self, worker: int, kind: str) -> Event:
        self._clock += 1
        return {
            "hostname": self._hosts[worker],
            "utcoffset": 0,
            "pid": 20000 + worker,
            "clock": self._clock,
            "freq": 2.0,
            "active": 4,
            "processed": self._processed[worker],
            "loadavg": [0.69, 0.46, 0.23],
            "sw_ident": "py-celery",
            "sw_ver": "5.7.0",
            "sw_sys": "Linux",
            "timestamp": time.time(),
            "type": kind,
        }


def _message(routing_key: str, hostname: str, content: Any, events: int) -> Message:
    return Message(routing_key, hostname, json.dumps(content).encode(), events, about_tasks=True)


def worker_message(event: Event) -> Message:
    """A worker's event about itself, which goes out alone."""
    key, body = event["type"].replace("-", "."), json.dumps(event).encode()
    return Message(key, event["hostname"], body, 1, about_tasks=False, beat=event)


def redis_command(message: Message, database: int = 0) -> bytes:
    """PUBLISH with kombu's envelope, in RESP."""
    channel = f"/{database}.celeryev/{message.routing_key}".encode()
    envelope = (
        f'{{"body": "{base64.b64encode(message.body).decode()}", "content-encoding": "utf-8", '
        f'"content-type": "application/json", "headers": {{"hostname": "{message.hostname}"}}, "properties": '
        f'{{"delivery_mode": 1, "delivery_info": {{"exchange": "celeryev", "routing_key": "{message.routing_key}"}}, '
        '"priority": 0, "body_encoding": "base64", "delivery_tag": "00000000-cf92-40c3-a740-72d6b2513474"}}'
    ).encode()
    head = b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%s\r\n$%d\r\n" % (len(channel), channel, len(envelope))
    return head + envelope + b"\r\n"


def amqp_frames(message: Message, channel: int = 1, frame_max: int = 131072) -> bytes:
    """Basic.Publish to `celeryev` with header and body frames (AMQP 0-9-1, section 4.2)."""

    def frame(kind: int, payload: bytes) -> bytes:
        return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"

    exchange, key, host = b"celeryev", message.routing_key.encode(), message.hostname.encode()
    method = struct.pack(">HHH", 60, 40, 0) + bytes([len(exchange)]) + exchange + bytes([len(key)]) + key + b"\0"
    table = b"\x08hostnameS" + struct.pack(">I", len(host)) + host
    properties = struct.pack(">H", 0xF800) + b"\x10application/json\x05utf-8"
    properties += struct.pack(">I", len(table)) + table + b"\x01\x00"
    header = struct.pack(">HHQ", 60, 0, len(message.body)) + properties
    step = frame_max - 8
    bodies = (frame(3, message.body[at : at + step]) for at in range(0, len(message.body), step))
    return frame(1, method) + frame(2, header) + b"".join(bodies)
