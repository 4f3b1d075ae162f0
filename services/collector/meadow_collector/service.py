"""The collector.

Hears: the broker (Celery's events, queue depths), and what workers answered to inspections (for their queues' names).
Says: facts about tasks, workers and queues, its own state, and gaps, on `meadow.events.<cluster>.…`.
"""

import asyncio
import logging
import os
import secrets
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from meadow import subjects
from meadow.broker import BrokerAdapter, BrokerConfig
from meadow.codec import decode_batch, encode, encode_batch
from meadow.errors import BusUnavailable, InvalidMessage, StartRefused
from meadow.events import CollectorGap, CollectorReported, QueuesObserved, WorkerInspected
from meadow.redact import Redactor, broker_without_passwords
from meadow.service import ChildContext
from meadow_collector.depths import DepthWatch, QueueNames
from meadow_collector.intake import Intake
from meadow_collector.leadership import Leadership
from meadow_collector.lease import Holder, Lease, steady
from meadow_collector.outbox import Entry, Outbox
from meadow_collector.publisher import Origin, Publisher
from meadow_collector.reader import Link, Reader
from meadow_collector.redelivery import Redelivered
from meadow_collector.ring import Ring
from meadow_collector.spill import Spill
from meadow_collector.stream import LeasedStream, Stream
from meadow_collector.threads import ended, in_thread
from meadow_collector.waiting import Span

log = logging.getLogger(__name__)

REPORT_EVERY = 5.0
TAKE_TURNS = 0.0005
"""Seconds that the reader's thread works on while the publisher waits for its turn; Python's 0.005 stall it."""
REPORT_TIMEOUT = 1.0
THREADS_DEADLINE = 2.0
DRAIN_DEADLINE = 2.0
PASS_ON = 0.005
"""Seconds in which the ring gives the outbox more."""


def build(context: ChildContext, broker: BrokerConfig) -> "CollectorService":
    """The collector of one cluster; raises `StartRefused` when no plugin reads this kind of broker."""
    return CollectorService(context, broker, choose_adapter(context, broker))


def choose_adapter(context: ChildContext, broker: BrokerConfig) -> BrokerAdapter:
    """The first adapter of all plugins that fits the broker's URL."""
    groups = context.plugins.hook.register_broker_adapters(settings=context.settings)
    for adapter in (adapter for group in groups for adapter in group):
        if adapter.fits(broker.url):
            chosen: BrokerAdapter = adapter
            return chosen
    raise StartRefused(
        f"No plugin reads brokers such as {broker_without_passwords(broker.url)!r}. "
        "Correct the broker's URL (--broker), or install a plugin for it; 'meadow plugins' lists those that are there."
    )


