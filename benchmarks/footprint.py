"""Start-up time to the first served page, and memory of `meadow serve` with its child processes: at rest, and after
100,000 tasks (three events each) were published on Redis as a worker publishes them."""

import asyncio
import base64
import json
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import redis
from aiohttp import ClientError, ClientSession
from tests.journeys.stage import Meadow, Stage
from tests.servers import free_port, running_redis

from meadow.testing import eventually

TASKS = 100_000
RATE = 1000  # tasks a second
REST = 10.0


async def measure() -> None:
    """Print seconds and megabytes."""
    with tempfile.TemporaryDirectory() as name, running_redis(Path(name)) as broker:
        stage = Stage(Path(name), broker)
        try:
            await _measure(stage)
        finally:
            stage.close()


async def _measure(stage: Stage) -> None:
    port = free_port()
    began = time.perf_counter()
    process = stage.start("meadow", "serve", "-A", "shop", f"--port={port}")
    meadow = Meadow(process, f"http://127.0.0.1:{port}/")
    await eventually(lambda: _served(meadow), timeout=30)
    print(f"first page served {time.perf_counter() - began:.2f} s after the start")
    await asyncio.sleep(REST)
    print(f"at rest: {_memory(meadow)}")
    began = time.perf_counter()
    last = await asyncio.to_thread(_publish, stage.broker)
    await eventually(lambda: meadow.task_is(last, "SUCCESS"), timeout=300)
    print(f"{TASKS} tasks offered at {RATE}/s were stored after {time.perf_counter() - began:.1f} s")
    print(f"after {TASKS} tasks: {_memory(meadow)}")


async def _served(meadow: Meadow) -> bool:
    try:
        async with ClientSession() as session, session.get(meadow.url) as response:
            return response.status == 200
    except ClientError:
        return False


def _memory(meadow: Meadow) -> str:
    family = [psutil.Process(meadow.process.process.pid), *meadow.process.children()]
    sizes = {f"{p.name()}[{_role(p)}]": p.memory_info().rss / 1e6 for p in family}
    return f"{sum(sizes.values()):.0f} MB RSS (" + ", ".join(f"{n} {s:.0f}" for n, s in sizes.items()) + ")"


def _role(process: psutil.Process) -> str:
    line = " ".join(process.cmdline())
    return next((role for word, role in (("supervise", "collector"), ("nats", "nats")) if word in line), "serve")


def _publish(broker: str) -> str:
    client = redis.Redis.from_url(broker)
    last = ""
    began = time.monotonic()
    for number in range(TASKS):
        last = str(uuid.uuid4())
        client.publish("/0.celeryev/task.multi", _envelope(list(_life(last, number))))
        ahead = number / RATE - (time.monotonic() - began)
        if ahead > 0.01:
            time.sleep(ahead)
    return last


def _life(task: str, number: int) -> Iterator[dict[str, Any]]:
    common = {"hostname": "celery@worker-1", "utcoffset": 0, "pid": 4242, "clock": number, "uuid": task}
    described = {"name": f"shop.task{number % 8}", "args": f"({number},)", "kwargs": f"{{'customer': 'c-{number}'}}"}
    ends = {"result": "None", "runtime": 0.01}
    for kind, more in (("received", described), ("started", {}), ("succeeded", ends)):
        yield {**common, **more, "timestamp": time.time(), "type": f"task-{kind}"}


def _envelope(events: list[dict[str, Any]]) -> bytes:
    body = base64.b64encode(json.dumps(events).encode()).decode()
    return json.dumps(
        {
            "body": body,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"hostname": "celery@worker-1"},
            "properties": {
                "delivery_mode": 1,
                "delivery_info": {"exchange": "celeryev", "routing_key": "task.multi"},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid.uuid4()),
            },
        }
    ).encode()
