"""Messages that were read from the socket and wait to be decoded. Pure.

Redis cuts off who is 32 MB behind, and nobody knows then how much was lost. So reading goes before decoding: what
comes too fast waits here, and when there is too much of it the oldest is given up, counted.
"""

from collections import deque
from typing import NamedTuple

from meadow.broker import Dropped
from meadow_redis.envelope import count_events

REPORT_EVERY = 1.0
"""Seconds of arrival that one report of what was given up covers, at most."""


OVERHEAD = 64
"""Bytes that a message takes in memory besides its own, roughly."""


class Piece(NamedTuple):
    """Messages that arrived together."""

    seen: float
    payloads: list[bytes]

    @property
    def size(self) -> int:
        """The memory that they take, roughly."""
        return sum(map(len, self.payloads)) + OVERHEAD * len(self.payloads)


class Backlog:
    """First in, first out, at most `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: deque[Piece] = deque()
        self._bytes = 0
        self._dropped: Dropped | None = None

    def add(self, piece: Piece) -> None:
        """Add what has arrived; give up the oldest if that is too much."""
        self._pieces.append(piece)
        self._bytes += piece.size
        while self._bytes > self._limit and len(self._pieces) > 1:
            self._give_up(self._take())

    def take(self) -> Piece | None:
        """The oldest piece."""
        return self._take() if self._pieces else None

    def take_dropped(self) -> Dropped | None:
        """What was given up, once that is over or a second of it is full."""
        dropped = self._dropped
        if dropped is None or (self._pieces and self._pieces[0].seen - dropped.start < REPORT_EVERY):
            return None
        self._dropped = None
        return dropped

    def _take(self) -> Piece:
        piece = self._pieces.popleft()
        self._bytes -= piece.size
        return piece

    def _give_up(self, piece: Piece) -> None:
        events = sum(map(count_events, piece.payloads))
        before = self._dropped
        if before is None:
            self._dropped = Dropped(events=events, start=piece.seen, end=piece.seen)
        else:
            self._dropped = Dropped(events=before.events + events, start=before.start, end=piece.seen)
