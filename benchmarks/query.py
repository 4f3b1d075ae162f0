"""How long questions take at 100,000 tasks and more, asked over HTTP by one and by sixteen clients; Flower beside it.

The api runs as a process of its own on a store that the real Writer filled (`stores`), with its text index complete.
`--ingest` puts 2,000 events a second on the stream meanwhile. Clients share the machine with what they measure: one
thread that reads sixteen connections stands for them. No two questions are the same, unless it says so, since Meadow
answers equal ones once: another customer, another task, or another number of characters to show.
"""

import argparse
import asyncio
import contextlib
import json
import platform
import re
import selectors
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psutil
from tests.servers import free_port, running_postgres, running_redis

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


Question = Callable[[int], str]
"""The path to ask for, a different one for each number."""


def questions(tasks: int, base: str) -> dict[str, Question]:
    """Each question to Meadow by its name."""
    middle = tasks // 2
    one = _first_found(base, f"cust-{middle}@")
    before = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(one["received"]))
    deep = _json(base, f"/api/v1/tasks?limit=100&q={quote(f'received:<{before}')}")["next"]
    uuids = [task["uuid"] for task in _json(base, f"/api/v1/tasks?limit=500&cursor={quote(deep)}&fields=uuid")["tasks"]]

    def listed(**more: object) -> Question:
        return lambda number: "/api/v1/tasks?" + urlencode({"limit": 100, "text": 500 + number, **more})

    def searched(pattern: str) -> Question:
        return lambda number: "/api/v1/tasks?" + urlencode({"limit": 100, "q": pattern.format(middle + 37 * number)})

    return {
        "newest 100": listed(),
        "newest 100, all ask the same": lambda _: "/api/v1/tasks?limit=100",
        "newest 100, Flower's path": lambda _: "/api/tasks?limit=100",
        "newest 15, Flower's path": lambda _: "/api/tasks?limit=15",
        "sorted by runtime": listed(sort="-runtime"),
        "state + name": listed(state="FAILURE", name=NAMES[1]),
        "state + name pattern": listed(q="state:FAILURE name:shop.*"),
        "rare substring": searched("cust-{}@"),
        "kwargs key": searched("kwargs.customer:cust-{}@example.com"),
        "no such text": searched("nothing-like-{}"),
        "deep page": listed(cursor=deep),
        "task info": lambda number: f"/api/task/info/{uuids[number % len(uuids)]}",
        "stats of an hour": lambda number: f"/api/v1/stats?seconds={3600 + number}",
        "failures of a day": lambda number: f"/api/v1/failures?seconds={86_400 - number}",
    }


def _first_found(base: str, text: str) -> dict[str, Any]:
    """A task with this text, once the index is used: until then time may be up before it is found."""
    while True:
        tasks = _json(base, f"/api/v1/tasks?limit=1&q={quote(text)}")["tasks"]
        if tasks:
            return dict(tasks[0])
        time.sleep(0.5)


def flower_questions(base: str) -> dict[str, Question]:
    """The same of Flower, where it has them."""
    uuid = next(iter(_json(base, "/api/tasks?limit=1")))
    middle = FLOWER_TASKS // 2

    def listed(**more: object) -> Question:
        return lambda _: "/api/tasks?" + urlencode({"limit": 100, **more})

    return {
        "newest 100": listed(),
        "newest 15": lambda _: "/api/tasks?limit=15",
        "sorted by start": listed(sort_by="-started"),
        "state + name": listed(state="FAILURE", taskname=NAMES[1]),
        "rare substring": listed(search=f"cust-{middle}@"),
        "kwargs key": listed(search=f"kwargs:customer=cust-{middle}@example.com"),
        "deep page": listed(offset=middle),
        "task info": lambda _: f"/api/task/info/{uuid}",
    }


class Client:
    """One connection, which asks the next question when it has its answer. `at` is when the last one was sent."""

    def __init__(self, base: str) -> None:
        host, _, port = base.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._base = base
        self._left = -1
        self.status = b""
        self.at = 0.0

    def ask(self, path: str) -> None:
        """Send the question."""
        self._left = -1
        self.at = time.perf_counter()
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: {self._base}\r\n\r\n".encode())

    def read(self) -> bool:
        """Read what has come; whether it was the answer's end. Its head comes in one piece."""
        data = self.socket.recv(262_144)
        if not data:
            raise ConnectionError("The answer broke off.")
        if self._left < 0:
            head, _, data = data.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            if length is None:
                raise ConnectionError(f"The answer has no length: {head!r}")
            self._left, self.status = int(length[1]), head.split()[1]
        self._left -= len(data)
        return self._left == 0


def ask(base: str, question: Question, clients: int, first: int = 0) -> tuple[list[float], int]:
    """Seconds of each answer, and how many were none. Questions are numbered from `first`."""
    times: list[float] = []
    failed = 0
    numbers = iter(range(first, first + ASKED * (1 if clients == 1 else 4)))
    end = time.perf_counter() + MOST_SECONDS
    with selectors.DefaultSelector() as selector:
        for _ in range(clients):
            client = Client(base)
            selector.register(client.socket, selectors.EVENT_READ, client)
            client.ask(question(next(numbers)))
        while selector.get_map():
            for key, _ in selector.select():
                client = key.data
                if not client.read():
                    continue
                times.append(time.perf_counter() - client.at)
                failed += client.status != b"200"
                number = next(numbers, None) if time.perf_counter() < end else None
                if number is None:
                    selector.unregister(client.socket)
                    client.socket.close()
                else:
                    client.ask(question(number))
    return times, failed


