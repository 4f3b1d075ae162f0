"""The fences of a cluster's collectors in the stream: who publishes from where on, and how far the stream had come.

Says: `meadow.events.<cluster>.term`. What a collector sends behind a fence that is not the newest one, NATS refuses.
"""

import asyncio
from collections import deque

from msgspec import Struct

from meadow import subjects
from meadow.bus import Bus, Fence
from meadow.codec import VERSION, decode, encode
from meadow.errors import InvalidMessage
from meadow_collector.lease import steady
from meadow_collector.ring import Position

MOST_POSITIONS = 4096
MARGIN = 5.0
"""Seconds by which messages may be stored in another order than their events were heard: some are sent again."""
SETTLING = 1.0
"""Seconds in which what another collector sent last arrives, on servers that know no fences."""


class Term(Struct, frozen=True, kw_only=True):
    """The fence: an empty batch that says who publishes from here on."""

    v: int = VERSION
    cluster: str
    collector: str
    events: tuple[()] = ()
    takeovers: int = 0


class Fences:
    """Puts up fences for one collector. All that asks NATS raises `BusUnavailable`."""

    def __init__(self, bus: Bus, cluster: str, collector: str) -> None:
        self._bus = bus
        self._cluster = cluster
        self._collector = collector
        self._subject = subjects.events(cluster, subjects.TERM)
        self.takeovers = 0
        """How often one collector had followed another when this one put up its fence."""

    async def new(self) -> Fence:
        """Put up a fence behind the newest one; raises `Superseded` when somebody is faster."""
        if not self._bus.fences:
            await asyncio.sleep(SETTLING)
        last = await self._bus.last_on(subjects.EVENTS_STREAM, self._subject)
        if last is None:
            return await self._put(0, 0)
        try:
            before = decode(last.data, Term)
        except InvalidMessage:
            return await self._put(last.sequence, self.takeovers)
        return await self._put(last.sequence, before.takeovers + (before.collector != self._collector))

    async def again(self, fence: Fence) -> Fence | None:
        """This collector's fence if it is still the newest one, or the one in its place where the stream has forgotten
        it; `None` when another collector has put up one."""
        last = await self._bus.last_on(subjects.EVENTS_STREAM, self._subject)
        if last is None:
            return await self._put(0, self.takeovers)
        return fence if last.sequence == fence.sequence else None

    async def _put(self, after: int, takeovers: int) -> Fence:
        term = Term(cluster=self._cluster, collector=self._collector, takeovers=takeovers)
        sequence = await self._bus.append(self._subject, encode(term), fence=Fence(self._subject, after), timeout=1.0)
        self.takeovers = takeovers
        return Fence(self._subject, sequence)


class Positions:
    """How far the stream had come when, so that a take-over need not read all of it back."""

    def __init__(self) -> None:
        self._known: deque[Position] = deque(maxlen=MOST_POSITIONS)

    def mark(self, position: Position | None) -> None:
        """Note how far the stream has come."""
        if position is not None and (not self._known or position.sequence > self._known[-1].sequence):
            self._known.append(position)

    def before(self, oldest: float | None) -> int:
        """A sequence that the stream had reached before anything was stored that came at `oldest` or later."""
        horizon = (steady() if oldest is None else oldest) - MARGIN
        sequence = self._known[0].sequence
        for position in self._known:
            if position.at > horizon:
                break
            sequence = position.sequence
        return sequence
