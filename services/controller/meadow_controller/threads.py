"""Blocking work beside the event loop, in a bounded number of threads that cannot keep the process alive."""

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from meadow.errors import Refused

T = TypeVar("T")

Job = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any]]

BUSY = "The controller has too much to do just now. Try again in a few seconds."
STOPPING = "The controller is stopping."
LATE = "Celery did not answer within {0:g} s."


class Threads:
    """At most `size` daemon threads and `waiting` jobs in line; `prepare` runs first in each thread.

    A job that nobody waits for any more keeps its thread until it returns, so it needs time limits of its own.
    """

    def __init__(self, name: str, size: int, *, waiting: int = 64, prepare: Callable[[], object] | None = None) -> None:
        self._name = name
        self._size = size
        self._waiting = waiting
        self._prepare = prepare
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0
        self._open = 0
        self._stopped = False

    async def run(self, work: Callable[[], T], *, within: float) -> T:
        """What `work()` gives; raises what it raises, or `Refused` when there is no room or it takes too long."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._submit((loop, future, work))
        try:
            async with asyncio.timeout(within):
                return await future
        except TimeoutError as exc:
            if future.done() and not future.cancelled():
                raise  # the work's own TimeoutError
            raise Refused("unavailable", LATE.format(within)) from exc

    def _submit(self, job: Job) -> None:
        with self._lock:
            if self._stopped:
                raise Refused("unavailable", STOPPING)
            if self._open >= self._size + self._waiting:
                raise Refused("unavailable", BUSY)
            self._open += 1
            start = self._open > self._started and self._started < self._size
            self._started += start
        if start:
            threading.Thread(target=self._serve, name=f"{self._name}-{self._started}", daemon=True).start()
        self._jobs.put(job)

    def _serve(self) -> None:
        if self._prepare is not None:
            self._prepare()
        while (job := self._jobs.get()) is not None:
            loop, future, work = job
            try:
                outcome: tuple[Any, BaseException | None] = (work(), None)
            except BaseException as exc:  # noqa: BLE001 -- it is raised again where the caller waits
                outcome = (None, exc)
            with self._lock:
                self._open -= 1
            if not loop.is_closed():
                loop.call_soon_threadsafe(_settle, future, *outcome)

    def stop(self) -> None:
        """Take no more work; idle threads end now, the others when their job does. May be called twice."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
        for _ in range(self._size):
            self._jobs.put(None)


def _settle(future: "asyncio.Future[Any]", value: Any, error: BaseException | None) -> None:
    if future.done():  # nobody waits any more
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
