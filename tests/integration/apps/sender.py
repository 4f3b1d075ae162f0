"""A sender of many numbered events, and how often each of them was stored."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager

from meadow.bus import Bus
from meadow.events import TaskStarted
from tests.integration.apps.collector_stage import facts_of

Send = Callable[[list[int]], None]


class NumberedSender:
    """Sends events 0, 1, … twenty at a time, at a rate, in a thread, until it is left.

    `connect` gives what sends the events of these numbers, for as long as it is entered.
    """

    def __init__(self, connect: Callable[[], AbstractContextManager[Send]], rate: float) -> None:
        self._connect = connect
        self._rate = rate
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sender")
        self.sent = 0

    def __enter__(self) -> "NumberedSender":
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        with self._connect() as send:
            start = time.monotonic()
            while not self._stopping.is_set():
                due = start + self.sent / self._rate
                self._stopping.wait(max(due - time.monotonic(), 0.0))
                send(list(range(self.sent, self.sent + 20)))
                self.sent += 20


async def counted(bus: Bus) -> "Counter[str]":
    """How often each task that was started stands in the stream."""
    return Counter(fact.uuid for fact in await facts_of(bus, TaskStarted, "tasks"))
