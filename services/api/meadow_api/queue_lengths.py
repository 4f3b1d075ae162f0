"""Queue lengths for Flower's endpoint: from the collector's last observation, as long as that is fresh."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from meadow.events import QueuesObserved
from meadow.settings import Settings
from meadow_api.store import queue_reads, worker_reads
from meadow_api.store.database import Database

LONGEST_WAIT = 8.0
POLL = 0.1
LEAST_FRESHNESS = 15.0


@dataclass(frozen=True)
class Lengths:
    """What Flower's endpoint answers with. `error` says why there are no lengths."""

    broker: str = ""
    supported: bool = True
    error: str | None = None
    queues: list[dict[str, Any]] = field(default_factory=list)


class QueueLengths:
    """Reads the lengths. It never asks the broker: the collector does that, every few seconds."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._cluster = settings.cluster
        self._wait = min(LONGEST_WAIT, settings.queue_interval + 3.0)
        self._fresh = max(LEAST_FRESHNESS, 3 * settings.queue_interval)

    async def find(self) -> Lengths:
        """The lengths; where the collector has not seen a queue yet, its next observation is waited for."""
        end = asyncio.get_running_loop().time() + self._wait
        while True:
            lengths, complete = await self._database.read(self._read)
            if complete or asyncio.get_running_loop().time() > end:
                return lengths
            await asyncio.sleep(POLL)

    def _read(self, connection: Connection) -> tuple[Lengths, bool]:
        broker = queue_reads.read_collector(connection, self._cluster).broker
        observed = queue_reads.read_observation(connection, self._cluster)
        if observed is None:
            return Lengths(broker, error="The collector has not read them yet."), False
        if not observed.supported:
            return Lengths(broker, supported=False), bool(broker)
        if observed.error is not None:
            return Lengths(broker, error=observed.error), True
        age = time.time() - observed.seen
        if age > self._fresh:
            return Lengths(broker, error=f"The collector read them {age:.0f} s ago and not since."), True
        return self._complete(connection, broker, observed)

    def _complete(self, connection: Connection, broker: str, observed: QueuesObserved) -> tuple[Lengths, bool]:
        inspected = worker_reads.read_inspections(connection, self._cluster, methods=("active_queues",))
        consumed = {name for answers in inspected.values() for name in worker_reads.queue_names(answers)}
        depths = {queue.name: queue for queue in observed.queues}
        rows = []
        for name in sorted({*consumed, *depths}):
            depth = depths.get(name)
            if depth is not None and depth.raw is not None:
                rows.append(depth.raw)
            else:
                rows.append({"name": name, "messages": depth.messages if depth else None})
        return Lengths(broker, queues=rows), consumed <= depths.keys()
