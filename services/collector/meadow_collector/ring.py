"""What was heard and is perhaps not stored. It stands between the reader and the outbox.

While another collector publishes, that is all it may not have stored: the last second or two. While this one does,
it is what is under way. So whoever takes over has everything that is needed, also when the lease comes back.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import msgspec
from msgspec import Struct

from meadow import subjects
from meadow.codec import encode
from meadow.events import CollectorGap
from meadow_collector.outbox import OVERHEAD, Entry, Outbox

SPARE = 1.0
"""Seconds of events that are kept beyond what is known to be stored, for brokers that keep no strict order."""
MOST_WANTED = 64
LATECOMERS = 15.0
"""Seconds after a take-over in which what the one before has stored may still arrive here."""


OF_CELERY = (subjects.TASKS, subjects.WORKERS)


class Heard(Struct, frozen=True, omit_defaults=True, gc=False):
    """What makes an event itself, and when it was seen."""

    type: str
    hostname: str = ""
    pid: int | None = None
    clock: int = 0
    timestamp: float = 0.0
    uuid: str | None = None
    event: str | None = None
    seen: float = 0.0

    @property
    def mark(self) -> int:
        """The same number for the same event, whoever heard it; 0 for facts of Meadow's own."""
        if not self.hostname:
            return 0
        return hash((self.type, self.hostname, self.pid, self.clock, self.timestamp, self.uuid, self.event)) or 1


class Chunk(NamedTuple):
    """Entries that arrived together at `at`, by the steady clock. `stored` is called when they leave the ring."""

    number: int
    at: float
    entries: list[Entry]
    stored: Callable[[], None] | None

    @property
    def size(self) -> int:
        """The memory that it takes, roughly."""
        return sum(len(entry.data) + OVERHEAD for entry in self.entries)


class Position(NamedTuple):
    """Everything that was heard up to `at`, by the steady clock, is stored in messages up to `sequence`."""

    at: float
    sequence: int


@dataclass
class _Wanted:
    """An event that another collector has stored, which is looked for behind the chunk `searched`."""

    event: Heard
    sequence: int
    searched: int = 0

    @property
    def trace(self) -> bytes:
        """What is found in the event as it is encoded, and hardly anywhere else."""
        return encode(self.event.uuid) if self.event.uuid is not None else b'"clock":%d' % self.event.clock


class Overflow(NamedTuple):
    """Events that were given up because the ring was full, seen from `start` to `end`; the last came at `at`, by the
    steady clock."""

    start: float
    end: float
    events: int
    at: float


_heard = msgspec.json.Decoder(list[Heard])


