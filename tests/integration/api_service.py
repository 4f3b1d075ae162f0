"""A running api on a real bus, and events to feed it with."""

import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec import Struct

from meadow import queries, subjects
from meadow.bus import Bus
from meadow.codec import decode, encode, encode_batch
from meadow.events import AnyFact, TaskReceived, TaskStarted, TaskSucceeded, WorkerHeartbeat
from meadow.http import build_application
from meadow.service import Context
from meadow.testing import eventually
from meadow_api.service import ApiService, build

A = TypeVar("A", bound=Struct)

CLUSTER = "default"
MakeContext = Callable[..., Context]


@asynccontextmanager
async def running_api(context: Context) -> AsyncIterator[ApiService]:
    """The service, listening and speaking, with a connection of its own as in a process of its own."""
    bus = await Bus.connect(context.bus.url, name="api")
    service = build(replace(context, bus=bus))
    try:
        await service.listen()
        await service.speak()
        yield service
    finally:
        await service.stop()
        await bus.close()


@asynccontextmanager
async def serving(context: Context) -> AsyncIterator[tuple[ApiService, aiohttp.ClientSession]]:
    """The service with its HTTP routes behind the gate, and a client for them."""
    async with running_api(context) as service:
        application: web.Application = build_application(context.settings, context.gate, [service])
        async with TestServer(application) as server, aiohttp.ClientSession(server.make_url("/")) as client:
            yield service, client


async def publish(bus: Bus, *facts: AnyFact, cluster: str = CLUSTER, kind: str = subjects.TASKS) -> int:
    """Put one batch on the stream."""
    return await bus.append(subjects.events(cluster, kind), encode_batch(cluster, "collector-1", facts))


async def ask(bus: Bus, name: str, type_: type[A], **fields: Any) -> A:
    """Ask as web does."""
    kind, _ = queries.QUERIES[name]
    data = await bus.ask(subjects.query(name), encode(kind(**{"cluster": CLUSTER, **fields})), timeout=10.0)
    return decode(data, type_)


async def stored(service: ApiService, sequence: int) -> None:
    """Wait until the store holds everything up to that message."""
    await eventually(lambda: service.health()["streams"][subjects.EVENTS_STREAM]["position"] >= sequence)


def task_events(number: int, *, worker: str = "w1@h", name: str = "proj.add", at: float | None = None) -> list[AnyFact]:
    """A task that is received, starts and succeeds."""
    at = time.time() if at is None else at
    base = {"uuid": f"task-{number}", "hostname": worker, "seen": at, "pid": 7}
    return [
        TaskReceived(
            **base, timestamp=at, clock=1, name=name, args=f"({number},)", kwargs="{}", root_id=f"task-{number}"
        ),
        TaskStarted(**base, timestamp=at + 0.1, clock=2),
        TaskSucceeded(**base, timestamp=at + 0.2, clock=3, result=str(number), runtime=0.1),
    ]


def heartbeat(worker: str = "w1@h", *, at: float | None = None, **more: Any) -> WorkerHeartbeat:
    """A worker says that it lives."""
    at = time.time() if at is None else at
    return WorkerHeartbeat(hostname=worker, timestamp=at, seen=at, clock=next(_clock), active=0, processed=1, **more)


_clock = itertools.count(1)
