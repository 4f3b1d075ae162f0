"""Chunks of events that wait, in the order in which they came.

The newest are in memory. What came before them may be in a file. The oldest of all are in memory again: they came back
from the file, or were on their way to NATS when another collector took over.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import msgspec

from meadow_collector.outbox import OVERHEAD, Entry
from meadow_collector.spill import Spill

log = logging.getLogger(__name__)

TRY_AGAIN = 10.0
"""Seconds after which a file that could not be written is tried again."""


class Chunk(NamedTuple):
    """Entries that arrived together at `at`, by the steady clock."""

    number: int
    at: float
    entries: list[Entry]

    @property
    def size(self) -> int:
        """The memory that it takes, roughly."""
        return sum(len(entry.data) + OVERHEAD for entry in self.entries)

    @property
    def events(self) -> int:
        """How many facts it holds."""
        return sum(entry.events for entry in self.entries)


class Span(NamedTuple):
    """Chunks in a row, numbered up to `last`, come from `since` to `until` by the steady clock; their `events` were
    seen from `start` to `end`."""

    last: int
    since: float
    until: float
    start: float
    end: float
    events: int


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[Chunk]).decode


class Waiting:
    """First in, first out. Holds `lock` for a moment only. `gave_up` is called, under the lock, for each span that has
    to go unpublished."""

    def __init__(
        self,
        lock: "threading.RLock",
        clock: Callable[[], float],
        gave_up: Callable[[Span], None],
        spill: "Spill[Span] | None" = None,
    ) -> None:
        self._lock = lock
        self._clock = clock
        self._gave_up = gave_up
        self._spill = spill
        self._file_used = False
        self._file_error: str | None = None
        self._file_after = 0.0
        self._oldest: deque[Chunk] = deque()
        self._leaving: Sequence[Chunk] = ()
        """On their way to the file: between what is there and the newest."""
        self._newest: deque[Chunk] = deque()
        self.events = 0
        self.bytes = 0
        """The memory that it takes, roughly."""

    def __bool__(self) -> bool:
        return bool(self._oldest or self._newest or self._leaving or self._spill)

    @property
    def since(self) -> float | None:
        """When the oldest chunk came, by the steady clock."""
        with self._lock:
            block = None if self._spill is None else self._spill.oldest
            if block is not None and not self._oldest:
                return block.about.since
            return next((chunk.at for chunk in chain(self._oldest, self._leaving, self._newest)), None)

    def append(self, chunk: Chunk) -> None:
        """What came last."""
        with self._lock:
            self._newest.append(chunk)
            self._count(chunk)

    def put_first(self, chunks: Sequence[Chunk]) -> None:
        """What came before all that waits."""
        with self._lock:
            self._oldest.extendleft(reversed(chunks))
            for chunk in chunks:
                self._count(chunk)

    def take(self) -> Chunk | None:
        """The oldest chunk; `None` when there is none, or when it has to be read from the file first."""
        with self._lock:
            if self._oldest:
                return self._take_from(self._oldest)
            if self._newest and not self._spill and not self._leaving:
                return self._take_from(self._newest)
        return None

    def give_up(self) -> bool:
        """Give up the oldest chunk that does not leave a hole, or else the one behind the hole; never the last one."""
        with self._lock:
            if self._oldest and not self._spill:
                chunk = self._take_from(self._oldest)
            elif len(self._newest) > 1:
                chunk = self._take_from(self._newest)
            else:
                return False
            if chunk.entries:
                self._gave_up(span_of([chunk]))
            return True

    def in_memory(self) -> Iterator[Chunk]:
        """All that need not be read from the file."""
        return chain(self._oldest, self._newest)

    def let_go(self, before: int, horizon: float) -> None:
        """Let go of what came before the chunk of that number, and before `horizon`: it is stored."""
        with self._lock:
            while self._oldest and self._oldest[0].number < before and self._oldest[0].at < horizon:
                self._take_from(self._oldest)
            while not self._oldest and self._spill and (block := self._spill.oldest) is not None:
                if block.about.last >= before or block.about.until >= horizon:
                    return
                self.events -= self._spill.drop().events
            while not self._oldest and self._newest and self._newest[0].number < before:
                if self._newest[0].at >= horizon:
                    return
                self._take_from(self._newest)

    # -- to the file and back: what takes long is done without the lock, in one thread -------------------------------

    @property
    def may_file(self) -> bool:
        """Whether there is a file, and it could be written when that was last tried."""
        return self._spill is not None and self._clock() >= self._file_after

    def open_file(self) -> None:
        """Find out at once whether there can be a file, where one is wished for."""
        if self._spill is not None:
            try:
                self._spill.open()
            except OSError as exc:
                self._note_failed(self._spill, exc)

    def close_file(self) -> None:
        """Give it up, with all that it holds."""
        if self._spill is not None:
            self._spill.close()

    def file_some(self, most_bytes: int) -> bool:
        """Move the older ones of the newest into the file; whether there were any, and the file took them."""
        spill = self._spill
        with self._lock:
            leaving = self._leaving = self._choose(most_bytes)
        if spill is None or not leaving:
            return False
        data = _pack(leaving)
        try:
            given_up = spill.make_room(len(data))
            with self._lock:
                for about in given_up:
                    self._lose(about)
            spill.write(data, span_of(leaving))
        except OSError as exc:
            with self._lock:
                self._newest.extendleft(reversed(leaving))
                self._leaving = ()
            self._note_failed(spill, exc)
            return False
        with self._lock:
            self.bytes -= sum(chunk.size for chunk in leaving)
            self._leaving = ()
        self._note_filed(spill)
        return True

    def load_some(self) -> None:
        """Read the oldest block of the file; what cannot be read is given up."""
        spill = self._spill
        block = None if spill is None else spill.oldest
        if spill is None or block is None:
            return
        chunks: list[Chunk] | None = None
        try:
            chunks = _unpack(spill.read(block))
        except (OSError, msgspec.MsgspecError) as exc:
            log.error(
                "%d events cannot be read back: %s", block.about.events, exc, extra={"action": "spill.unreadable"}
            )
        with self._lock:
            if spill.oldest is not block:
                return  # it is stored, as another collector has said meanwhile
            about = spill.drop()
            if chunks is None:
                self._lose(about)
            else:
                self.events -= about.events
                self.put_first(chunks)

    def empty_file(self) -> None:
        """Give the disk back when the file holds nothing."""
        spill = self._spill
        if spill is None or spill or not self._file_used:
            return
        self._file_used = False
        try:
            spill.shrink()
        except OSError as exc:
            self._note_failed(spill, exc)
            return
        log.info("No events wait in a file any more.", extra={"action": "spill.empty"})

    def _note_filed(self, spill: "Spill[Span]") -> None:
        if not self._file_used or self._file_error is not None:
            self._file_used, self._file_error = True, None
            log.warning(
                "Events wait in a file in %s: more come than NATS takes.", spill.folder, extra={"action": "spill.used"}
            )

    def _note_failed(self, spill: "Spill[Span]", exc: OSError) -> None:
        self._file_after = self._clock() + TRY_AGAIN
        error = exc.strerror or str(exc)
        if error != self._file_error:
            self._file_error = error
            log.error(
                "Events cannot wait in a file in %s (%s), so they wait in memory only, and the oldest are dropped when "
                "it is full. Make room there, or choose another --data-dir; it is tried again every %d s.",
                spill.folder,
                error,
                TRY_AGAIN,
                extra={"action": "spill.failed"},
            )

    def _choose(self, most_bytes: int) -> list[Chunk]:
        chosen: list[Chunk] = []
        size = 0
        while len(self._newest) > 1 and size < most_bytes:
            chosen.append(self._newest.popleft())
            size += chosen[-1].size
        return chosen

    def _lose(self, about: Span) -> None:
        self.events -= about.events
        self._gave_up(about)

    def _count(self, chunk: Chunk) -> None:
        self.events += chunk.events
        self.bytes += chunk.size

    def _take_from(self, chunks: "deque[Chunk]") -> Chunk:
        chunk = chunks.popleft()
        self.events -= chunk.events
        self.bytes -= chunk.size
        return chunk


def span_of(chunks: Sequence[Chunk]) -> Span:
    """What is to be known of these chunks, which hold something, when they are not at hand."""
    entries = [entry for chunk in chunks for entry in chunk.entries]
    return Span(
        last=chunks[-1].number,
        since=chunks[0].at,
        until=chunks[-1].at,
        start=entries[0].seen,
        end=entries[-1].seen,
        events=sum(entry.events for entry in entries),
    )
