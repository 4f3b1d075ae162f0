"""Reads the depths of all known queues again and again. Lives in a thread of its own."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from meadow.broker import QueueReader
from meadow.errors import BrokerUnavailable
from meadow.events import QueuesObserved
from meadow_collector.text import clean

log = logging.getLogger(__name__)

MOST_NAMES = 2000
LONGEST_NAME = 255


class QueueNames:
    """The queues to look at: those that the app configures, and those that workers say they consume from.

    Workers are believed until they say something else; a thousand invented names are not.
    """

    def __init__(self, configured: Sequence[str]) -> None:
        self._configured = tuple(configured)
        self._learnt: dict[str, None] = {}

    def learn(self, active_queues: Any) -> None:
        """Take the names from a worker's answer to `active_queues`: a list of objects with a `name`."""
        if not isinstance(active_queues, list):
            return
        for queue in active_queues:
            name = queue.get("name") if isinstance(queue, dict) else None
            if isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and len(self._learnt) < MOST_NAMES:
                self._learnt[clean(name)] = None

    def all(self) -> list[str]:
        """Every known name once."""
        return list(dict.fromkeys((*self._configured, *list(self._learnt))))


class DepthWatch:
    """Calls `observed` with a fact every `interval` seconds."""

    def __init__(
        self,
        reader: QueueReader,
        names: QueueNames,
        interval: float,
        observed: Callable[[QueuesObserved], None],
        hide: Callable[[str], str],
    ) -> None:
        self._reader = reader
        self._names = names
        self._interval = interval
        self._observed = observed
        self._hide = hide
        self._stopping = threading.Event()
        self._error: str | None = None

    def run(self) -> None:
        """Read until `stop`."""
        try:
            while not self._stopping.is_set():
                self._observed(self._read())
                self._stopping.wait(self._interval)
        finally:
            self._reader.close()

    def stop(self) -> None:
        """Make `run` return soon. May be called twice."""
        self._stopping.set()

    def _read(self) -> QueuesObserved:
        if not self._reader.supported:
            return QueuesObserved(seen=time.time(), supported=False)
        try:
            queues = self._reader.read(self._names.all())
        except BrokerUnavailable as exc:
            return self._failed(str(exc))
        except Exception as exc:
            log.exception("The queue reader failed.", extra={"action": "queues.failed"})
            return self._failed(f"The queue reader failed: {type(exc).__name__}: {exc}")
        if self._error is not None:
            self._error = None
            log.info("Queue depths can be read again.", extra={"action": "queues.read"})
        return QueuesObserved(seen=time.time(), queues=tuple(queues))

    def _failed(self, reason: str) -> QueuesObserved:
        shown = self._hide(reason)
        if shown != self._error:
            self._error = shown
            log.warning("Queue depths cannot be read: %s", shown, extra={"action": "queues.unreadable"})
        return QueuesObserved(seen=time.time(), error=shown)
