"""Threads that answer questions: quick ones one after the other, slow ones beside them.

SQLite's driver lets go of Python's lock at every row. Threads that wait for it together wake each other for nothing:
each of four questions at the same time takes twice the processor time of one alone. So one thread at a time leads and
takes question after question, and the event loop hears of their answers together. A leader that takes longer than a
moment for one question is no leader any more: another thread takes what waits.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

MOMENT = 0.025
"""Seconds that a question may take before the next one begins beside it."""
LOOK = 0.005
"""Seconds after which answers are handed over although more questions wait."""


class _Question:
    """What is to be done, and who waits for it."""

    def __init__(self, work: Callable[[], Any], future: "asyncio.Future[Any]") -> None:
        self.work = work
        self.future = future
        self.found: Any = None
        self.failure: BaseException | None = None

    def answer(self) -> None:
        """Do it, in a thread."""
        try:
            self.found = self.work()
        except BaseException as exc:  # noqa: BLE001 -- whoever asked gets it
            self.failure = exc

    def hand_over(self) -> None:
        """Give the answer to who waits, in the event loop."""
        if self.future.done():  # given up meanwhile
            return
        if self.failure is None:
            self.future.set_result(self.found)
        else:
            self.future.set_exception(self.failure)


class _Leader:
    """The thread that takes the questions. `began` is when it began with the one that it is at."""

    def __init__(self) -> None:
        self.leads = True
        self.began: float | None = None


class ReadingPool:
    """So many threads, on one event loop."""

    def __init__(self, threads: int, name: str) -> None:
        self._waiting: SimpleQueue[_Question | None] = SimpleQueue()
        self._answered: deque[_Question] = deque()
        self._turn = threading.Lock()
        self._leader = _Leader()
        self._closed = False
        self._open = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True) for number in range(threads)
        ]

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` gives in one of the threads; raises RuntimeError when the pool is shut."""
        if self._closed:
            raise RuntimeError("the pool is shut")
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            for thread in self._threads:
                thread.start()
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.put(_Question(work, future))
        self._open += 1
        if self._open == 2:  # one has to wait
            self._loop.call_later(LOOK, self._look)
        return await future

    def shutdown(self) -> None:
        """Give up what waits and wait for what is under way. To be called in another thread than the loop's."""
        self._closed = True
        self._waiting.put(None)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _work(self) -> None:
        while True:
            self._turn.acquire()
            leader = self._leader = _Leader()
            while leader.leads:
                question = self._waiting.get()
                if question is None:
                    self._waiting.put(None)  # for the others
                    if leader.leads:
                        self._turn.release()
                    return
                leader.began = time.monotonic()
                if self._closed:
                    question.failure = RuntimeError("the pool is shut")
                elif not question.future.cancelled():
                    question.answer()
                leader.began = None
                self._answered.append(question)
                if (self._waiting.empty() or not leader.leads) and self._loop is not None:
                    self._loop.call_soon_threadsafe(self._hand_over)

    def _hand_over(self) -> None:
        while self._answered:
            self._open -= 1
            self._answered.popleft().hand_over()

    def _look(self) -> None:
        """Every few milliseconds while one question waits for another."""
        self._hand_over()
        leader = self._leader
        if leader.leads and leader.began is not None and time.monotonic() - leader.began > MOMENT:
            leader.leads = False
            self._turn.release()
        if self._open > 1 and self._loop is not None:
            self._loop.call_later(LOOK, self._look)
