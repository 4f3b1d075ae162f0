"""The bounded buffer between the threads that read the broker and the task that publishes.

Readers never wait: when the buffer is full, the oldest facts make room, are counted, and become a gap.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

OVERHEAD = 150
"""Bytes that an entry takes in memory besides its data, roughly."""

_members = msgspec.json.Decoder(list[msgspec.Raw])


class Entry(NamedTuple):
    """Facts of one kind that were seen together: encoded, one after the other with commas between them.

    `kind` is the last part of their subject, `seen` when the collector saw them, `events` how many they are.
    """

    kind: str
    seen: float
    data: bytes
    events: int = 1

    def singles(self) -> "list[Entry]":
        """The same facts, each as an entry of its own."""
        if self.events == 1:
            return [self]
        facts = _members.decode(b"[" + self.data + b"]")
        return [Entry(self.kind, self.seen, bytes(fact)) for fact in facts]


class Gap(NamedTuple):
    """Facts that had to be dropped: seen between `start` and `end`."""

    start: float
    end: float
    events: int


class Outbox:
    """First in, first out. `put` may be called from any thread, all else from the event loop's."""

    def __init__(self, limit_bytes: int, enough: int) -> None:
        self._limit = limit_bytes
        self.enough = enough
        self._entries: deque[Entry] = deque()
        self._events = 0
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
        """How many facts wait."""
        return self._events

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
            before = self._events
            for entry in entries:
                self._entries.append(entry)
                self._events += entry.events
                self._bytes += len(entry.data) + OVERHEAD
            while self._bytes > self._limit and self._entries:
                self._drop(self._entries.popleft())
            after = self._events
            self._put = self.left + len(self._entries)
            if stored is not None and self._settled < self._put:
                self._receipts.append((self._put, stored))
                stored = None
        if stored is not None:
            stored()
        if before == 0 and after:
            self._signal(self._some)
        if before < self.enough <= after:
            self._signal(self._full_batch)

    def note_dropped(self, start: float, end: float, events: int) -> None:
        """Events were given up before they came here: they belong to the gap, too."""
        with self._lock:
            self._widen_gap(start, end, events)

    def _drop(self, entry: Entry) -> None:
        self._bytes -= len(entry.data) + OVERHEAD
        self._events -= entry.events
        self.left += 1
        self._widen_gap(entry.seen, entry.seen, entry.events)

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
        if self._events >= self.enough or self._hurried:
            return
        self._full_batch.clear()
        if self._events < self.enough and patience > 0:
            try:
                async with asyncio.timeout(patience):
                    await self._full_batch.wait()
            except TimeoutError:
                return

    def take(self, most: int, most_bytes: int) -> list[Entry]:
        """Remove the oldest entries: at least one, then as many as fit into `most` facts and `most_bytes`."""
        taken: list[Entry] = []
        events = size = 0
        with self._lock:
            while self._entries:
                entry = self._entries[0]
                events += entry.events
                size += len(entry.data) + 1
                if taken and (events > most or size > most_bytes):
                    break
                self._entries.popleft()
                self._bytes -= len(entry.data) + OVERHEAD
                self._events -= entry.events
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

    def forget(self) -> None:
        """Let go of all entries, their receipts and what is to be said of a gap: another collector publishes them."""
        with self._lock:
            self.left += len(self._entries)
            self._entries.clear()
            self._events = 0
            self._bytes = 0
            self._receipts.clear()
            self._gap = None

    def take_gap(self) -> Gap | None:
        """What was dropped since the last call."""
        with self._lock:
            gap, self._gap = self._gap, None
        return gap
