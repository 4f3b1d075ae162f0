"""Waits for results without holding a thread: the backend is asked again and again, ever less often."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from meadow.errors import Refused
from meadow_controller.results import TaskResult

PLACES = 32
"""Fewer than the answers that the bus lets be under way, so that waiting callers cannot keep others out."""

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.5
LONGEST_WAIT = 3600.0


class Waiting:
    """At most `places` callers wait, each `limit` seconds if they say nothing else. `stop()` sends all home."""

    def __init__(self, read: Callable[[str], Awaitable[TaskResult]], *, limit: float, places: int = PLACES) -> None:
        self._read = read
        self._limit = limit
        self._places = places
        self._taken = 0
        self._stopping = asyncio.Event()

    @property
    def taken(self) -> int:
        """How many wait now."""
        return self._taken

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for one caller; raises `Refused` when there is none."""
        if self._taken >= self._places:
            raise Refused(
                "unavailable", f"{self._places} callers are waiting for results already. Use async-apply instead."
            )
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def wait(self, task_id: str, seconds: float | None) -> TaskResult:
        """The result when the task is ready, or how it stands after `seconds`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + min(self._limit if seconds is None else max(seconds, 0.0), LONGEST_WAIT)
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            result = await self._read(task_id)
            left = end - loop.time()
            if result.ready or left <= 0:
                return result
            await self._rest(min(pause, left))
            pause = min(pause * 1.5, LONGEST_PAUSE)
        raise Refused("unavailable", "The controller is stopping. The task goes on without it.")

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def stop(self) -> None:
        """Send everybody home. May be called twice."""
        self._stopping.set()
