"""What was heard and is perhaps not stored. It stands between the reader and the outbox.

While another collector publishes, that is all it may not have stored: the last second or two. While this one does,
it is what is under way, and what waits because NATS is slow or away. So whoever takes over has everything that is
needed, also when the lease comes back. What does not fit into memory goes to a file, where there is one; what does not
fit into that either is given up and counted, the oldest first.
"""

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from meadow import subjects
from meadow.codec import encode
from meadow.events import CollectorGap
from meadow_collector.heard import Heard, heard_in, missing
from meadow_collector.outbox import Entry, Outbox
from meadow_collector.spill import Spill
from meadow_collector.waiting import Chunk, Span, Waiting

log = logging.getLogger(__name__)

SPARE = 1.0
"""Seconds of events that are kept beyond what is known to be stored, for brokers that keep no strict order."""
MOST_WANTED = 64
LATECOMERS = 15.0
"""Seconds after a take-over in which what the one before has stored may still arrive here."""
UNDER_WAY_SHARE = 4
"""The part of the memory that may be on its way to NATS: a quarter."""
FILE_SHARE = 2
"""The part of the memory that is used before the file is: half."""
BLOCK_SHARE = 8
LARGEST_BLOCK = 4 * 1024 * 1024
"""Bytes that are written to the file at once, roughly, and at most that part of the memory."""

OF_CELERY = (subjects.TASKS, subjects.WORKERS)


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


class _TakeOver(NamedTuple):
    """How many events were kept when this collector began to lead, and how many it had skipped before."""

    kept: int
    skipped: int


class Overflow(NamedTuple):
    """Events that were given up because the ring was full, seen from `start` to `end`; the last came at `at`, by the
    steady clock."""

    start: float
    end: float
    events: int
    at: float


