"""How much per second, over the last minute."""

from collections import deque

WINDOW = 60.0
STEP = 1.0


class Throughput:
    """Counts in steps of a second, and forgets what is older than a minute. Times are of any one clock."""

    def __init__(self) -> None:
        self._steps: deque[tuple[float, int]] = deque()
        self._began: float | None = None

    def add(self, now: float, count: int) -> None:
        """`count` more happened."""
        if self._began is None:
            self._began = now
        if self._steps and now - self._steps[-1][0] < STEP:
            at, known = self._steps.pop()
            self._steps.append((at, known + count))
        else:
            self._steps.append((now, count))
        self._forget(now)

    def per_second(self, now: float) -> float:
        """The mean of the last minute, or of the time since the first count where that is shorter."""
        self._forget(now)
        if self._began is None:
            return 0.0
        return sum(count for _, count in self._steps) / min(max(now - self._began, STEP), WINDOW)

    def _forget(self, now: float) -> None:
        while self._steps and now - self._steps[0][0] >= WINDOW:
            self._steps.popleft()
