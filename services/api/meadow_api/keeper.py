"""Keeps the task store: reads the streams into it, watches over silent workers, lets go of what is old, indexes texts.

Hears: facts (`MEADOW_EVENTS`), audit records (`MEADOW_AUDIT`).
Says: `meadow.changed.<cluster>` after each commit and when a worker falls silent.

It is the writing half of the api. Wherever Meadow is started from the command line it is a process of its own
(`keeper_process`), so that no page waits for Python's lock while a group is written, nor the other way round.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine
from typing import Any, Protocol

from msgspec import Struct

from meadow import subjects
from meadow.codec import encode
from meadow.errors import BusError
from meadow.queries import Changed, StreamProgress
from meadow.service import ChildContext
from meadow_api import presence
from meadow_api.errors import StoreError
from meadow_api.file_mark import FileMark
from meadow_api.follow import AuditFollower, EventFollower, Follower
from meadow_api.housekeeping import Housekeeping
from meadow_api.search.upkeep import upkeep_of
from meadow_api.store import retention
from meadow_api.store.database import Database
from meadow_api.store.writer import Changes, Writer
from meadow_api.turn import Turn

log = logging.getLogger(__name__)

TICK = 1.0
HOUSEKEEPING = 30.0
MOST_NAMED = 500
TOPICS = ("audit", "collector", "pipeline", "queues", "tasks", "workers")


class KeeperReport(Struct, frozen=True, kw_only=True, tag="report"):
    """How keeping the store goes. `writes`: it is not another process that does. `loop_lag` is in seconds.

    `text_index` is the file of the text index that belongs to the store as it is now, if there is one.
    """

    ok: bool = False
    error: str | None = None
    writes: bool = False
    loop_lag: float = 0.0
    streams: tuple[StreamProgress, ...] = ()
    text_index: FileMark | None = None


class Keeping(Protocol):
    """The keeper as the rest of the api knows it, be it here or in a process of its own."""

    @property
    def report(self) -> KeeperReport:
        """How it goes."""

    async def listen(self) -> None:
        """Open the store or make it; raises `StartRefused` and `StoreError`. After it the store can be read."""

    async def speak(self) -> None:
        """Start to write."""

    async def stop(self) -> None:
        """Finish the transaction under way. May be called twice."""


class Keeper:
    """Keeps the store in this process. Whoever gave the database closes it, after `stop`."""

    def __init__(self, context: ChildContext, database: Database) -> None:
        self._context = context
        self._database = database
        self._texts = upkeep_of(database, context.settings)
        self._writer = Writer(database)
        self._housekeeping = Housekeeping(database, retention.Limits.of(context.settings))
        self._turn = Turn(database, self._stand_by)
        common = (context.bus, database, self._writer)
        self._events = EventFollower(*common, subjects.EVENTS_STREAM, subjects.ALL_EVENTS, self._announce, self._turn)
        self._audit = AuditFollower(*common, subjects.AUDIT_STREAM, subjects.ALL_AUDIT, self._announce, self._turn)
        self._followers: tuple[Follower, ...] = (self._events, self._audit)
        self._online: dict[str, set[str]] = {}
        self._running: list[asyncio.Task[None]] = []
        self._unheard = False
        self.committed = asyncio.Event()
        """Set with every commit, for who wants to hear of it to clear."""

    @property
    def report(self) -> KeeperReport:
        """How it goes, now."""
        errors = [follower.progress.error for follower in self._followers if follower.progress.error]
        if not self._context.bus.connected:
            errors.append("There is no connection to NATS where the task store is written.")
        return KeeperReport(
            ok=not errors and bool(self._running) and not any(task.done() for task in self._running),
            error=errors[0] if errors else None,
            writes=self._turn.ours,
            loop_lag=self._context.watch.loop_lag.seconds,
            streams=tuple(_progress(follower, time.monotonic()) for follower in self._followers),
            text_index=self._texts.mark,
        )

    async def listen(self) -> None:
        """Open the store."""
        await self._database.open()
        await self._writer.load()

    async def speak(self) -> None:
        """Read the streams, tell what changes, and let go of what is old."""
        if self._database.shared:
            self._start("keeper: take turns", self._turn.run())
        self._start("keeper: read facts", self._events.run())
        self._start("keeper: read audit records", self._audit.run())
        self._start("keeper: watch workers", self._watch_workers())
        self._start("keeper: look ahead", self._look_ahead())
        self._start("keeper: keep house", self._keep_house())
        self._start("keeper: index texts", self._texts.run())

    async def stop(self) -> None:
        """Stop reading and finish what is under way."""
        pending = set(self._running)
        while pending:
            for task in pending:
                task.cancel()
            # Python 3.11's wait_for, which reading from NATS goes through, can lose a cancellation: say it again.
            _, pending = await asyncio.wait(pending, timeout=0.5)
        self._running.clear()
        await self._texts.close()

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._running.append(self._context.watch.start(name, work))

    async def _stand_by(self) -> None:
        """Another process writes: see how far it is."""
        with contextlib.suppress(BusError):  # health says that NATS is away
            for follower in self._followers:
                await follower.look_on()

    async def _announce_all(self) -> None:
        """Tell that anything may have changed: before this, something may have been written and not been told."""
        for cluster in list(self._writer.board):
            await self._tell(
                Changed(
                    cluster=cluster,
                    sequence=self._events.position.sequence,
                    topics=TOPICS,
                    tasks=None,
                    workers=None,
                )
            )

    async def _announce(self, cluster: str, sequence: int, changes: Changes) -> None:
        """Tell what a commit changed."""
        self.committed.set()
        few = len(changes.tasks) <= MOST_NAMED
        await self._tell(
            Changed(
                cluster=cluster,
                sequence=sequence,
                topics=tuple(sorted(changes.topics)),
                tasks=tuple(changes.tasks) if few else None,
                workers=tuple(changes.workers) if len(changes.workers) <= MOST_NAMED else None,
            )
        )

    async def _tell(self, changed: Changed) -> None:
        try:
            await self._context.bus.tell(subjects.changed(changed.cluster), encode(changed))
        except BusError as exc:
            if not self._unheard:
                log.warning("Nobody can be told what changes: %s", exc, extra={"action": "api.unheard"})
            self._unheard = True
        else:
            self._unheard = False

    async def _watch_workers(self) -> None:
        """Nothing arrives when a worker dies: its silence has to be noticed."""
        while True:
            await asyncio.sleep(TICK)
            await self._turn.wait()
            now = time.time()
            for cluster, workers in list(self._writer.board.items()):
                online = {name for name, record in workers.items() if presence.is_online(record, now)}
                before = self._online.get(cluster)
                self._online[cluster] = online
                if before is not None and before != online:
                    names = tuple(sorted(before ^ online))
                    sequence = self._events.position.sequence
                    await self._tell(
                        Changed(cluster=cluster, sequence=sequence, topics=("workers",), workers=names[:MOST_NAMED])
                    )

    async def _keep_house(self) -> None:
        days = self._context.settings.retention
        complaint = ""
        while True:
            await self._turn.wait()
            try:
                await self._housekeeping.sweep(time.time())
                if days > 0:
                    await self._writer.forget_workers(time.time() - days * retention.DAY)
                complaint = ""
            except (StoreError, BusError) as exc:
                if str(exc) != complaint:
                    log.warning("Old tasks could not be deleted: %s", exc, extra={"action": "store.housekeeping"})
                complaint = str(exc)
            await asyncio.sleep(HOUSEKEEPING)

    async def _look_ahead(self) -> None:
        """How far the streams reach has to be asked: while much comes, reading alone does not tell."""
        connections = -1
        while True:
            with contextlib.suppress(BusError):  # health says that NATS is away
                for follower in self._followers:
                    await follower.look_ahead()
            if self._turn.ours and self._context.bus.connected and connections != self._context.bus.reconnections:
                connections = self._context.bus.reconnections
                await self._announce_all()
            await asyncio.sleep(TICK)


def _progress(follower: Follower, now: float) -> StreamProgress:
    progress = follower.progress
    return StreamProgress(
        stream=progress.stream,
        position=progress.position,
        behind=progress.behind,
        events=progress.events,
        invalid=progress.invalid,
        repeated=progress.repeated,
        rejected=progress.rejected,
        error=progress.error,
        lag=progress.lag,
        lag_at=progress.lag_at,
        rate=progress.throughput.per_second(now),
    )