def _measured(
    process: psutil.Process, program: str, tasks: int, base: str, asked: dict[str, Question], clients: Sequence[int]
) -> Iterator[Figures]:
    for name, question in asked.items():
        ask(base, question, 1)
        figures = Figures(program, tasks, name)
        used, first = sum(process.cpu_times()[:2]), ASKED
        for count in clients:
            figures.times[count], failed = ask(base, question, count, first)
            figures.failed += failed
            first += len(figures.times[count])
        figures.processor = (sum(process.cpu_times()[:2]) - used) / sum(map(len, figures.times.values()))
        print(figures.line(), flush=True)
        yield figures


@contextlib.asynccontextmanager
async def meadow(
    directory: Path, indexed: Callable[[], bool], store: str | None = None
) -> AsyncIterator[tuple[str, str, psutil.Process]]:
    """The api on that store: its address, that of its NATS, and its process; its text index is complete."""
    with tempfile.TemporaryDirectory() as temporary:
        async with running_nats(Path(temporary)) as nats:
            port = free_port()
            argv = [sys.executable, "-m", "tests.integration.apps.api_process", nats.url, str(directory), str(port)]
            argv += [store] if store else []
            process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                await asyncio.to_thread(_wait, f"127.0.0.1:{port}", indexed)
                yield f"127.0.0.1:{port}", nats.url, psutil.Process(process.pid)
            finally:
                process.terminate()
                process.wait()


def _wait(base: str, indexed: Callable[[], bool]) -> None:
    """Until the process answers, and its index holds all tasks."""
    while True:
        with contextlib.suppress(OSError):
            if _json(base, "/api/v1/tasks?limit=1")["tasks"]:
                break
        time.sleep(0.2)
    while not indexed():
        time.sleep(0.5)


def _indexed(file: Path) -> int:
    with contextlib.closing(sqlite3.connect(file)) as index, contextlib.suppress(sqlite3.Error):
        return int(index.execute("SELECT value FROM state WHERE key = 'position'").fetchone()[0])
    return 0


async def _of_meadow(tasks: int, clients: Sequence[int], ingest: bool) -> list[str]:
    directory = await stores.filled(tasks)
    async with meadow(directory, lambda: _indexed(directory / "search.db") >= tasks) as (base, nats, process):
        rested = _memory(process)
        found = await _asked("Meadow", tasks, clients, base, nats, process, ingest=ingest)
        sizes = stores.size_of(directory)
        memory = _memory(process)
    note = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in sizes.items())
    return [*found, _sizes(tasks, sum(sizes.values()), note, rested, memory)]


async def _of_postgres(tasks: int, clients: Sequence[int], ingest: bool) -> list[str]:
    """The same on a PostgreSQL, which shares the machine, too."""
    with running_postgres() as server:
        url = server.fresh()
        directory = await stores.filled(tasks, url)
        indexed = "SELECT count(*) FROM pg_index WHERE indisvalid AND indexrelid = to_regclass('tasks_text')"
        async with meadow(directory, lambda: server.first(url, indexed) == 1, url) as (base, nats, process):
            server.first(url, "VACUUM ANALYZE")
            rested = _memory(process)
            found = await _asked("Meadow, PostgreSQL", tasks, clients, base, nats, process, ingest=ingest)
            memory = _memory(process)
            size = server.first(url, "SELECT pg_database_size(current_database())")
    return [*found, _sizes(tasks, size, "PostgreSQL's own memory comes on top", rested, memory)]


def _memory(process: psutil.Process) -> int:
    """Of the api and of its keeper."""
    return sum(each.memory_info().rss for each in (process, *process.children()))


async def _asked(
    program: str,
    tasks: int,
    clients: Sequence[int],
    base: str,
    nats: str,
    process: psutil.Process,
    *,
    ingest: bool,
) -> list[str]:
    asked = await asyncio.to_thread(questions, tasks, base)
    measured = await asyncio.to_thread(lambda: list(_measured(process, program, tasks, base, asked, clients)))
    if ingest:
        argv = [sys.executable, "-m", "benchmarks.stores", "publish", nats, str(INGESTED), "600"]
        load = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        try:
            name = f"{program}, {INGESTED:,} events/s beside"
            measured += await asyncio.to_thread(lambda: list(_measured(process, name, tasks, base, asked, clients)))
            if load.poll() is not None:
                raise SystemExit("The load beside the questions ended before them: these figures are none.")
        finally:
            load.kill()
            load.wait()
    return [figures.line() for figures in measured]


def _sizes(tasks: int, size: int, note: str, rested: int, memory: int) -> str:
    line = (
        f"\n{tasks:,} tasks: {size / tasks:.0f} bytes of disk each ({note}); the api's memory {rested / 1e6:.0f} MB at "
        f"rest, {memory / 1e6:.0f} MB after all questions\n"
    )
    print(line, flush=True)
    return line


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
    parser.add_argument("--postgres", type=int, action="append", default=[], help="a number of tasks in PostgreSQL")
    parser.add_argument("--flower", action="store_true", help="also Flower, with 100,000 tasks")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    given = parser.parse_args(list(arguments))
    clients = [int(count) for count in given.clients.split(",")]
    lines: list[str] = []
    print(HEAD)
    if given.flower:
        lines += await asyncio.to_thread(_of_flower, clients)
    for size in filter(None, given.sizes.split(",")):
        lines += await _of_meadow(int(size), clients, given.ingest)
    for size in given.postgres:
        lines += await _of_postgres(size, clients, given.ingest)
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
