"""Leads, or stands by and takes over: for brokers where each collector of a cluster hears everything.

Says: `meadow.events.<cluster>.term` when this collector takes over; what comes from the one before is refused then.
Hears and says: `meadow.standby.<cluster>`, who stands by, and that somebody has let go.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from meadow import subjects
from meadow.bus import Bus, StreamMessage
from meadow.codec import decode_batch, encode
from meadow.errors import BusUnavailable, InvalidMessage, Superseded
from meadow.events import CollectorGap
from meadow_collector.fence import Fences, Positions
from meadow_collector.lease import LASTS, LOOK_EVERY, RENEW_EVERY, Holder, Lease, steady
from meadow_collector.outbox import Entry
from meadow_collector.peers import Peers, Standing
from meadow_collector.publisher import Publisher
from meadow_collector.readback import Told, told_between
from meadow_collector.ring import Position, Ring
from meadow_collector.stream import LeasedStream
from meadow_collector.threads import ended

log = logging.getLogger(__name__)

TELL_EVERY = 1.0
RETRY_PAUSE = 0.1
UNNOTICED = 0.1
"""Seconds without a collector that are not worth telling."""

Start = Callable[[str, Coroutine[Any, Any, None]], asyncio.Task[None]]


class Leadership:
    """Decides who publishes. `hears` tells whether the broker is connected, `changed` is called with each new role."""

    def __init__(
        self,
        bus: Bus,
        cluster: str,
        me: Holder,
        lease: Lease,
        stream: LeasedStream,
        ring: Ring,
        publisher: Publisher,
        *,
        start: Start,
        hears: Callable[[], bool],
        changed: Callable[[], None],
    ) -> None:
        self._bus = bus
        self._cluster = cluster
        self._me = me
        self._lease = lease
        self._stream = stream
        self._ring = ring
        self._publisher = publisher
        self._start = start
        self._hears = hears
        self._changed = changed
        self._wake = asyncio.Event()
        self._looked = asyncio.Event()
        self._term: asyncio.Task[None] | None = None
        self._fences = Fences(bus, cluster, me.collector)
        self._positions = Positions()
        self._peers = Peers(bus, cluster, me.name)
        self._known: set[str] = set()
        self._seen_before = False
        self._renewed_at: float | None = None
        """When another collector was last seen to renew the lease."""
        self._told_at = 0.0
        self._stopping = False
        self._too_small = False
        self._warned_of: str | None = None
        self._reachable = True

    @property
    def leads(self) -> bool:
        """Whether this collector publishes."""
        return self._ring.leading

    @property
    def leader(self) -> str:
        """The name of the collector that leads, as far as it is known here; empty when nobody does."""
        return self._lease.holder.collector

    @property
    def takeovers(self) -> int:
        """How often one collector had followed another when this one began to lead."""
        return self._fences.takeovers

    @property
    def standbys(self) -> tuple[str, ...]:
        """The collectors that have said lately that they stand by."""
        return tuple(each.collector for each in self._peers.standing)

    def health(self) -> dict[str, Any]:
        """Who leads, who stands by, and how many seconds of events this collector could publish if it had to."""
        return {
            "leads": self.leads,
            "leader": self.leader,
            "standbys": list(self.standbys),
            "takeovers": self.takeovers,
            "kept": len(self._ring),
            "kept_seconds": None if self.leads else round(self._ring.reach, 1),
        }

    async def open(self) -> None:
        """Note where the stream ends before the first event is heard, and listen to the others."""
        state = await self._bus.stream_state(subjects.EVENTS_STREAM)
        self._positions.mark(Position(steady(), state.last))
        await self._peers.listen(self.look_again)

    def look_again(self) -> None:
        """Something has changed: do not wait for the next look."""
        self._wake.set()

    async def run(self) -> None:
        """Take the lease when it is free, renew it while it is held, for ever."""
        while True:
            self._wake.clear()
            try:
                pause = await (self._follow() if self._term is None else self._lead())
                self._note_reachable()
            except Superseded as exc:
                log.debug("Somebody was faster: %s", exc)
                pause = RETRY_PAUSE
            except BusUnavailable as exc:
                self._note_unreachable(exc)
                pause = RETRY_PAUSE
            self._looked.set()
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def stopping(self) -> None:
        """From now on the broker is not heard on purpose: publish what is there, and leave the lease to `stop`."""
        self._stopping = True

    async def decided(self, deadline: float) -> None:
        """Wait until this collector leads or another one does, at most `deadline` seconds."""
        try:
            async with asyncio.timeout(deadline):
                while not self.leads and not self._another_leads():
                    self._looked.clear()
                    await self._looked.wait()
        except TimeoutError:
            log.debug("It is open who publishes.")

    def _another_leads(self) -> bool:
        return self._renewed_at is not None and steady() - self._renewed_at < LASTS

    async def stop(self) -> None:
        """Let go of the lease, so that another takes over at once. `run` has to be cancelled before."""
        await self._end_term()
        await self._let_go()

    # -- while another one leads ---------------------------------------------------------------------------------------

    async def _follow(self) -> float:
        holder = await self._lease.look()
        if self._lease.changed and holder.name not in ("", self._me.name):
            self._renewed_at = steady() if self._seen_before else None
            self._seen_before = True
            if holder.newest is not None:
                self._positions.mark(self._ring.stored(holder.newest, holder.stored))
            self._note_overflow()
            self._compare_brokers(holder)
        await self._tell_standing()
        mine = holder.name == self._me.name  # it was written, but the answer did not come
        eager = self._stopping or (self._hears() and (not holder.name or self._heard_the_one_before))
        if not mine and not self._lease.free(eager=eager):
            return LOOK_EVERY
        await self._lease.write(self._holder())
        self._term = self._start("collector leads", self._serve(holder))
        return RENEW_EVERY

    @property
    def _heard_the_one_before(self) -> bool:
        """Whether another collector was there after this one had begun to hear; then nothing lies between the two."""
        return self._renewed_at is not None and steady() - self._renewed_at < self._ring.reach

    def _note_overflow(self) -> None:
        too_small = self._ring.overflow is not None
        if too_small and not self._too_small:
            log.warning(
                "This collector can keep only the last %.1f s of events. If it took over, some might be missing: raise "
                "--buffer-bytes, or --spill-bytes.",
                self._ring.reach,
                extra={"action": "standby.full"},
            )
        self._too_small = too_small

    async def _tell_standing(self) -> None:
        now = steady()
        if now - self._told_at >= TELL_EVERY:
            self._told_at = now
            await self._peers.tell(Standing(self._me.name, self._me.collector, self._hears(), self._ring.reach))

    def _compare_brokers(self, holder: Holder) -> None:
        if holder.broker not in (self._me.broker, self._warned_of):
            self._warned_of = holder.broker
            log.warning(
                "The cluster %s is read by %s from %s, and here from %s. One broker is one cluster: if these are two, "
                "name them with --cluster, because only one of them is published now.",
                self._cluster,
                holder.collector,
                holder.broker,
                self._me.broker,
                extra={"action": "collector.two-brokers"},
            )

    # -- while this one leads ------------------------------------------------------------------------------------------

    async def _lead(self) -> float:
        if self._stream.refused:
            await self._check_fence()
        elif not self._hears() and not self._stopping and any(each.connected for each in self._peers.standing):
            log.warning(
                "The broker cannot be read here, but by another collector: it takes over.",
                extra={"action": "collector.let-go"},
            )
            await self._step_down()
            await self._let_go()
            return LOOK_EVERY
        if self._term is not None:
            await self._renew()
        names = {each.name for each in self._peers.standing}
        if names != self._known:
            self._known = names
            self._changed()
        return RENEW_EVERY

    async def _renew(self) -> None:
        try:
            await self._lease.write(self._holder())
        except Superseded:
            holder = await self._lease.look()
            if holder.name in ("", self._me.name):  # forgotten while NATS was away, or written without an answer
                await self._check_fence()
            else:
                await self._step_down()
            if self._term is None:
                return
            await self._lease.write(self._holder())
        newest = self._ring.newest_stored
        self._positions.mark(None if newest is None else Position(newest[1], self._stream.newest))

    async def _check_fence(self) -> None:
        """After a doubt: whether another collector has put up a fence meanwhile. A fence that the stream has forgotten
        is put up again."""
        self._stream.refused = False
        fence = self._stream.fence
        if fence is None:
            return
        fence = await self._fences.again(fence)
        if fence is None:
            await self._step_down()
        else:
            self._stream.fence = fence

    async def _serve(self, before: Holder) -> None:
        """Put up the fence, find out what is stored, pass on the rest, and publish until cancelled."""
        began = steady()
        while True:
            try:
                self._stream.fence = fence = await self._fences.new()
                before_all = self._positions.before(self._ring.oldest)
                told = await told_between(self._bus, self._cluster, before_all, fence)
                await self._note_unheard(told)
                break
            except BusUnavailable as exc:
                log.debug("The stream could not be taken over, trying again: %s", exc)
                await asyncio.sleep(RETRY_PAUSE)
        kept = len(self._ring)
        self._ring.lead(told.marks)
        self._changed()
        log.info(
            "This collector publishes now%s, first what it has kept and the stream lacks: of %d events (%.2f s).",
            f", after {before.collector}" if before.collector else "",
            kept,
            steady() - began,
            extra={"action": "collector.leads", "takeovers": self.takeovers},
        )
        await self._publisher.run()

    async def _note_unheard(self, told: Told) -> None:
        """Tell what no collector has heard, or what this one could not keep."""
        now = time.time()
        overflow = self._ring.overflow
        if overflow is not None and overflow.end > told.newest:
            events = overflow.events if overflow.start > told.newest else None
            self._put_gap(max(overflow.start, told.newest), overflow.end, "buffer-full", events)
        if self._heard_the_one_before:
            return
        last = await self._bus.last_on(subjects.EVENTS_STREAM, subjects.events(self._cluster, subjects.COLLECTOR))
        heard_until = max(told.newest, _seen(last))
        heard_since = now - self._ring.reach
        if heard_until and heard_since - heard_until > UNNOTICED:
            self._put_gap(heard_until, heard_since, "no-collector")

    def _put_gap(self, start: float, end: float, reason: str, events: int | None = None) -> None:
        gap = CollectorGap(seen=time.time(), start=start, end=end, reason=reason, events=events)
        self._ring.put([Entry(subjects.COLLECTOR, gap.seen, encode(gap))])

    async def _step_down(self) -> None:
        """Stand by from now on."""
        await self._end_term()
        log.warning("This collector stands by now.", extra={"action": "collector.stands-by"})
        self._changed()

    async def _end_term(self) -> None:
        """Stop publishing; what is not known to be stored stays in the ring. May be called twice."""
        term, self._term = self._term, None
        self._lease.lost()
        if term is None:
            return
        await ended({term})
        self._ring.follow()
        self._publisher.forget()
        self._stream.fence = None

    async def _let_go(self) -> None:
        try:
            if self._lease.holder.name == self._me.name:
                await self._lease.let_go()
            await self._peers.tell(Standing(self._me.name, self._me.collector, let_go=True))
        except BusUnavailable as exc:
            log.debug("The lease could not be given back, it ends by itself: %s", exc)

    # -- what both need ------------------------------------------------------------------------------------------------

    def _holder(self) -> Holder:
        newest = self._ring.newest_stored if self.leads else None
        return msgspec.structs.replace(
            self._me, newest=None if newest is None else newest[0], stored=self._stream.newest
        )

    def _note_reachable(self) -> None:
        if not self._reachable:
            self._reachable = True
            log.info("The lease on publishing can be read again.", extra={"action": "lease.reachable"})

    def _note_unreachable(self, exc: BusUnavailable) -> None:
        if self._reachable:
            self._reachable = False
            log.warning("The lease on publishing cannot be read: %s", exc, extra={"action": "lease.unreachable"})


def _seen(message: StreamMessage | None) -> float:
    """When the newest fact of a message was seen; 0 where there is none."""
    if message is None:
        return 0.0
    try:
        facts = decode_batch(message.data).events
    except InvalidMessage:
        return 0.0
    return max((fact.seen for fact in facts), default=0.0)