class Ring:
    """Takes the outbox's place in front of the reader. `put` and `note_dropped` may be called from any thread."""

    def __init__(self, outbox: Outbox, limit_bytes: int, clock: Callable[[], float]) -> None:
        self._outbox = outbox
        self._limit = limit_bytes
        self._clock = clock
        self._lock = threading.RLock()
        self._chunks: deque[Chunk] = deque()
        self._bytes = 0
        self._number = 0
        self._wanted: deque[_Wanted] = deque(maxlen=MOST_WANTED)
        self._last: tuple[Entry, float] | None = None
        self._told: Counter[int] = Counter()
        self._told_until = 0.0
        self._since = clock()
        self.leading = False
        self.overflow: Overflow | None = None
        self.skipped = 0
        """Events that were not published because the stream held them."""

    @property
    def enough(self) -> int:
        """How many facts fill a batch."""
        return self._outbox.enough

    @property
    def reach(self) -> float:
        """For how many seconds back it holds everything that was heard, or knows that it is stored."""
        with self._lock:
            since = self._since if self.overflow is None else max(self._since, self.overflow.at)
        return max(self._clock() - since, 0.0)

    @property
    def oldest(self) -> float | None:
        """When the oldest of what it holds came, by the steady clock."""
        with self._lock:
            return self._chunks[0].at if self._chunks else None

    @property
    def newest_stored(self) -> tuple[Heard, float] | None:
        """The newest event of those that this collector has stored as leader, and when it came."""
        last = self._last
        return None if last is None else (_heard.decode(b"[" + last[0].data + b"]")[-1], last[1])

    def __len__(self) -> int:
        with self._lock:
            return sum(entry.events for chunk in self._chunks for entry in chunk.entries)

    # -- called by the reader -----------------------------------------------------------------------------------------

    def put(self, entries: Iterable[Entry], stored: Callable[[], None] | None = None) -> None:
        """Keep what was heard, and pass it on while this collector leads. Never waits for long."""
        with self._lock:
            now = self._clock()
            self._number += 1
            chunk = Chunk(self._number, now, list(entries), stored)
            if self.leading:
                self._pass_on(self._latecomers(chunk) if self._told else chunk)
            else:
                self._append(chunk)
                self._bound()

    def note_dropped(self, start: float, end: float, events: int) -> None:
        """Events were given up before they came here."""
        if self.leading:
            self._outbox.note_dropped(start, end, events)
            return
        gap = CollectorGap(seen=end, start=start, end=end, events=events, reason="buffer-full")
        self.put([Entry(subjects.COLLECTOR, end, encode(gap))])

    # -- called by the loop -------------------------------------------------------------------------------------------

    def stored(self, newest: Heard, sequence: int) -> Position | None:
        """Another collector says that it has stored everything up to this event, in messages up to `sequence`.

        The broker tells all collectors the same in the same order. So what came before that event is let go, no matter
        which of the two is behind the other. Gives where the event was found, if one was.
        """
        with self._lock:
            if self.leading:
                return None
            if not self._wanted or self._wanted[-1].event.mark != newest.mark:
                self._wanted.append(_Wanted(newest, sequence))
            for wanted in reversed(self._wanted):
                chunk = self._find(wanted)
                if chunk is not None:
                    self._let_go_before(chunk)
                    while self._wanted[0] is not wanted:
                        self._wanted.popleft()
                    self._wanted[0].searched = chunk.number - 1
                    return Position(chunk.at, wanted.sequence)
        return None

    def _find(self, wanted: _Wanted) -> Chunk | None:
        trace, mark = wanted.trace, wanted.event.mark
        for chunk in self._chunks:
            if chunk.number <= wanted.searched:
                continue
            for entry in chunk.entries:
                if trace in entry.data and any(heard.mark == mark for heard in _heard.decode(b"[" + entry.data + b"]")):
                    return chunk
            wanted.searched = chunk.number
        return None

    def _let_go_before(self, chunk: Chunk) -> None:
        horizon = self._clock() - SPARE
        while self._chunks[0].number < chunk.number and self._chunks[0].at < horizon:
            _tell(self._take())
        self.overflow = None  # it came before

    def connected(self) -> None:
        """The broker is connected: nothing before was heard."""
        with self._lock:
            self._since = self._clock()

    def lead(self, told: Counter[int]) -> int:
        """Pass on all that is not among `told`, the marks of what is stored, and from now on all that comes.

        Takes a while, so it is called in a thread. Gives how many events were stored already.
        """
        before = self.skipped
        ready: list[Chunk] = []
        while True:
            with self._lock:
                if not self._chunks:
                    self._told, self._told_until = +told, self._clock() + LATECOMERS
                    self._wanted.clear()
                    self._last = None
                    self.leading = True
                    for chunk in ready:
                        self._pass_on(chunk)
                    self.overflow = None
                    return self.skipped - before
                chunk = self._take()
            ready.append(self._without(chunk, told))

    def follow(self) -> None:
        """Another collector publishes: keep what is not known to be stored, and pass nothing on."""
        with self._lock:
            self.leading = False
            self._told.clear()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _pass_on(self, chunk: Chunk) -> None:
        self._append(chunk)
        self._outbox.put(chunk.entries, partial(self._settled, chunk.number))

    def _settled(self, number: int) -> None:
        """The outbox says that this chunk, and all that were put before, are stored or given up and counted."""
        with self._lock:
            if not self.leading:
                return
            while self._chunks and self._chunks[0].number <= number:
                chunk = self._take()
                if chunk.entries and chunk.entries[-1].kind in OF_CELERY:
                    self._last = chunk.entries[-1], chunk.at
                _tell(chunk)

    def _append(self, chunk: Chunk) -> None:
        self._chunks.append(chunk)
        self._bytes += chunk.size

    def _take(self) -> Chunk:
        chunk = self._chunks.popleft()
        self._bytes -= chunk.size
        return chunk

    def _bound(self) -> None:
        while self._bytes > self._limit and len(self._chunks) > 1:
            chunk = self._take()
            events = sum(entry.events for entry in chunk.entries)
            if not events:
                continue
            start, end = chunk.entries[0].seen, chunk.entries[-1].seen
            before = self.overflow or Overflow(start, end, 0, chunk.at)
            self.overflow = Overflow(before.start, end, before.events + events, chunk.at)

    def _latecomers(self, chunk: Chunk) -> Chunk:
        if chunk.at > self._told_until:
            self._told.clear()
            return chunk
        return self._without(chunk, self._told)

    def _without(self, chunk: Chunk, told: Counter[int]) -> Chunk:
        """The chunk without what was told; each event told is used up."""
        lacking: list[Entry] = []
        for entry in chunk.entries:
            lacking += missing(entry, told)
        self.skipped += sum(entry.events for entry in chunk.entries) - sum(entry.events for entry in lacking)
        return chunk._replace(entries=lacking)


def missing(entry: Entry, told: Counter[int]) -> list[Entry]:
    """The entry, or as much of it as is not among `told`; each event told is used up."""
    marks = [heard.mark for heard in _heard.decode(b"[" + entry.data + b"]")]
    if not any(told[mark] > 0 for mark in marks):
        return [entry]
    lacking = []
    for mark, single in zip(marks, entry.singles(), strict=True):
        if told[mark] > 0:
            told[mark] -= 1
        else:
            lacking.append(single)
    return lacking


def _tell(chunk: Chunk) -> None:
    if chunk.stored is not None:
        chunk.stored()
