"""How long questions take at 100,000 tasks and more, asked over HTTP by one and by sixteen clients; Flower beside it.

The api runs as a process of its own on a store that the real Writer filled (`stores`), with its text index complete.
`--ingest` puts 2,000 events a second on the stream meanwhile. Clients share the machine with what they measure.
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import platform
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psutil
from tests.servers import free_port, running_redis

from benchmarks import stores
from benchmarks.monitors import FLOWER
from benchmarks.workload import NAMES
from meadow.testing import running_nats

SIZES = (100_000, 1_000_000)
CLIENTS = (1, 16)
ASKED = 60
MOST_SECONDS = 8.0
INGESTED = 2000
FLOWER_TASKS = 100_000
FLOWER_RATE = 1800
PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks-query.md"
HEAD = """| program | tasks | question | 1 client p50 / p95, ms | 16 clients p50 / p95, ms | processor ms each |
|---|---|---|---|---|---|"""


@dataclass
class Figures:
    """One question at one size."""

    program: str
    tasks: int
    question: str
    times: dict[int, list[float]] = field(default_factory=dict)
    failed: int = 0
    processor: float = 0.0

    def line(self) -> str:
        """A row of the table."""
        cells = [f"{_share(times, 0.5):.1f} / {_share(times, 0.95):.1f}" for times in self.times.values()]
        note = f" ({self.failed} failed)" if self.failed else ""
        each = f"{self.processor * 1000:.1f}"
        return f"| {self.program} | {self.tasks:,} | {self.question}{note} | {' | '.join(cells)} | {each} |"


def _share(times: Sequence[float], share: float) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


def questions(tasks: int, base: str) -> dict[str, str]:
    """Name and path of each question to Meadow."""
    middle = tasks // 2
    listed = "/api/v1/tasks?limit=100"
    one = _json(base, f"/api/v1/tasks?limit=1&q={quote(f'cust-{middle}@')}")["tasks"][0]
    before = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(one["received"]))
    deep = _json(base, f"{listed}&q={quote(f'received:<{before}')}")["next"]
    return {
        "newest 100": listed,
        "newest 100, Flower's path": "/api/tasks?limit=100",
        "newest 15, Flower's path": "/api/tasks?limit=15",
        "sorted by runtime": f"{listed}&sort=-runtime",
        "state + name": f"{listed}&state=FAILURE&name={NAMES[1]}",
        "state + name pattern": f"{listed}&q={quote('state:FAILURE name:shop.*')}",
        "rare substring": f"{listed}&q={quote(f'cust-{middle}@')}",
        "kwargs key": f"{listed}&q={quote(f'kwargs.customer:cust-{middle}@example.com')}",
        "no such text": f"{listed}&q=nothing-like-this",
        "deep page": f"{listed}&cursor={quote(deep)}",
        "task info": f"/api/task/info/{one['uuid']}",
        "stats of an hour": "/api/v1/stats?seconds=3600",
        "failures of a day": "/api/v1/failures",
    }


def flower_questions(base: str) -> dict[str, str]:
    """The same of Flower, where it has them."""
    uuid = next(iter(_json(base, "/api/tasks?limit=1")))
    middle = FLOWER_TASKS // 2

    def listed(**more: object) -> str:
        return "/api/tasks?" + urlencode({"limit": 100, **more})

    return {
        "newest 100": listed(),
        "newest 15": "/api/tasks?limit=15",
        "sorted by start": listed(sort_by="-started"),
        "state + name": listed(state="FAILURE", taskname=NAMES[1]),
        "rare substring": listed(search=f"cust-{middle}@"),
        "kwargs key": listed(search=f"kwargs:customer=cust-{middle}@example.com"),
        "deep page": listed(offset=middle),
        "task info": f"/api/task/info/{uuid}",
    }


def ask(base: str, path: str, clients: int) -> tuple[list[float], int]:
    """Seconds of each answer, and how many were none."""
    times: list[float] = []
    failed: list[int] = []
    left = iter(range(ASKED if clients == 1 else 2 * ASKED))
    lock, end = threading.Lock(), time.perf_counter() + MOST_SECONDS

    def client() -> None:
        connection = http.client.HTTPConnection(base, timeout=120)
        while time.perf_counter() < end:
            with lock:
                if next(left, None) is None:
                    break
            began = time.perf_counter()
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            times.append(time.perf_counter() - began)
            if answer.status != 200:
                failed.append(answer.status)
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times, len(failed)


def _measured(
    process: psutil.Process, program: str, tasks: int, base: str, asked: dict[str, str], clients: Sequence[int]
) -> Iterator[Figures]:
    for question, path in asked.items():
        ask(base, path, 1)
        figures = Figures(program, tasks, question)
        used = sum(process.cpu_times()[:2])
        for count in clients:
            figures.times[count], failed = ask(base, path, count)
            figures.failed += failed
        figures.processor = (sum(process.cpu_times()[:2]) - used) / sum(map(len, figures.times.values()))
        print(figures.line(), flush=True)
        yield figures


@contextlib.asynccontextmanager
async def meadow(directory: Path, tasks: int) -> AsyncIterator[tuple[str, str, psutil.Process]]:
    """The api on that store: its address, that of its NATS, and its process; its text index is complete."""
    with tempfile.TemporaryDirectory() as temporary:
        async with running_nats(Path(temporary)) as nats:
            port = free_port()
            argv = [sys.executable, "-m", "tests.integration.apps.api_process", nats.url, str(directory), str(port)]
            process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                await asyncio.to_thread(_wait, f"127.0.0.1:{port}", directory, tasks)
                yield f"127.0.0.1:{port}", nats.url, psutil.Process(process.pid)
            finally:
                process.terminate()
                process.wait()


def _wait(base: str, directory: Path, tasks: int) -> None:
    """Until the process answers, and its index holds all tasks."""
    while True:
        with contextlib.suppress(OSError):
            if _json(base, "/api/v1/tasks?limit=1")["tasks"]:
                break
        time.sleep(0.2)
    while _indexed(directory / "search.db") < tasks:
        time.sleep(0.5)


def _indexed(file: Path) -> int:
    with contextlib.closing(sqlite3.connect(file)) as index, contextlib.suppress(sqlite3.Error):
        return int(index.execute("SELECT value FROM state WHERE key = 'position'").fetchone()[0])
    return 0


async def _of_meadow(tasks: int, clients: Sequence[int], ingest: bool) -> list[str]:
    directory = await stores.filled(tasks)
    async with meadow(directory, tasks) as (base, nats, process):
        rested = process.memory_info().rss
        asked = await asyncio.to_thread(questions, tasks, base)
        found = [
            f.line()
            for f in await asyncio.to_thread(lambda: list(_measured(process, "Meadow", tasks, base, asked, clients)))
        ]
        if ingest:
            argv = [sys.executable, "-m", "benchmarks.stores", "publish", nats, str(INGESTED), "600"]
            load = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
            try:
                name = f"Meadow, {INGESTED:,} events/s beside"
                lines = await asyncio.to_thread(lambda: list(_measured(process, name, tasks, base, asked, clients)))
                found += [figures.line() for figures in lines]
            finally:
                load.kill()
                load.wait()
        sizes = stores.size_of(directory)
        each = sum(sizes.values()) / tasks
        memory = process.memory_info().rss
    note = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in sizes.items())
    found.append(
        f"\n{tasks:,} tasks: {each:.0f} bytes of disk each ({note}); the api's memory {rested / 1e6:.0f} MB at rest, "
        f"{memory / 1e6:.0f} MB after all questions\n"
    )
    print(found[-1], flush=True)
    return found


def _of_flower(clients: Sequence[int]) -> list[str]:
    """Flower with 100,000 tasks, which it takes some minutes to hear of."""
    port = free_port()
    with tempfile.TemporaryDirectory() as name, running_redis(Path(name)) as url:
        argv = [
            str(FLOWER),
            "-b",
            url,
            "flower",
            f"--port={port}",
            "--address=127.0.0.1",
            f"--max-tasks={FLOWER_TASKS}",
        ]
        flower = subprocess.Popen(
            argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={"FLOWER_UNAUTHENTICATED_API": "true"}
        )
        try:
            base = f"127.0.0.1:{port}"
            time.sleep(8)
            seconds = FLOWER_TASKS * stores.EVENTS_PER_TASK / FLOWER_RATE
            load = [sys.executable, "-m", "benchmarks.load", url, str(FLOWER_RATE), str(seconds)]
            subprocess.run(load, check=True, stdout=subprocess.DEVNULL)
            time.sleep(8)
            asked = flower_questions(base)
            found = [
                figures.line()
                for figures in _measured(psutil.Process(flower.pid), "Flower", FLOWER_TASKS, base, asked, clients)
            ]
            memory = psutil.Process(flower.pid).memory_info().rss
            found.append(f"\nFlower's memory: {memory / 1e6:.0f} MB\n")
            print(found[-1], flush=True)
            return found
        finally:
            flower.terminate()
            flower.wait()


def _json(base: str, path: str) -> Any:
    with urllib.request.urlopen(f"http://{base}{path}", timeout=60) as response:
        return json.loads(response.read())


async def measure(arguments: Sequence[str] = ()) -> None:
    """Print the table, and with `--write` put it into the docs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks query", description=__doc__)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of tasks, with commas between")
    parser.add_argument("--clients", default=",".join(map(str, CLIENTS)), help="how many ask at the same time")
    parser.add_argument("--ingest", action="store_true", help=f"also with {INGESTED:,} events a second beside")
    parser.add_argument("--flower", action="store_true", help="also Flower, with 100,000 tasks")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    given = parser.parse_args(list(arguments))
    clients = [int(count) for count in given.clients.split(",")]
    lines: list[str] = []
    print(HEAD)
    if given.flower:
        lines += await asyncio.to_thread(_of_flower, clients)
    for size in given.sizes.split(","):
        lines += await _of_meadow(int(size), clients, given.ingest)
    if given.write:
        PAGE.write_text(_document(arguments, lines))


def _document(arguments: Sequence[str], lines: Sequence[str]) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("meadow", "aiohttp", "SQLAlchemy"))
    return f"""# How long questions take

Measured by `python -m benchmarks query {" ".join(arguments)}` on {psutil.cpu_count()} cores,
{platform.system()} {platform.release()}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version},
{versions}. The clients run on the same machine. Compare figures of one run, not of several machines.

{HEAD}
{chr(10).join(lines)}"""
