"""The collector.

Hears: the broker (Celery's events, queue depths), and what workers answered to inspections (for their queues' names).
Says: facts about tasks, workers and queues, its own state, and gaps, on `meadow.events.<cluster>.…`.
"""

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Sequence
from typing import Any

import msgspec
from aiohttp import web

from meadow import subjects
from meadow.broker import BrokerAdapter, BrokerConfig
from meadow.codec import decode_batch, encode, encode_batch
from meadow.errors import BusUnavailable, InvalidMessage, StartRefused
from meadow.events import CollectorGap, CollectorReported, QueuesObserved, WorkerInspected
from meadow.redact import Redactor, broker_without_passwords
from meadow.service import Context
from meadow_collector.depths import DepthWatch, QueueNames
from meadow_collector.intake import Intake
from meadow_collector.outbox import Entry, Outbox
from meadow_collector.publisher import Origin, Publisher
from meadow_collector.reader import Link, Reader
from meadow_collector.redelivery import Redelivered
from meadow_collector.threads import in_thread

log = logging.getLogger(__name__)

REPORT_EVERY = 5.0
REPORT_TIMEOUT = 1.0
THREADS_DEADLINE = 2.0
DRAIN_DEADLINE = 2.0


def build(context: Context, broker: BrokerConfig) -> "CollectorService":
    """The collector of one cluster; raises `StartRefused` when no plugin reads this kind of broker."""
    return CollectorService(context, broker, choose_adapter(context, broker))


def choose_adapter(context: Context, broker: BrokerConfig) -> BrokerAdapter:
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

    def __init__(self, context: Context, broker: BrokerConfig, adapter: BrokerAdapter) -> None:
        settings = context.settings
        self._context = context
        self._cluster = settings.cluster
        self._id = f"{socket.gethostname()}-{os.getpid()}"
        self._shown_broker = broker_without_passwords(broker.url)
        self._redactor = Redactor(settings.redact)
        self._outbox = Outbox(settings.buffer_bytes, settings.batch_events)
        self._publisher = Publisher(
            context.bus,
            self._outbox,
            Origin(settings.cluster, self._id, f"{time.time_ns():x}"),
            batch_events=settings.batch_events,
            batch_wait=settings.batch_wait / 1000.0,
        )
        self._redelivered = Redelivered(context.bus, self._outbox, settings.cluster)
        self._intake = Intake(
            self._outbox,
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
        self._report_now = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads: list[asyncio.Task[None]] = []
        self._tasks: list[asyncio.Task[None]] = []

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
        if not self._broker.group:  # those who write to one NATS share a queue, and nobody else takes from it
            group = await self._context.bus.shared_key("collector-group", secrets.token_hex(4).encode())
            self._broker = msgspec.structs.replace(self._broker, group=group.decode())
            self._reader = self._new_reader()
        await self._context.bus.listen(subjects.events(self._cluster, subjects.WORKERS), self._heard_workers)

    async def speak(self) -> None:
        """Start reading and publishing."""
        start = self._context.watch.start
        self._tasks = [
            start("collector publishes", self._publisher.run()),
            start("collector checks what is redelivered", self._redelivered.run()),
            start("collector reports", self._report_for_ever()),
        ]
        self._threads = [
            start("collector reads events", in_thread("events", self._reader.run)),
            start("collector reads queues", in_thread("queues", self._depths.run)),
        ]

    async def stop(self) -> None:
        """Stop reading, publish what is buffered, and say so. May be called twice."""
        if not self._threads:
            return
        threads, self._threads = self._threads, []
        self._outbox.hurry()
        self._reader.stop()
        self._depths.stop()
        _, late = await asyncio.wait(threads, timeout=THREADS_DEADLINE)
        for task in late:
            log.warning("%s: the broker does not answer, it is left alone.", task.get_name())
        left = await self._publisher.drain(DRAIN_DEADLINE)
        if left:
            log.warning("%d facts could not be published.", left, extra={"action": "collector.unpublished"})
        await self._report()
        for task in (*self._tasks, *late):
            task.cancel()

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
            "buffered": len(self._outbox),
            "dropped": self._outbox.dropped,
            "discarded": self._intake.discarded,
        }

    # -- called in the threads ------------------------------------------------------------------------------------

    def _link_changed(self, link: Link) -> None:
        if link.connected:
            self._redelivered.connection_made()
        else:
            self._redelivered.connection_lost()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._report_now.set)

    def _missed(self, start: float, end: float) -> None:
        gap = CollectorGap(seen=end, start=start, end=end, reason="broker-unavailable")
        self._outbox.put([Entry(subjects.COLLECTOR, end, encode(gap))])

    def _observed(self, fact: QueuesObserved) -> None:
        self._outbox.put([Entry(subjects.QUEUES, fact.seen, encode(fact))])

    # -- called in the loop -----------------------------------------------------------------------------------------

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
            discarded=self._intake.discarded,
        )
        if not self._context.bus.connected:
            return  # the next report says it all again
        try:
            await self._context.bus.append(
                subjects.events(self._cluster, subjects.COLLECTOR),
                encode_batch(self._cluster, self._id, [fact]),
                timeout=REPORT_TIMEOUT,
            )
        except BusUnavailable as exc:
            log.debug("A report was not stored, the next one says it all again: %s", exc)

    def _shown_error(self, link: Link) -> str | None:
        return None if link.error is None else self._redactor.text(link.error)
