"""Who of a cluster's collectors publishes: the one that holds the lease, and only as long as it can be sure of it.

A lease is one key in NATS. Its holder writes it again and again, each time on condition that nobody else has. Who
sees it unchanged for as long as it lasts may take it, on the same condition. So no two clocks are compared: the holder
counts from before it wrote, all others from after they read.
"""

import time
from collections.abc import Callable

from msgspec import Struct

from meadow.bus import Bus
from meadow.codec import decode, encode
from meadow.errors import BusUnavailable, InvalidMessage, Superseded
from meadow_collector.heard import Heard

LASTS = 1.5
"""Seconds for which a lease holds, from before it was written."""
RENEW_EVERY = 0.4
LOOK_EVERY = 0.15
WAIT_FOR_BETTER = 1.0
"""Seconds for which a collector leaves a free lease to others that may have heard more than it has."""


class Holder(Struct, frozen=True, omit_defaults=True):
    """What the holder writes into the lease. `name` is empty when it has let go.

    `newest`: it has stored everything up to this event, in messages of the stream up to `stored`.
    """

    name: str = ""
    collector: str = ""
    broker: str = ""
    newest: Heard | None = None
    stored: int = 0


def steady() -> float:
    """Seconds on a clock that nobody sets, and that goes on while the machine sleeps where there is such a one."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


class Lease:
    """One collector's view of its cluster's lease. `name` is this collector's own, at this start."""

    def __init__(self, bus: Bus, cluster: str, name: str, clock: Callable[[], float] = steady) -> None:
        self._bus = bus
        self._key = cluster
        self._clock = clock
        self._revision = 0
        self._unchanged_since: float | None = None
        self._held_until: float | None = None
        self.name = name
        self.holder = Holder()
        self.changed = False
        """Whether the last look showed something new."""

    @property
    def held(self) -> bool:
        """Whether this collector may publish at this moment."""
        return self._held_until is not None and self._clock() < self._held_until

    @property
    def claimed(self) -> bool:
        """Whether this collector held it last, as far as it knows."""
        return self._held_until is not None

    async def look(self) -> Holder:
        """Read the lease; raises `BusUnavailable`."""
        try:
            leased = await self._bus.lease(self._key)
        except BusUnavailable:
            self._unchanged_since = None  # nobody could renew it
            raise
        revision = 0 if leased is None else leased.revision
        self.changed = revision != self._revision
        if self.changed or self._unchanged_since is None:
            self._revision = revision
            self._unchanged_since = self._clock()
        self.holder = Holder() if leased is None else _holder(leased.value)
        return self.holder

    def free(self, *, eager: bool) -> bool:
        """Whether it may be taken, after what was seen last. Who is not `eager` leaves it to others for a while."""
        if self._unchanged_since is None:
            return False
        waited = self._clock() - self._unchanged_since
        needed = LASTS if self.holder.name else 0.0
        return waited >= needed + (0.0 if eager else WAIT_FOR_BETTER)

    async def write(self, holder: Holder) -> None:
        """Take the lease as it was seen last, or renew it. Raises `Superseded` when somebody was faster.

        After `BusUnavailable` it is open whether it was written: `look` tells.
        """
        asked = self._clock()
        self._revision = await self._bus.write_lease(self._key, encode(holder), after=self._revision)
        self._held_until = asked + LASTS
        self._unchanged_since = self._clock()
        self.holder = holder

    async def let_go(self) -> None:
        """Tell that the lease is free at once. Raises `BusUnavailable`."""
        self.lost()
        self.holder = Holder()
        try:
            await self._bus.write_lease(self._key, encode(Holder()), after=self._revision)
        except Superseded:
            return  # somebody else has it already

    def lost(self) -> None:
        """From now on this collector does not hold it."""
        self._held_until = None


def _holder(value: bytes) -> Holder:
    try:
        return decode(value, Holder)
    except InvalidMessage:  # of another release: wait until it is not renewed any more
        return Holder(name="?")
