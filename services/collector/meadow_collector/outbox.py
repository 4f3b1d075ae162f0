"""The bounded buffer between the threads that read the broker and the task that publishes.

Readers never wait: when the buffer is full, the oldest facts make room, are counted, and become a gap.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

OVERHEAD = 150
"""Bytes that an entry takes in memory besides its data, roughly."""


class Entry(NamedTuple):
    """One fact, encoded. `kind` is the last part of its subject, `seen` when the collector saw it."""

    kind: str
    seen: float
    data: bytes


class Gap(NamedTuple):
    """Facts that had to be dropped: seen between `start` and `end`."""

    start: float
    end: float
    events: int


class Outbox:
    """First in, first out. `put` may be called from any thread, all else from the event loop's."""

    def __init__(self, limit_bytes: int, enough: int) -> None:
        self._limit = limit_bytes
        self._enough = enough
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self._gap: Gap | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._some = asyncio.Event()
        self._full_batch = asyncio.Event()
        self._hurried = False
        self._put = 0
        self._settled = 0
        self._receipts: deque[tuple[int, Callable[[], None]]] = deque()
        self.dropped = 0
        self.left = 0
        """How many entries have left the outbox since the start, taken or dropped."""

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes(self) -> int:
        """The memory that the entries take, roughly."""
        return self._bytes

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Name the loop whose task empties the outbox."""
        self._loop = loop

    def put(self, entries: Iterable[Entry], stored: Callable[[], None] | None = None) -> None:
        """Add facts; drop the oldest if there are too many. Never waits.

        `stored` is called once, from any thread, when these and all that were put before are settled.
        """
        with self._lock:
            before = len(self._entries)
            for entry in entries:
                self._entries.append(entry)
                self._bytes += len(entry.data) + OVERHEAD
            while self._bytes > self._limit and self._entries:
                self._drop(self._entries.popleft())
            after = len(self._entries)
            self._put = self.left + after
            if stored is not None and self._settled < self._put:
                self._receipts.append((self._put, stored))
                stored = None
        if stored is not None:
            stored()
        if before == 0 and after:
            self._signal(self._some)
        if before < self._enough <= after:
            self._signal(self._full_batch)

    def note_dropped(self, start: float, end: float, events: int) -> None:
        """Events were given up before they came here: they belong to the gap, too."""
        with self._lock:
            self._widen_gap(start, end, events)

    def _drop(self, entry: Entry) -> None:
        self._bytes -= len(entry.data) + OVERHEAD
        self.left += 1
        self._widen_gap(entry.seen, entry.seen, 1)

    def _widen_gap(self, start: float, end: float, events: int) -> None:
        self.dropped += events
        gap = self._gap or Gap(start, end, 0)
        self._gap = Gap(min(gap.start, start), max(gap.end, end), gap.events + events)

    def _signal(self, event: asyncio.Event) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(event.set)

    def hurry(self) -> None:
        """From now on, nothing waits for others to share its batch."""
        self._hurried = True
        self._full_batch.set()

    async def filled(self, patience: float) -> None:
        """Wait for a first entry, then up to `patience` seconds for enough to fill a batch."""
        while not self._entries:
            self._some.clear()
            if not self._entries:
                await self._some.wait()
        if len(self._entries) >= self._enough or self._hurried:
            return
        self._full_batch.clear()
        if len(self._entries) < self._enough and patience > 0:
            try:
                async with asyncio.timeout(patience):
                    await self._full_batch.wait()
            except TimeoutError:
                return

    def take(self, most: int, most_bytes: int) -> list[Entry]:
        """Remove the oldest entries: at least one, then as many as fit."""
        taken: list[Entry] = []
        size = 0
        with self._lock:
            while self._entries and len(taken) < most:
                length = len(self._entries[0].data) + 1
                if taken and size + length > most_bytes:
                    break
                entry = self._entries.popleft()
                self._bytes -= len(entry.data) + OVERHEAD
                size += length
                taken.append(entry)
            self.left += len(taken)
        return taken

    def settle(self, left: int) -> None:
        """The first `left` entries that left the outbox are stored, or dropped and counted."""
        due = []
        with self._lock:
            self._settled = max(self._settled, left)
            while self._receipts and self._receipts[0][0] <= self._settled:
                due.append(self._receipts.popleft()[1])
        for stored in due:
            stored()

    def take_gap(self) -> Gap | None:
        """What was dropped since the last call."""
        with self._lock:
            gap, self._gap = self._gap, None
        return gap
