"""The programs that are measured: Flower, Meadow as one command, and Meadow's collector alone with its NATS."""

import json
import re
import subprocess
import sys
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from tests.journeys.stage import Process, Stage
from tests.servers import free_port

FLOWER = Path(__file__).resolve().parent.parent / ".venv-flower" / "bin" / "celery"
COUNTED = re.compile(rb"^flower_events_total\{[^}]*\} ([0-9.e+]+)", re.MULTILINE)
DROPPED = re.compile(rb"^meadow_collector_dropped_events_total ([0-9.e+]+)", re.MULTILINE)
SETTLE = 6.0
"""Seconds until the event consumer of a program that has just started stands."""


@dataclass
class Monitor(ABC):
    """A running program."""

    name: str
    stage: Stage
    port: int = field(default_factory=free_port)
    main: Process | None = None
    pages = ("/workers?json=1",)

    def start(self) -> None:
        """Start it and wait until it reads events."""
        self.main = self._launch()
        wait_until(lambda: self.get("/healthcheck") is not None, 60)
        time.sleep(SETTLE)

    @abstractmethod
    def _launch(self) -> Process:
        """Start its main process."""

    def family(self) -> list[psutil.Process]:
        """All its processes."""
        assert self.main is not None
        return [psutil.Process(self.main.process.pid), *self.main.children()]

    def counted(self) -> int:
        """Events that it has taken in so far."""
        return int(sum(float(number) for number in COUNTED.findall(self.get("/metrics") or b"")))

    def expected(self, sent: dict[str, Any]) -> int:
        """How many of the sent events it counts when it loses none."""
        return int(sent["task_events"])

    def dropped(self) -> int:
        """Events that it says it has lost."""
        return 0

    def settled(self) -> bool:
        """Whether everything that it has taken in is where it belongs, as far as it knows."""
        return True

    def position(self) -> int:
        """Messages of the stream that it has dealt with, where there is a stream."""
        return 0

    def get(self, path: str) -> bytes | None:
        """What it answers to a request; `None` when it does not."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as response:
                return bytes(response.read())
        except OSError:
            return None

    @property
    def _common(self) -> tuple[str, ...]:
        return (f"--port={self.port}", "--address=127.0.0.1")


class Flower(Monitor):
    """Flower 2.2 in an environment of its own."""

    pages = ("/workers?json=1", "/api/workers")

    def _launch(self) -> Process:
        argv = (str(FLOWER), "-b", self.stage.broker, "flower", *self._common)
        return self.stage.start(*argv, FLOWER_UNAUTHENTICATED_API="true")


class Meadow(Monitor):
    """`meadow serve`: from the broker to committed rows."""

    pages = ("/workers?json=1", "/api/workers")

    def _launch(self) -> Process:
        data = self.stage.directory / f"data-{self.port}"
        argv = ("meadow", "serve", "-b", self.stage.broker, *self._common, f"--data-dir={data}")
        return self.stage.start(*argv, FLOWER_UNAUTHENTICATED_API="true")

    def dropped(self) -> int:
        return int(sum(float(number) for number in DROPPED.findall(self.get("/metrics") or b"")))

    def settled(self) -> bool:
        return self._stream().get("behind") == 0

    def position(self) -> int:
        return int(self._stream().get("position", 0))

    def _stream(self) -> dict[str, Any]:
        answer = self.get("/api/v1/health")
        return dict(json.loads(answer)["streams"]["MEADOW_EVENTS"]) if answer is not None else {}


class Collector(Monitor):
    """`meadow run collector`: from the broker to JetStream."""

    pages = ("/healthcheck",)

    def _launch(self) -> Process:
        nats, data = free_port(), self.stage.directory / f"data-{self.port}"
        self._nats = self.stage.start("nats-server", "-js", "-a", "127.0.0.1", "-p", str(nats), "-sd", str(data))
        argv = ("meadow", "run", "collector", "-b", self.stage.broker, *self._common, f"--data-dir={data}")
        return self.stage.start(*argv, f"--nats-url=nats://127.0.0.1:{nats}")

    def family(self) -> list[psutil.Process]:
        return [*super().family(), psutil.Process(self._nats.process.pid)]

    def counted(self) -> int:
        health = self._health()
        return int(health.get("received", 0)) - int(health.get("dropped", 0))

    def expected(self, sent: dict[str, Any]) -> int:
        return int(sent["events"])

    def dropped(self) -> int:
        return int(self._health().get("dropped", 0))

    def settled(self) -> bool:
        return self._health().get("buffered") == 0

    def _health(self) -> dict[str, Any]:
        answer = self.get("/healthcheck")
        health: dict[str, Any] = json.loads(answer)["services"]["collector"] if answer else {}
        return health


PROGRAMS: dict[str, type[Monitor]] = {"flower": Flower, "meadow": Meadow, "collector": Collector}


@contextmanager
def running(program: str, directory: Path, broker: str) -> Iterator[Monitor]:
    """A program that reads this broker's events, ended afterwards with all its processes."""
    stage = Stage(directory, broker)
    monitor = PROGRAMS[program](program, stage)
    try:
        monitor.start()
        yield monitor
    finally:
        stage.close()


def role(process: psutil.Process) -> str:
    """What a process of Meadow's does: `collector`, `nats` or the `rest`."""
    line = " ".join(process.cmdline())
    if "nats-server" in line:
        return "nats"
    return "collector" if "meadow.child_main collector" in line or " run collector" in line else "rest"


def processor_seconds(family: list[psutil.Process]) -> dict[str, float]:
    """The processor time that they have used, by role."""
    used: dict[str, float] = {}
    for process in family:
        times = process.cpu_times()
        used[role(process)] = used.get(role(process), 0.0) + times.user + times.system
    return used


def memory(family: list[psutil.Process]) -> float:
    """Their resident memory in megabytes."""
    return sum(process.memory_info().rss for process in family) / 1e6


def install_flower() -> None:
    """An environment with the Flower that is compared."""
    if FLOWER.exists():
        return
    home = FLOWER.parent.parent
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    packages = ["flower==2.2.0", "celery[redis]"]
    subprocess.run([str(home / "bin" / "pip"), "install", "--quiet", *packages], check=True)


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for the condition, or end the measurement."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("the program did not start")
        time.sleep(0.05)
