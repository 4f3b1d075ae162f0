"""The stage for journeys: a Celery project in a directory, real workers, a real Meadow, all ended with the test."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from aiohttp import ClientSession, ClientTimeout

from meadow.testing import eventually

HERE = Path(__file__).resolve().parent
SCRIPTS = Path(sys.executable).parent
VISIT = re.compile(r"Visit me at (http\S+)|its state is at (http\S+)healthcheck")
FOREIGN = ("MEADOW_", "FLOWER_", "CELERY_", "SHOP_")


def program_path(name: str) -> str:
    """The program of that name beside this Python; a path stays what it is."""
    return name if "/" in name else str(SCRIPTS / name)


@dataclass
class Process:
    """A started program; what it prints is in `log`."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def children(self) -> list[psutil.Process]:
        """All processes below this one."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def kill(self) -> None:
        """End it as the kernel would: nothing can be saved any more."""
        self.process.kill()
        self.process.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 20.0) -> int:
        """Ask it to end and give its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"it did not stop within {seconds:g} s:\n{self.text[-3000:]}") from None


@dataclass
class Stage:
    """A directory with the project, and everything that was started in it."""

    directory: Path
    broker: str
    backend: str | None = None
    processes: list[Process] = field(default_factory=list)

    def environment(self, **more: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
        chosen = {
            "PYTHONPATH": str(HERE),
            "PYTHONDONTWRITEBYTECODE": "1",
            "XDG_STATE_HOME": str(self.directory / "state"),
            "SHOP_BROKER": self.broker,
            "TZ": "UTC",
        }
        if self.backend:
            chosen["SHOP_BACKEND"] = self.backend
        return kept | chosen | more

    def start(self, *argv: str, **environment: str) -> Process:
        """Start one of this environment's programs (`celery`, `meadow`, `nats-server`)."""
        log = self.directory / f"{len(self.processes)}-{Path(argv[0]).name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [program_path(argv[0]), *argv[1:]],
                cwd=self.directory,
                env=self.environment(**environment),
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        started = Process(process, log)
        self.processes.append(started)
        return started

    def run(self, *argv: str, seconds: float = 30.0, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program to its end."""
        return subprocess.run(
            [program_path(argv[0]), *argv[1:]],
            cwd=self.directory,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def start_worker(self, name: str, *options: str) -> Process:
        """A real prefork worker that sends events."""
        return self.start(
            "celery", "-A", "shop", "worker", "-n", name, "-E", "--concurrency=2", "--loglevel=WARNING", *options
        )

    async def start_meadow(self, *argv: str, **environment: str) -> "Meadow":
        """Start a Meadow (`celery -A shop flower …`, `meadow serve …`) and wait until it serves."""
        process = self.start(*argv, **environment)

        def url() -> str | None:
            assert process.process.poll() is None, f"it ended with {process.process.returncode}:\n{process.text}"
            found = VISIT.search(process.text)
            return (found.group(1) or found.group(2)) if found else None

        return Meadow(process, await eventually(url, timeout=30) or "")

    async def send(self, task: str, *args: Any, **options: Any) -> str:
        """Publish a task as any client would, and give its id."""
        code = (
            f"from shop import app; print(app.send_task({task!r}, args={list(args)!r}, **{options!r}).id, flush=True)"
        )
        done = await asyncio.to_thread(self.run, "python", "-c", code)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def close(self) -> None:
        for process in reversed(self.processes):
            if process.process.poll() is None:
                family = [psutil.Process(process.process.pid), *process.children()]
                for member in family:
                    try:
                        member.kill()
                    except psutil.NoSuchProcess:
                        continue
                process.process.wait()


@dataclass
class Meadow:
    """A running Meadow and its address (with a slash at the end)."""

    process: Process
    url: str

    async def get(self, path: str, **headers: str) -> Any:
        """The JSON at this path."""
        async with (
            ClientSession(timeout=ClientTimeout(20)) as session,
            session.get(self.url + path.lstrip("/"), headers=headers) as response,
        ):
            assert response.status == 200, f"{path}: {response.status} {await response.text()}"
            return await response.json(content_type=None)

    async def status(self, path: str, method: str = "GET", **headers: str) -> int:
        """The status code at this path."""
        async with (
            ClientSession(timeout=ClientTimeout(20)) as session,
            session.request(method, self.url + path.lstrip("/"), headers=headers) as response,
        ):
            return response.status

    async def post(self, path: str, json: Any = None, **headers: str) -> tuple[int, str]:
        """Status and text of a POST."""
        async with (
            ClientSession(timeout=ClientTimeout(20)) as session,
            session.post(self.url + path.lstrip("/"), json=json, headers=headers) as response,
        ):
            return response.status, await response.text()

    async def task_is(self, uuid: str, *states: str) -> bool:
        """Whether the store shows the task in one of these states."""
        async with (
            ClientSession(timeout=ClientTimeout(20)) as session,
            session.get(f"{self.url}api/task/info/{uuid}") as response,
        ):
            return response.status == 200 and (await response.json(content_type=None))["state"] in states
