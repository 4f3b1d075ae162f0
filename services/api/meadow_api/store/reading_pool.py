"""Threads that answer questions: all at the same time, or in turns, slow ones beside the quick ones.

SQLite's driver lets go of Python's lock at every row. Threads that wait for it together wake each other for nothing:
each of four questions at the same time takes twice the processor time of one alone. In turns, one thread leads and
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


class PoolShut(Exception):
    """No question is answered any more."""


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
    """So many threads, for one event loop."""

    def __init__(self, threads: int, name: str, *, in_turns: bool) -> None:
        self._in_turns = in_turns
        self._waiting: SimpleQueue[_Question | None] = SimpleQueue()
        self._answered: deque[_Question] = deque()
        self._turn = threading.Lock()
        self._leader = _Leader()
        self._closed = False
        self._open = 0
        """Questions without an answer; the event loop alone counts them."""
        self._looking = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True) for number in range(threads)
        ]

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` gives in one of the threads; raises `PoolShut` when the pool is shut."""
        if self._closed:
            raise PoolShut()
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            for thread in self._threads:
                thread.start()
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.put(_Question(work, future))
        self._open += 1
        self._look_soon()
        return await future

    def shutdown(self) -> None:
        """Give up what waits and wait for what is under way. To be called in another thread than the loop's."""
        self._closed = True
        self._waiting.put(None)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        while not self._waiting.empty():
            question = self._waiting.get()
            if question is not None:  # it came at the last moment
                question.failure = PoolShut()
                self._answered.append(question)
        self._tell_loop()

    def _work(self) -> None:
        while True:
            if self._in_turns:
                self._turn.acquire()
            leader = self._leader = _Leader()
            while leader.leads:
                question = self._waiting.get()
                if question is None:
                    self._waiting.put(None)  # for the others
                    if self._in_turns and leader.leads:
                        self._turn.release()
                    return
                leader.began = time.monotonic()
                if self._closed:
                    question.failure = PoolShut()
                elif not question.future.cancelled():
                    question.answer()
                leader.began = None
                self._answered.append(question)
                if not (self._in_turns and leader.leads) or self._waiting.empty():
                    self._tell_loop()

    def _tell_loop(self) -> None:
        if self._loop is not None:
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
        self._looking = False
        self._look_soon()

    def _look_soon(self) -> None:
        if self._in_turns and self._open > 1 and not self._looking and self._loop is not None:
            self._looking = True
            self._loop.call_later(LOOK, self._look)
