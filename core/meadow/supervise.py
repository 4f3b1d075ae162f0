"""Work in a process of its own, as seen by its parent: it is started, told what to do, heard, and started again.

The parent writes one JSON document to the child's standard input: settings, NATS address, broker. Standard input stays
open; when it closes, the parent is gone and the child stops (`meadow.child_main`). A child that is `heard` says on its
standard output how it is, one JSON document a line.

Loading takes a child a second or two. `Children` can spawn those that will be needed before anything else starts: they
load meanwhile, and wait for their orders.
"""

import asyncio
import dataclasses
import logging
import sys
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from meadow.broker import BrokerConfig
from meadow.child import parent_bound
from meadow.codec import encode
from meadow.errors import MeadowError
from meadow.settings import OPTIONS, Settings

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 15.0
STOOD = 30.0
STOP_TIMEOUT = 6.0
LONGEST_LINE = 1024 * 1024


class Orders(Struct, frozen=True):
    """What a child is told. With `heard` somebody reads what it says."""

    settings: dict[str, Any]
    broker: BrokerConfig | None = None
    heard: bool = False


class Refusal(Struct, frozen=True, tag="refused"):
    """What a child that is heard says when it cannot start: a sentence for people."""

    message: str


class Children:
    """The child processes below this one that wait for orders, by role."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.subprocess.Process] = {}

    async def spawn(self, role: str, *, heard: bool = False) -> None:
        """Start a process that will be needed."""
        self._waiting[role] = await _spawn(role, heard=heard)

    def take(self, role: str) -> asyncio.subprocess.Process | None:
        """The one that waits, if there is one."""
        return self._waiting.pop(role, None)

    async def close(self) -> None:
        """End those that were not needed after all."""
        while self._waiting:
            _, process = self._waiting.popitem()
            process.kill()
            await process.wait()


class ChildProcess:
    """Starts a process in one of the roles of `meadow.rooms.CHILDREN`, and starts it again when it ends.

    `hear` is called with each line that it says, `ended` with its exit code whenever it ends without being asked to.
    """

    def __init__(
        self,
        role: str,
        settings: Settings,
        nats_url: str,
        broker: BrokerConfig | None = None,
        *,
        children: Children | None = None,
        hear: Callable[[bytes], None] | None = None,
        ended: Callable[[int], None] | None = None,
    ) -> None:
        self._role = role
        self._children = children or Children()
        self._orders = encode(Orders(_plain(settings, nats_url), broker, heard=hear is not None))
        self._hear = hear
        self._ended = ended
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def supervise(self) -> None:
        """Keep one child running until `stop`."""
        pause = FIRST_PAUSE
        loop = asyncio.get_running_loop()
        while not self._stopping:
            started = loop.time()
            process = await self._start()
            await self._listen(process)
            code = await process.wait()
            if self._stopping:
                return
            if self._ended is not None:
                self._ended(code)
            if loop.time() - started > STOOD:
                pause = FIRST_PAUSE
            log.error(
                "The %s process ended with %s and is started again in %.1f s.",
                self._role,
                code,
                pause,
                extra={"action": f"{self._role}.ended", "code": code},
            )
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _start(self) -> asyncio.subprocess.Process:
        process = self._children.take(self._role) or await _spawn(self._role, heard=self._hear is not None)
        self._process = process
        if self._stopping:
            process.terminate()
        if process.stdin is None:
            raise MeadowError(f"the {self._role} process has no standard input")
        process.stdin.write(self._orders + b"\n")
        try:
            await process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            log.warning(
                "The %s process ended before it was told what to do.",
                self._role,
                extra={"action": f"{self._role}.ended"},
            )
        return process

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Until the child closes its standard output, as its end does."""
        if process.stdout is not None and self._hear is not None:
            async for line in process.stdout:
                self._hear(line)

    async def stop(self) -> None:
        """End the child in good order, by force when it takes too long. May be called twice."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await process.wait()
        except TimeoutError:
            log.warning(
                "The %s process did not stop in time and was killed.",
                self._role,
                extra={"action": f"{self._role}.killed"},
            )
            process.kill()
            await process.wait()


async def _spawn(role: str, *, heard: bool) -> asyncio.subprocess.Process:
    argv = [sys.executable, "-m", "meadow.child_main", role]
    return await asyncio.create_subprocess_exec(
        # Elsewhere it has to notice by itself that standard input is closed.
        *(parent_bound(argv) if sys.platform == "linux" else argv),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE if heard else None,
        # Ctrl-C is the parent's business. Linux shares the processor out among sessions (sched(7), autogroup): the
        # collector has one of its own, so that neither pages nor the store take what reading events needs.
        start_new_session=role == "collector",
        process_group=None if role == "collector" else 0,
        limit=LONGEST_LINE,
    )


def _plain(settings: Settings, nats_url: str) -> dict[str, Any]:
    """The settings as JSON can carry them: it has neither functions nor infinity, and no child has use for them."""
    plain = {
        name: value
        for name, value in dataclasses.asdict(dataclasses.replace(settings, format_task=None)).items()
        if not OPTIONS[name].file_only and value != float("inf")
    }
    plain.pop("task_runtime_metric_buckets")
    return plain | {"nats_url": nats_url}