class CollectorService:
    """Two threads read the broker, one task publishes, one reports."""

    name = "collector"

    def __init__(self, context: ChildContext, broker: BrokerConfig, adapter: BrokerAdapter) -> None:
        settings = context.settings
        self._context = context
        self._cluster = settings.cluster
        self._id = f"{socket.gethostname()}-{os.getpid()}"
        self._shown_broker = broker_without_passwords(broker.url)
        self._redactor = Redactor(settings.redact)
        self._outbox = Outbox(settings.buffer_bytes, settings.batch_events)
        self._origin = Origin(settings.cluster, self._id, f"{time.time_ns():x}")
        self._ring: Ring | None = None
        self._leadership: Leadership | None = None
        if adapter.shares:
            self._stream: Stream = context.bus
            self._publisher = self._new_publisher()
        else:
            self._stand_by()
        self._front: Outbox | Ring = self._outbox if self._ring is None else self._ring
        self._redelivered = Redelivered(context.bus, self._outbox, settings.cluster)
        self._intake = Intake(
            self._front,
            self._redactor,
            settings.field_bytes,
            lambda: self._publisher.largest_event,
            self._redelivered,
        )
        self._broker = broker
        self._adapter = adapter
        self._reader = self._new_reader()
        self._names = QueueNames(broker.queues)
        self._depths = DepthWatch(
            adapter.queue_reader(broker), self._names, settings.queue_interval, self._observed, self._redactor.text
        )
        self._depths_seen: Entry | None = None
        self._report_now = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads: list[asyncio.Task[None]] = []
        self._tasks: list[asyncio.Task[None]] = []

    def _stand_by(self) -> None:
        """Every collector hears everything, so that one publishes and the others are ready to."""
        bus, holder = self._context.bus, Holder(f"{self._id}-{self._origin.run}", self._id, self._shown_broker)
        lease = Lease(bus, self._cluster, holder.name)
        self._stream = stream = LeasedStream(bus, lease)
        self._publisher = self._new_publisher()
        self._ring = ring = Ring(self._outbox, self._context.settings.buffer_bytes, steady, self._new_spill())
        self._leadership = Leadership(
            bus,
            self._cluster,
            holder,
            lease,
            stream,
            ring,
            self._publisher,
            start=self._context.watch.start,
            hears=lambda: self._reader.link.connected,
            changed=self._role_changed,
        )

    def _new_spill(self) -> Spill[Span] | None:
        settings = self._context.settings
        return Spill(Path(settings.data_dir or ".") / "spill", settings.spill_bytes) if settings.spill_bytes else None

    def _new_publisher(self) -> Publisher:
        settings = self._context.settings
        return Publisher(
            self._stream,
            self._outbox,
            self._origin,
            batch_events=settings.batch_events,
            batch_wait=settings.batch_wait / 1000.0,
        )

    def _new_reader(self) -> Reader:
        return Reader(
            self._adapter.events(self._broker),
            self._shown_broker,
            self._intake.deliver,
            self._intake.discard,
            self._link_changed,
            self._missed,
        )

    async def listen(self) -> None:
        """Find out with whom the broker is shared, and subscribe to what workers answer to inspections."""
        self._loop = asyncio.get_running_loop()
        self._outbox.open(self._loop)
        await self._redelivered.open()
        if self._leadership is not None:
            await self._leadership.open()
        if not self._broker.group:  # those who write to one NATS share a queue, and nobody else takes from it
            group = await self._context.bus.shared_key("collector-group", secrets.token_hex(4).encode())
            self._broker = msgspec.structs.replace(self._broker, group=group.decode())
            self._reader = self._new_reader()
        await self._context.bus.listen(subjects.events(self._cluster, subjects.WORKERS), self._heard_workers)

    async def speak(self) -> None:
        """Start reading and publishing."""
        sys.setswitchinterval(TAKE_TURNS)  # this process is the collector's own
        start = self._context.watch.start
        self._tasks = [start("collector reports", self._report_for_ever())]
        if self._leadership is not None and self._ring is not None:
            self._tasks.append(start("collector stands by", self._leadership.run()))
            self._tasks.append(start("collector keeps events", in_thread("ring", self._ring.run)))
        else:
            self._tasks.append(start("collector publishes", self._publisher.run()))
            self._tasks.append(start("collector checks what is redelivered", self._redelivered.run()))
        self._threads = [
            start("collector reads events", in_thread("events", self._reader.run)),
            start("collector reads queues", in_thread("queues", self._depths.run)),
        ]

    async def stop(self) -> None:
        """Stop reading, publish what is buffered, and say so. May be called twice."""
        if not self._threads:
            return
        threads, self._threads = self._threads, []
        if self._leadership is not None:
            self._leadership.stopping()
        self._outbox.hurry()
        self._reader.stop()
        self._depths.stop()
        _, late = await asyncio.wait(threads, timeout=THREADS_DEADLINE)
        for task in late:
            log.warning("%s: the broker does not answer, it is left alone.", task.get_name())
        if self._leadership is not None:
            await self._leadership.decided(DRAIN_DEADLINE)
        if self._publishes:
            left = await self._drained()
            if left:
                log.warning("%d facts could not be published.", left, extra={"action": "collector.unpublished"})
            await self._report()
        for task in late:
            task.cancel()
        if self._ring is not None:
            self._ring.stop()
        await ended(self._tasks)
        if self._leadership is not None:
            await self._leadership.stop()

    async def _drained(self) -> int:
        """Wait until all that was heard is stored, at most `DRAIN_DEADLINE`; gives how many facts are left."""
        loop = asyncio.get_running_loop()
        end = loop.time() + DRAIN_DEADLINE
        while True:
            left = max(await self._publisher.drain(end - loop.time()), len(self._front))
            if not left or loop.time() >= end:
                return left
            await asyncio.sleep(PASS_ON)

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """None: the collector serves no pages."""
        return ()

    def health(self) -> dict[str, Any]:
        """Whether it is connected to the broker, and what it has counted."""
        link = self._reader.link
        return {
            "ok": link.connected,
            "broker": self._shown_broker,
            "error": self._shown_error(link),
            "received": self._intake.received,
            "published": self._publisher.published,
            "buffered": len(self._front) if self._publishes else 0,
            "buffered_bytes": self._front.bytes if self._publishes else 0,
            "spilled_bytes": self._spilled_bytes,
            "dropped": self._outbox.dropped,
            "discarded": self._intake.discarded,
            **({} if self._leadership is None else self._leadership.health()),
        }

    # -- called in the threads ------------------------------------------------------------------------------------

    def _link_changed(self, link: Link) -> None:
        if link.connected:
            self._redelivered.connection_made()
        else:
            self._redelivered.connection_lost()
        if self._ring is not None and link.connected:
            self._ring.connected()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell_soon)

    def _missed(self, start: float, end: float) -> None:
        gap = CollectorGap(seen=end, start=start, end=end, reason="broker-unavailable")
        self._front.put([Entry(subjects.COLLECTOR, end, encode(gap))])

    def _observed(self, fact: QueuesObserved) -> None:
        entry = Entry(subjects.QUEUES, fact.seen, encode(fact))
        if self._publishes:
            self._front.put([entry])
        else:
            self._depths_seen = entry

    # -- called in the loop -----------------------------------------------------------------------------------------

    @property
    def _spilled_bytes(self) -> int:
        return 0 if self._ring is None else self._ring.spilled

    @property
    def _publishes(self) -> bool:
        """Whether this collector publishes: always, where it shares the events with others."""
        return self._leadership is None or self._leadership.leads

    def _role_changed(self) -> None:
        """Who takes over says at once what the queues are like, and that it leads."""
        seen = self._depths_seen
        if self._publishes and seen is not None:
            self._depths_seen = None
            self._front.put([seen])
        self._report_now.set()

    def _tell_soon(self) -> None:
        """Something has changed that is to be reported, or that decides who publishes."""
        self._report_now.set()
        if self._leadership is not None:
            self._leadership.look_again()

    async def _heard_workers(self, subject: str, data: bytes) -> None:
        try:
            batch = decode_batch(data)
        except InvalidMessage as exc:
            log.warning("A message on %s is not a batch: %s", subject, exc, extra={"action": "collector.not-a-batch"})
            return
        for fact in batch.events:
            if isinstance(fact, WorkerInspected):
                self._names.learn(fact.replies.get("active_queues"))

    async def _report_for_ever(self) -> None:
        while True:
            await self._report()
            try:
                async with asyncio.timeout(REPORT_EVERY):
                    await self._report_now.wait()
            except TimeoutError:
                continue
            self._report_now.clear()

    async def _report(self) -> None:
        link = self._reader.link
        fact = CollectorReported(
            seen=time.time(),
            broker=self._shown_broker,
            connected=link.connected,
            since=link.since,
            error=self._shown_error(link),
            received=self._intake.received,
            published=self._publisher.published,
            dropped=self._outbox.dropped,
            lag=self._publisher.lag,
            loop_lag=self._context.watch.loop_lag.seconds,
            buffered=len(self._front),
            spilled_bytes=self._spilled_bytes,
            discarded=self._intake.discarded,
            collector=self._id,
            standbys=() if self._leadership is None else self._leadership.standbys,
            takeovers=0 if self._leadership is None else self._leadership.takeovers,
        )
        if not self._context.bus.connected or not self._publishes:
            return  # the next report says it all again
        try:
            await self._stream.append(
                subjects.events(self._cluster, subjects.COLLECTOR),
                encode_batch(self._cluster, self._id, [fact]),
                timeout=REPORT_TIMEOUT,
            )
        except BusUnavailable as exc:
            log.debug("A report was not stored, the next one says it all again: %s", exc)

    def _shown_error(self, link: Link) -> str | None:
        return None if link.error is None else self._redactor.text(link.error)
