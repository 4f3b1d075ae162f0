"""How late the event loop is: the time by which a timer fires too late is the time by which everything else is, too."""

import asyncio
from collections.abc import Callable

TICK = 0.1
INTERVAL = 15.0


class LoopLag:
    """Measures for as long as `run` runs. `clock` gives seconds and only advances."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock
        self._began = 0.0
        self._now = 0.0
        self._before = 0.0

    @property
    def seconds(self) -> float:
        """The longest delay in the last 15 to 30 seconds, to a tenth of a millisecond."""
        return round(max(self._now, self._before), 4)

    async def run(self) -> None:
        """Measure for ever."""
        clock = self._clock or asyncio.get_running_loop().time
        self._began = clock()
        while True:
            due = clock() + TICK
            await asyncio.sleep(TICK)
            self.note(clock() - due, clock())

    def note(self, late: float, now: float) -> None:
        """A timer fired so late, at `now`."""
        if now - self._began >= INTERVAL:
            self._began, self._before, self._now = now, self._now, 0.0
        self._now = max(self._now, late)
