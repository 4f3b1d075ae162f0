"""Starts and ends the demo's Celery cluster: the post office, two workers and the traffic, each its own process."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from meadow.child import parent_bound
from meadow_demo.folders import DIRECTORY, Folders

FOREIGN_SETTINGS = ("CELERY_", "FLOWER_", "MEADOW_")


class DemoCluster:
    """A Celery cluster whose broker is `directory`. Its processes cannot outlive this one.

    Whoever wants to talk to it needs `environment` in their environment and `app` as the Celery app. `start` and
    `stop` block for a moment; call `start` from a thread that lives as long as the cluster shall, since on Linux
    children end with the thread that started them.
    """

    app = "meadow_demo.app"
    broker_url = "filesystem://"

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to find this cluster."""
        return {DIRECTORY: str(self.directory), "CELERY_BROKER_URL": self.broker_url}

    def start(self) -> None:
        """Start all processes; does not wait until the workers are ready (that takes about two seconds)."""
        Folders(self.directory).create()
        self._spawn("post", ["meadow_demo.post", str(self.directory)])
        self._spawn("orders", _worker("orders@shop", "orders,mail", "--concurrency=2"))
        self._spawn("reports", _worker("reports@shop", "reports", "--autoscale=3,1"))
        self._spawn("traffic", ["meadow_demo.traffic"])

    @property
    def alive(self) -> bool:
        """Whether messages are sent and moved. Workers may be missing: people can shut them down from the pages."""
        return all(self._runs(name) for name in ("post", "traffic"))

    @property
    def pids(self) -> dict[str, int]:
        """The processes that run."""
        return {name: process.pid for name, process in self._processes.items() if process.poll() is None}

    def last_words(self) -> dict[str, str]:
        """The end of the log of each process that has ended."""
        return {
            name: self._log(name).read_text(errors="replace")[-2000:] for name in self._processes.keys() - self.pids
        }

    def stop(self) -> None:
        """End all processes with their children at once: nothing that they hold outlives the directory. May be called
        twice."""
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in self._processes.values():
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
        self._processes.clear()

    def _runs(self, name: str) -> bool:
        return name in self._processes and self._processes[name].poll() is None

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def _spawn(self, name: str, arguments: Sequence[str]) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN_SETTINGS)}
        with self._log(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                parent_bound([sys.executable, "-m", *arguments]),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=kept | self.environment | {"TMPDIR": str(Folders(self.directory).temporary)},
                start_new_session=True,
            )


def _worker(name: str, queues: str, pool: str) -> list[str]:
    options = ("--loglevel=CRITICAL", "--task-events", "--without-gossip", "--without-mingle")
    return [
        "celery",
        "--quiet",
        "-A",
        DemoCluster.app,
        "worker",
        f"--hostname={name}",
        f"--queues={queues}",
        pool,
        *options,
    ]
