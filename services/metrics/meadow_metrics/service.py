"""Hears facts. Says `GET /metrics`, for Prometheus.

Counters begin at 0 with the process, as Flower's do; what is the case now (workers online, tasks executing) is learnt
from the next heartbeats within seconds.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry

from meadow.bus import Bus, StreamMessage
from meadow.errors import InvalidMessage
from meadow.service import Context, Watch
from meadow.settings import Settings
from meadow.subjects import EVENTS_STREAM
from meadow_metrics.exposition import encode, process_registry
from meadow_metrics.facts import reader
from meadow_metrics.measure import Measures

log = logging.getLogger(__name__)

REST = 0.1
"""Seconds of rest when all is read: facts that come one by one are cheaper to read together."""


def build(context: Context) -> "MetricsService":
    """The metrics service."""
    return MetricsService(context.settings, context.bus, context.watch)


class MetricsService:
    """Reads the stream from the moment it starts and keeps the values of all series."""

    name = "metrics"

    def __init__(self, settings: Settings, bus: Bus, watch: Watch) -> None:
        self._settings = settings
        self._bus = bus
        self._watch = watch
        self._measures = Measures(settings.task_runtime_metric_buckets)
        self._process: CollectorRegistry = process_registry()
        self._reader = reader()
        self._encoding = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None
        self._invalid_run = False

    async def listen(self) -> None:
        """Take in every fact from now on."""
        position = (await self._bus.stream_state(EVENTS_STREAM)).last
        self._reading = self._watch.start("metrics: read facts", self._read(position))

    async def speak(self) -> None:
        """There is nothing to say unasked."""

    async def stop(self) -> None:
        """Stop reading. May be called twice."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})
            self._reading = None

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """`/metrics`."""
        return [web.get("/metrics", self._metrics, allow_head=False)]

    def health(self) -> dict[str, Any]:
        """Well while it reads facts from a connected bus."""
        reads = self._reading is not None and not self._reading.done()
        return {
            "ok": reads and self._bus.connected,
            "processed": self._measures.processed,
            "invalid": self._measures.invalid,
            "lag": self._measures.lag,
        }

    async def _read(self, position: int) -> None:
        subject = f"meadow.events.{self._settings.cluster}.>"
        async for messages in self._bus.read(EVENTS_STREAM, after=position, subject=subject):
            for message in messages:
                self._take(message)
                await asyncio.sleep(0)  # a page may be waiting
            await asyncio.sleep(REST)

    def _take(self, message: StreamMessage) -> None:
        try:
            facts = self._reader.read(message.data)
        except InvalidMessage as exc:
            self._reject(message, exc)
            return
        self._invalid_run = False
        self._measures.observe(facts, time.monotonic())
        if facts:
            self._measures.lag = max(time.time() - facts[-1].seen, 0.0)

    def _reject(self, message: StreamMessage, problem: InvalidMessage) -> None:
        self._measures.invalid += 1
        if not self._invalid_run:
            log.warning(
                "A message on %s cannot be counted: %s",
                message.subject,
                problem,
                extra={"action": "metrics.invalid-message", "sequence": message.sequence},
            )
        self._invalid_run = True

    async def _metrics(self, request: web.Request) -> web.Response:
        async with self._encoding:  # one at a time: nobody has to sign in to ask
            now = time.monotonic()
            if self._settings.purge_offline_workers is not None:
                self._measures.purge(now, self._settings.purge_offline_workers)
            page = await asyncio.to_thread(
                encode,
                self._process,
                self._measures.snapshot(
                    now, self._watch.loop_lag.seconds, {role: lag() for role, lag in self._watch.child_lags.items()}
                ),
                request.headers.get("Accept", ""),
                request.headers.get("Accept-Encoding", ""),
            )
        headers = {"Content-Type": page.content_type, "Vary": "Accept, Accept-Encoding"}
        if page.gzipped:
            headers["Content-Encoding"] = "gzip"
        return web.Response(body=page.body, headers=headers)
