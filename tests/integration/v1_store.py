"""A served api with a history to ask /api/v1 about."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from yarl import URL

from meadow import subjects
from meadow.events import AnyFact, TaskFailed, TaskReceived, TaskRevoked, TaskSent, TaskStarted, TaskSucceeded
from meadow_api.service import ApiService
from tests.integration.api_service import MakeContext, heartbeat, publish, serving, stored

NOW = 1_795_381_962.0
AT_ONCE = 100
ODD_ID = "odd/id with ünïcode?#%"

TRACEBACK = """Traceback (most recent call last):
  File "/usr/lib/python3/site-packages/celery/app/trace.py", line 453, in trace_task
    R = retval = fun(*args, **kwargs)
  File "/srv/{release}/proj/tasks.py", line {line}, in charge
    pay(client)
  File "/srv/{release}/proj/bank.py", line {line}, in pay
    raise Declined(client)
proj.bank.Declined: client {client}
"""


def task(number: int, *, name: str = "proj.add", worker: str = "w1@h", at: float = NOW, **more: Any) -> list[AnyFact]:
    """A task that was sent, received, started and succeeded, `number` seconds after `at`."""
    at += number
    base = {"uuid": more.pop("uuid", f"task-{number}"), "seen": at, "timestamp": at}
    details = {"name": name, "args": f"({number},)", "kwargs": "{}", "root_id": base["uuid"], **more}
    of_worker = {**base, "hostname": worker, "pid": 7}
    return [
        TaskSent(**base, hostname="gen1@web", clock=1, queue="high" if number % 2 else "low", **details),
        TaskReceived(**{**of_worker, "timestamp": at + 0.1}, clock=2, **details),
        TaskStarted(**{**of_worker, "timestamp": at + 0.2}, clock=3),
        TaskSucceeded(**{**of_worker, "timestamp": at + 0.3}, clock=4, result=str(number), runtime=0.1),
    ]


def failed(
    number: int, client: int, *, at: float, worker: str = "w1@h", name: str = "proj.charge", release: str = "r1"
) -> list[AnyFact]:
    """A task that failed at `at`, always for the same reason, whatever differs in its texts."""
    base = {"uuid": f"failed-{number}", "hostname": worker, "seen": at, "pid": 7}
    return [
        TaskReceived(**base, timestamp=at - 2, clock=5, name=name, args=f"({client},)", kwargs="{}"),
        TaskFailed(
            **base,
            timestamp=at,
            clock=6,
            exception=f"Declined('client {client}')",
            traceback=TRACEBACK.format(line=client, client=client, release=release),
        ),
    ]


def family() -> list[AnyFact]:
    """A workflow: a root with two children, one of which has a child; a fourth was called by a task nobody knows."""
    facts: list[AnyFact] = []
    for number, (uuid, parent) in enumerate(
        [("root", None), ("left", "root"), ("right", "root"), ("grandchild", "left"), ("orphan", "stranger")]
    ):
        facts += task(100 + number, uuid=uuid, name="proj.step", root_id="root", parent_id=parent)
    facts.append(
        TaskRevoked(uuid="right", hostname="w1@h", seen=NOW, timestamp=NOW + 500, clock=9, pid=7, terminated=True)
    )
    return facts


@asynccontextmanager
async def telling(
    make_context: MakeContext, *facts: AnyFact, **settings: Any
) -> AsyncIterator[tuple[ApiService, aiohttp.ClientSession]]:
    """The service with those facts in its store, and a client."""
    context = make_context(**settings)
    async with serving(context) as (service, client):
        if facts:
            await publish(context.bus, heartbeat("w1@h"), kind=subjects.WORKERS)
            for begin in range(0, len(facts), AT_ONCE):
                last = await publish(context.bus, *facts[begin : begin + AT_ONCE])
            await stored(service, last)
        yield service, client


async def get(client: aiohttp.ClientSession, path: str, **query: Any) -> tuple[int, Any]:
    """Status and JSON of `/api/v1/<path>`."""
    async with client.get(f"/api/v1/{path}", params={k: str(v) for k, v in query.items()}) as response:
        assert response.content_type == "application/json", (response.status, await response.text())
        return response.status, json.loads(await response.text())


async def get_as_written(client: aiohttp.ClientSession, url: str) -> tuple[int, Any]:
    """Status and JSON of `/api/v1/<url>`, which is sent as it is written here."""
    async with client.get(URL(f"/api/v1/{url}", encoded=True)) as response:
        return response.status, json.loads(await response.text())
