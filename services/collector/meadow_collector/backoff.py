"""How long to wait before trying again."""

FIRST = 0.5
LONGEST = 15.0
STOOD = 2.0
"""Seconds after which a connection counts as one that stood."""


class Backoff:
    """Doubles from 0.5 s to 15 s, and begins anew after a connection that stood.

    >>> backoff = Backoff()
    >>> [backoff.pause(stood=0.0) for _ in range(7)], backoff.pause(stood=60.0)
    ([0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0], 0.5)
    """

    def __init__(self) -> None:
        self._next = FIRST

    def pause(self, *, stood: float) -> float:
        """The seconds to wait now, after a connection that stood so many seconds."""
        pause = FIRST if stood >= STOOD else self._next
        self._next = min(pause * 2, LONGEST)
        return pause
