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
MOST_OPEN = 10_000
"""Questions that may wait."""


class NotTaken(Exception):
    """The pool takes no question: it is shut, or too many wait."""


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
            self = None  # type: ignore[assignment]

    def hand_over(self) -> None:
        """Give the answer to who waits, in the event loop."""
        if self.future.done():  # given up meanwhile
            return
        if self.failure is None:
            self.future.set_result(self.found)
        elif isinstance(self.failure, StopIteration):  # which no future can carry
            self.future.set_exception(RuntimeError(f"a question raised {self.failure!r}"))
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
        self._shut = False
        self._open = 0
        """Questions without an answer; the event loop alone counts them."""
        self._looking = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True) for number in range(threads)
        ]

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` gives in one of the threads; raises `NotTaken`."""
        if self._shut:
            raise NotTaken("The task store is closed.")
        if self._open >= MOST_OPEN:
            raise NotTaken("Too many questions wait for the task store. Ask again in a moment.")
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            for thread in self._threads:
                thread.start()
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.put(_Question(work, future))
        self._open += 1
        self._look_soon()
        return await future

    def shut(self) -> None:
        """Take no more questions, and refuse those that wait. To be called in the event loop; may be called twice."""
        if not self._shut:
            self._shut = True
            self._waiting.put(None)

    def join(self) -> None:
        """Wait for what is under way, in another thread than the event loop's, once the pool is shut."""
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

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
                    self._tell_loop()
                    return
                leader.began = time.monotonic()
                if self._shut:
                    question.failure = NotTaken("The task store is closed.")
                elif not question.future.cancelled():
                    question.answer()
                leader.began = None
                self._answered.append(question)
                del question  # a thread that waits holds no answer
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
        self._looking = False
        self._hand_over()
        leader = self._leader
        began = leader.began  # once: its thread may be done with it meanwhile
        if leader.leads and began is not None and time.monotonic() - began > MOMENT and not self._shut:
            leader.leads = False
            self._turn.release()
        self._look_soon()

    def _look_soon(self) -> None:
        if self._in_turns and self._open > 1 and not self._looking and self._loop is not None:
            self._looking = True
            self._loop.call_later(LOOK, self._look)
