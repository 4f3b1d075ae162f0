"""Which messages may be acknowledged. Told from any thread, asked by the one that owns the socket."""

from collections import deque
from collections.abc import Callable


class Acknowledgements:
    """Messages are numbered from 1 on each channel, and stored in about that order; so one number acknowledges many."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._told: deque[tuple[int, int]] = deque()
        self._awake = False
        self._early: dict[int, int] = {}
        self._last = 0
        self._sizes: deque[int] = deque()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._sizes)

    def delivered(self, size: int) -> None:
        """One more message is under way. Only the socket's thread may say so."""
        self._sizes.append(size)
        self.bytes += size

    def stored(self, first: int, last: int) -> None:
        """These messages are stored, or will never be. May be called from any thread; never waits."""
        self._told.append((first, last))
        if not self._awake:
            self._awake = True
            self._wake()

    def due(self) -> int | None:
        """The number up to which all are stored, if it has grown since the last call. Only the socket's thread asks."""
        self._awake = False
        before = self._last
        told, early = self._told, self._early
        while told:
            first, last = told.popleft()
            early[first] = last
            while (following := early.pop(self._last + 1, None)) is not None:
                self._advance(following)
        return self._last if self._last > before else None

    def _advance(self, to: int) -> None:
        for _ in range(to - self._last):
            self.bytes -= self._sizes.popleft()
        self._last = to
