"""What all services have in common: how they start, are watched, and stop.

A service is built by `build(context)` in its package's `service` module. First every service listens, then every
service speaks, so that nothing said at the start is missed.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import pluggy

from meadow.bus import Bus
from meadow.loop_lag import LoopLag
from meadow.settings import Settings
from meadow.supervise import Children

if TYPE_CHECKING:  # a process without HTTP need not load them
    from aiohttp import web

    from meadow.access.gate import Gate

log = logging.getLogger(__name__)

CANCEL_AGAIN = 0.5


@dataclass(frozen=True, kw_only=True)
class ChildContext:
    """All that a part of Meadow may use that serves no requests. In a child process that is heard, `out` is the file
    descriptor on which its parent hears how it goes.
    """

    settings: Settings
    bus: Bus
    plugins: pluggy.PluginManager
    watch: "Watch"
    out: int | None = None


@dataclass(frozen=True, kw_only=True)
class Context(ChildContext):
    """All that a service may use. `celery_app` is there for the controller only, where one was given.

    `siblings` are the services in this process: the same port serves their pages. With `children` a service puts
    work into a process of its own, as it does wherever it is started from the command line.
    """

    gate: "Gate"
    siblings: frozenset[str] = frozenset()
    celery_app: Any = None
    children: Children | None = None


class Child(Protocol):
    """What runs in a child process: a service, or a part of one."""

    async def listen(self) -> None:
        """Declare, open, subscribe."""

    async def speak(self) -> None:
        """Start to tell."""

    async def stop(self) -> None:
        """End in good order. May be called twice."""


class Service(Child, Protocol):
    """One of the five. Both of `listen` and `speak` return when done; what goes on for ever is a task of the watch."""

    name: str

    def routes(self) -> "Sequence[web.AbstractRouteDef]":
        """The HTTP routes that this service adds to its port."""

    def health(self) -> dict[str, Any]:
        """`{"ok": bool, …}` and what it knows of its own state. What concerns the whole process is said by `Watch`."""


@dataclass
class Watch:
    """Watches over a process: owns its long-running tasks, and knows how well it and its services are.

    A task that dies of an error ends the process, loudly. `child_lags` tell the loop lag of child processes, by role.
    """

    loop_lag: LoopLag = field(default_factory=LoopLag)
    child_lags: dict[str, Callable[[], float]] = field(default_factory=dict)
    services: Sequence[Service] = ()
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _failed: asyncio.Event = field(default_factory=asyncio.Event)
    failure: BaseException | None = None

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` under that name until it ends or the watch stops."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            log.error("%s failed: %s", task.get_name(), error, exc_info=error, extra={"action": "task.failed"})
            self.failure = self.failure or error
            self._failed.set()

    def health(self) -> dict[str, Any]:
        """What the process says of itself: whether all its services are well, how late its loop is, their states."""
        states = {service.name: service.health() for service in self.services}
        well = all(state["ok"] for state in states.values())
        return {"ok": well, "loop_lag": self.loop_lag.seconds, "services": states}

    async def failed(self) -> BaseException:
        """Wait until a task has failed and give its error."""
        await self._failed.wait()
        if self.failure is None:
            raise AssertionError("the watch reports a failure without an error")
        return self.failure

    async def stop(self, deadline: float = 5.0) -> None:
        """Cancel what still runs and wait for it, at most `deadline` seconds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline
        late = set(self._tasks)
        while late and loop.time() < end:
            for task in late:
                task.cancel()  # again, since a library that catches a cancellation (nats-py does) loses it
            _, late = await asyncio.wait(late, timeout=min(CANCEL_AGAIN, max(end - loop.time(), 0.0)))
        for task in late:
            log.warning("%s did not stop in time.", task.get_name(), extra={"action": "task.late"})
