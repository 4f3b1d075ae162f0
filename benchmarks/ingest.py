"""Flower and Meadow side by side in one run: which rate of events each keeps up with, what each loses, how much
processor time and memory that takes, and how long a page takes meanwhile.

Broker, generator and the measured program share the machine. What is counted is `flower_events_total` of each
program's own `/metrics`; for Meadow also the moment when its task store has everything.
"""

import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from tests.journeys.stage import Process, Stage
from tests.servers import free_port, running_rabbitmq, running_redis

RATES = (1000, 2000, 5000, 10_000, 20_000)
SECONDS = 15.0
GIVE_UP = 60.0
COUNTED = re.compile(rb"^flower_events_total\{[^}]*\} ([0-9.e+]+)", re.MULTILINE)
FLOWER = Path(__file__).resolve().parent.parent / ".venv-flower" / "bin" / "celery"


@dataclass
class Figures:
    """One program at one rate."""

    program: str
    broker: str
    offered: float
    sent: int
    counted: int
    behind: float
    processor: float
    memory: float
    pages: list[float] = field(default_factory=list)

    @property
    def lost(self) -> float:
        """Share of the events that never arrived."""
        return max(0.0, 1 - self.counted / self.sent)

    def line(self) -> str:
        """A row of the table."""
        pages = sorted(page * 1000 for page in self.pages) or [0.0]
        return (
            f"| {self.program}, {self.broker} | {self.offered:.0f} | {self.lost:.1%} | {self.behind:.1f} | "
            f"{self.processor / max(self.counted, 1) * 100_000:.1f} | {self.memory:.0f} | "
            f"{pages[len(pages) // 2]:.0f} / {pages[int(len(pages) * 0.95)]:.0f} / {pages[-1]:.0f} |"
        )


HEAD = """| program, broker | offered/s | lost | behind, s | CPU s per 100k | RSS MB | page p50 / p95 / max, ms |
|---|---|---|---|---|---|---|"""


async def measure() -> None:
    """Print the table."""
    await asyncio.to_thread(_install_flower)
    print(HEAD)
    for broker in ("Redis", "RabbitMQ"):
        with tempfile.TemporaryDirectory() as name:
            running = running_redis(Path(name)) if broker == "Redis" else running_rabbitmq(Path(name))
            with running as server:
                url = server if isinstance(server, str) else server.url
                for program in ("Flower", "Meadow"):
                    await asyncio.to_thread(_program, program, broker, url, Path(name))


def _install_flower() -> None:
    if FLOWER.exists():
        return
    home = FLOWER.parent.parent
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    packages = ["flower==2.2.0", "celery[redis]"]
    subprocess.run([str(home / "bin" / "pip"), "install", "--quiet", *packages], check=True)


def _program(program: str, broker: str, url: str, directory: Path) -> None:
    for rate in RATES:
        stage = Stage(directory, url)
        port = free_port()
        try:
            process = _start(stage, program, port)
            figures = _at_rate(process, program, broker, url, port, rate)
        finally:
            stage.close()
        print(figures.line(), flush=True)
        if figures.lost > 0.5 or figures.behind > 20:
            break


def _start(stage: Stage, program: str, port: int) -> Process:
    common = (f"--port={port}", "--address=127.0.0.1")
    if program == "Flower":
        argv = (str(FLOWER), "-b", stage.broker, "flower", *common)
    else:
        argv = ("meadow", "serve", "-b", stage.broker, *common, f"--data-dir={stage.directory / f'data-{port}'}")
    process = stage.start(*argv, FLOWER_UNAUTHENTICATED_API="true")
    _wait(lambda: _get(port, "/healthcheck") is not None, 30)
    time.sleep(6)  # its event consumer stands
    return process


def _at_rate(process: Process, program: str, broker: str, url: str, port: int, rate: int) -> Figures:
    family = [psutil.Process(process.process.pid), *process.children()]
    processor = sum(sum(p.cpu_times()[:2]) for p in family)
    before = _count(port)
    argv = [sys.executable, "-m", "benchmarks.load", url, str(rate), str(SECONDS)]
    load = subprocess.Popen(argv, stdout=subprocess.PIPE)
    pages: list[float] = []
    while load.poll() is None:
        began = time.perf_counter()
        _get(port, "/workers?json=1")
        pages.append(time.perf_counter() - began)
        time.sleep(max(0.0, 0.25 - pages[-1]))
    assert load.stdout is not None
    said = json.loads(load.stdout.read())
    ended = time.perf_counter()
    counted, moved = _count(port) - before, time.perf_counter()
    while time.perf_counter() - ended < GIVE_UP and not (counted >= said["task_events"] and _stored(program, port)):
        now = _count(port) - before
        if now != counted:
            counted, moved = now, time.perf_counter()
        elif time.perf_counter() - moved > 8:
            break
        time.sleep(0.1)
    behind = (moved if counted < said["task_events"] else time.perf_counter()) - ended
    used = sum(sum(p.cpu_times()[:2]) for p in family) - processor
    memory = sum(p.memory_info().rss for p in family) / 1e6
    return Figures(program, broker, said["rate"], said["task_events"], counted, behind, used, memory, pages)


def _stored(program: str, port: int) -> bool:
    if program == "Flower":
        return True
    answer = _get(port, "/api/v1/health")
    return answer is not None and json.loads(answer)["streams"]["MEADOW_EVENTS"]["behind"] == 0


def _count(port: int) -> int:
    return int(sum(float(number) for number in COUNTED.findall(_get(port, "/metrics") or b"")))


def _get(port: int, path: str) -> bytes | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as response:
            return bytes(response.read())
    except OSError:
        return None


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("the program did not start")
        time.sleep(0.05)
