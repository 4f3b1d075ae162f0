"""Which messages may be acknowledged. Told from any thread, asked by the one that owns the socket."""

from collections import deque
from collections.abc import Callable


class Acknowledgements:
    """Messages are numbered from 1 on each channel, and stored in about that order; so one number acknowledges many."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._told: deque[int] = deque()
        self._awake = False
        self._early: set[int] = set()
        self._last = 0
        self._sizes: deque[int] = deque()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._sizes)

    def delivered(self, size: int) -> None:
        """One more message is under way. Only the socket's thread may say so."""
        self._sizes.append(size)
        self.bytes += size

    def stored(self, number: int) -> None:
        """This message is stored, or will never be. May be called from any thread; never waits."""
        self._told.append(number)
        if not self._awake:
            self._awake = True
            self._wake()

    def due(self) -> int | None:
        """The number up to which all are stored, if it has grown since the last call. Only the socket's thread asks."""
        self._awake = False
        before = self._last
        told, early = self._told, self._early
        while told:
            number = told.popleft()
            if number != self._last + 1:
                early.add(number)
                continue
            self._advance()
            while early and self._last + 1 in early:
                early.remove(self._last + 1)
                self._advance()
        return self._last if self._last > before else None

    def _advance(self) -> None:
        self._last += 1
        self.bytes -= self._sizes.popleft()