class Ring:
    """Takes the outbox's place in front of the reader. `put` and `note_dropped` may be called from any thread."""

    def __init__(
        self, outbox: Outbox, limit_bytes: int, clock: Callable[[], float], spill: "Spill[Span] | None" = None
    ) -> None:
        self._outbox = outbox
        self._limit = limit_bytes
        self._room = limit_bytes // UNDER_WAY_SHARE
        self._clock = clock
        self._lock = threading.RLock()
        self._under_way: deque[Chunk] = deque()
        self._under_way_bytes = 0
        self._waiting = Waiting(self._lock, clock, self._give_up, spill)
        self._spill = spill
        self._work = threading.Event()
        self._stopping = False
        self._number = 0
        self._wanted: deque[_Wanted] = deque(maxlen=MOST_WANTED)
        self._last: tuple[Entry, float] | None = None
        self._told: Counter[int] = Counter()
        self._told_until = 0.0
        self._taken_over: _TakeOver | None = None
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
            return self._under_way[0].at if self._under_way else self._waiting.since

    @property
    def newest_stored(self) -> tuple[Heard, float] | None:
        """The newest event of those that this collector has stored as leader, and when it came."""
        last = self._last
        return None if last is None else (heard_in(last[0])[-1], last[1])

    @property
    def bytes(self) -> int:
        """The memory that it takes, roughly."""
        return self._waiting.bytes + self._under_way_bytes

    @property
    def spilled(self) -> int:
        """The bytes that are in the file."""
        return 0 if self._spill is None else self._spill.bytes

    def __len__(self) -> int:
        with self._lock:
            return self._waiting.events + sum(chunk.events for chunk in self._under_way)

    # -- called by the reader -----------------------------------------------------------------------------------------

    def put(self, entries: Iterable[Entry], stored: Callable[[], None] | None = None) -> None:
        """Keep what was heard, and pass it on while this collector leads. Never waits for long.

        `stored` is called at once: where every collector hears everything, no broker waits to be told.
        """
        kept = list(entries)
        if kept:
            with self._lock:
                self._number += 1
                self._keep(Chunk(self._number, self._clock(), kept))
        if stored is not None:
            stored()

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
        which of the two is behind the other. Gives where the event was found, if one was. The file is not searched:
        what is there goes when an event that came after it is stored.
        """
        with self._lock:
            if self.leading:
                return None
            if not self._wanted or self._wanted[-1].event.mark != newest.mark:
                self._wanted.append(_Wanted(newest, sequence))
            for wanted in reversed(self._wanted):
                chunk = self._find(wanted)
                if chunk is not None:
                    self._waiting.let_go(chunk.number, self._clock() - SPARE)
                    if self.overflow is not None and self.overflow.at <= chunk.at:
                        self.overflow = None
                    while self._wanted[0] is not wanted:
                        self._wanted.popleft()
                    self._wanted[0].searched = chunk.number - 1
                    return Position(chunk.at, wanted.sequence)
        return None

    def _find(self, wanted: _Wanted) -> Chunk | None:
        trace, mark = wanted.trace, wanted.event.mark
        for chunk in self._waiting.in_memory():
            if chunk.number <= wanted.searched:
                continue
            for entry in chunk.entries:
                if trace in entry.data and any(heard.mark == mark for heard in heard_in(entry)):
                    return chunk
            wanted.searched = chunk.number
        return None

    def connected(self) -> None:
        """The broker is connected: nothing before was heard."""
        with self._lock:
            self._since = self._clock()

    def lead(self, told: "Counter[int]") -> None:
        """From now on, pass on all that is not among `told`, the marks of what is stored: first what waits."""
        with self._lock:
            self._told, self._told_until = +told, self._clock() + LATECOMERS
            self._wanted.clear()
            self._last = None
            self._taken_over = _TakeOver(len(self), self.skipped)
            self.leading = True
            self.overflow = None
        self._work.set()

    def follow(self) -> None:
        """Another collector publishes: keep what is not known to be stored, and pass nothing on."""
        with self._lock:
            self.leading = False
            self._told.clear()
            self._waiting.put_first(self._under_way)
            self._under_way.clear()
            self._under_way_bytes = 0
            gap = self._outbox.take_gap()  # whoever leads next tells it, unless it has more
            if gap is not None:
                self.overflow = Overflow(gap.start, gap.end, gap.events, self._clock())

    # -- the ring's own thread ----------------------------------------------------------------------------------------

    def run(self) -> None:
        """Pass on what waits, and move what is too much into the file, until `stop`."""
        self._waiting.open_file()
        while not self._stopping:
            self._work.wait()
            self._work.clear()
            self.catch_up()
        self._waiting.close_file()

    def stop(self) -> None:
        """Make `run` return soon. May be called twice."""
        self._stopping = True
        self._work.set()

    def catch_up(self) -> None:
        """Do all that is to be done now."""
        while not self._stopping and self._turn():
            continue
        self._waiting.empty_file()
        self._note_caught_up()

    def _turn(self) -> bool:
        """Do the next things; whether there were any."""
        filed = self._memory_short and self._waiting.file_some(min(LARGEST_BLOCK, self._limit // BLOCK_SHARE))
        with self._lock:
            passes = self.leading and bool(self._waiting) and self._under_way_bytes < self._room
            chunk = self._waiting.take() if passes else None
            if chunk is not None:
                self._pass_on(chunk)
        if passes and chunk is None:
            self._waiting.load_some()
        return filed or passes

    # -- inside -------------------------------------------------------------------------------------------------------

    @property
    def _much_room(self) -> bool:
        """Whether so much of what waits may be passed on that it is worth waking the thread for it."""
        return self.leading and bool(self._waiting) and self._under_way_bytes < self._room // 2

    @property
    def _memory_short(self) -> bool:
        """Whether something should go to the file."""
        return self.bytes > self._limit // FILE_SHARE and self._waiting.may_file

    def _keep(self, chunk: Chunk) -> None:
        if self.leading and not self._waiting and self._under_way_bytes < self._room:
            self._pass_on(chunk)
            return
        self._waiting.append(chunk)
        while self.bytes > self._limit and self._waiting.give_up():
            continue
        if self._much_room or self._memory_short:
            self._work.set()

    def _pass_on(self, chunk: Chunk) -> None:
        if self._told:
            chunk = self._without_told(chunk)
        self._under_way.append(chunk)
        self._under_way_bytes += chunk.size
        self._outbox.put(chunk.entries, partial(self._settled, chunk.number))

    def _settled(self, number: int) -> None:
        """The outbox says that this chunk, and all that were put before, are stored or given up and counted."""
        with self._lock:
            if not self.leading:
                return
            while self._under_way and self._under_way[0].number <= number:
                chunk = self._under_way.popleft()
                self._under_way_bytes -= chunk.size
                if chunk.entries and chunk.entries[-1].kind in OF_CELERY:
                    self._last = chunk.entries[-1], chunk.at
            if self._much_room:
                self._work.set()

    def _give_up(self, span: Span) -> None:
        if self.leading:
            self._outbox.note_dropped(span.start, span.end, span.events)
            return
        before = self.overflow or Overflow(span.start, span.end, 0, span.until)
        self.overflow = Overflow(
            min(before.start, span.start),
            max(before.end, span.end),
            before.events + span.events,
            max(before.at, span.until),
        )

    def _without_told(self, chunk: Chunk) -> Chunk:
        """The chunk without what is stored already; each event told is used up."""
        if chunk.at > self._told_until:
            self._told.clear()
            return chunk
        lacking: list[Entry] = []
        for entry in chunk.entries:
            lacking += missing(entry, self._told)
        lacking_chunk = chunk._replace(entries=lacking)
        self.skipped += chunk.events - lacking_chunk.events
        return lacking_chunk

    def _note_caught_up(self) -> None:
        with self._lock:
            taken, caught_up = self._taken_over, self.leading and not self._waiting
            if caught_up:
                self._taken_over = None
        if taken is not None and taken.kept and caught_up:
            log.info(
                "All %d events that were kept are passed on; %d of them were stored already.",
                taken.kept,
                self.skipped - taken.skipped,
                extra={"action": "collector.caught-up"},
            )
