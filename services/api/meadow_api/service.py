"""The api service.

Hears: facts (`MEADOW_EVENTS`), audit records (`MEADOW_AUDIT`), questions (`meadow.query.<name>`).
Says: answers, `meadow.changed.<cluster>` after each commit and when a worker falls silent, HTTP below `/api`.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine, Sequence
from typing import Any

from aiohttp import web
from msgspec.structs import asdict

from meadow import subjects
from meadow.bus import Answering
from meadow.codec import encode
from meadow.errors import BusError
from meadow.queries import Changed, StreamProgress
from meadow.service import Context
from meadow_api import presence
from meadow_api.answers import Answers
from meadow_api.command_routes import command_routes
from meadow_api.errors import StoreError
from meadow_api.follow import AuditFollower, EventFollower, Follower
from meadow_api.housekeeping import Housekeeping
from meadow_api.routes import ReadEndpoints
from meadow_api.search.upkeep import SearchIndex
from meadow_api.store import retention
from meadow_api.store.database import Database, place_of
from meadow_api.store.writer import Changes, Writer
from meadow_api.turn import Turn
from meadow_api.v1.endpoint import Reading
from meadow_api.v1.resources import Resources

log = logging.getLogger(__name__)

QUEUE_GROUP = "api"
TICK = 1.0
HOUSEKEEPING = 30.0
MOST_NAMED = 500


def build(context: Context) -> "ApiService":
    """The service, not yet running."""
    return ApiService(context, Database(place_of(context.settings)))


class ApiService:
    """Keeps the task store and answers from it."""

    name = "api"

    def __init__(self, context: Context, database: Database) -> None:
        self._context = context
        self._database = database
        self._search = SearchIndex(database, context.settings)
        self._writer = Writer(database)
        self._answers = Answers(database, context.settings, progress=self._stream_progress)
        self._housekeeping = Housekeeping(database, retention.Limits.of(context.settings))
        self._turn = Turn(database, self._stand_by)
        common = (context.bus, database, self._writer)
        self._events = EventFollower(*common, subjects.EVENTS_STREAM, subjects.ALL_EVENTS, self._announce, self._turn)
        self._audit = AuditFollower(*common, subjects.AUDIT_STREAM, subjects.ALL_AUDIT, self._announce, self._turn)
        self._online: dict[str, set[str]] = {}
        self._running: list[asyncio.Task[None]] = []
        self._unheard = False
        self._answering: Answering | None = None
        reading = Reading(database, context.bus, context.settings, self._answers.present)
        self._resources = Resources(reading, self._answers, self._whole_health)

    async def listen(self) -> None:
        """Open the store and answer questions."""
        bus = self._context.bus
        await self._database.open()
        await self._writer.load()
        self._answering = await bus.answer(self._answers.handlers(bus.max_payload), group=QUEUE_GROUP)

    async def speak(self) -> None:
        """Read the streams, tell what changes, and let go of what is old."""
        if self._database.shared:
            self._start("api: take turns", self._turn.run())
        self._start("api: read facts", self._events.run())
        self._start("api: read audit records", self._audit.run())
        self._start("api: watch workers", self._watch_workers())
        self._start("api: look ahead", self._look_ahead())
        self._start("api: keep house", self._keep_house())
        self._start("api: index texts", self._search.run())

    async def stop(self) -> None:
        """Take no more questions, stop reading, finish the transaction under way, close the store."""
        if self._answering is not None:
            await self._answering.stop()
        pending = set(self._running)
        while pending:
            for task in pending:
                task.cancel()
            # Python 3.11's wait_for, which reading from NATS goes through, can lose a cancellation: say it again.
            _, pending = await asyncio.wait(pending, timeout=0.5)
        self._running.clear()
        await self._search.let_go()
        await self._database.close()
        await self._search.close()

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Flower's API, and Meadow's own below `/api/v1`."""
        endpoints = ReadEndpoints(self._context, self._database, self._writer, self._answers)
        return [*endpoints.routes(), *command_routes(self._context), *self._resources.routes()]

    async def hang_up(self) -> None:
        """End the event streams that are open, so that a stop need not wait for them."""
        await self._resources.hang_up()

    def health(self) -> dict[str, Any]:
        """Whether facts reach the store, and how far they have."""
        followers: tuple[Follower, ...] = (self._events, self._audit)
        errors = [f.progress.error for f in followers if f.progress.error]
        connected = self._context.bus.connected
        return {
            "ok": connected and not errors and bool(self._running) and not any(t.done() for t in self._running),
            "error": errors[0] if errors else None if connected else "There is no connection to NATS.",
            "writes": self._turn.ours,
            "streams": {each.stream: asdict(each) for each in self._stream_progress()},
        }

    def _whole_health(self) -> dict[str, Any]:
        """The same, and how the process and the services beside this one are."""
        return {**self._context.watch.health(), **self.health()}

    async def _stand_by(self) -> None:
        """Another process writes: see how far it is."""
        with contextlib.suppress(BusError):  # health says that NATS is away
            for follower in (self._events, self._audit):
                await follower.look_on()

    def _stream_progress(self) -> list[StreamProgress]:
        now = time.monotonic()
        return [_progress(follower, now) for follower in (self._events, self._audit)]

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._running.append(self._context.watch.start(name, work))

    async def _announce(self, cluster: str, sequence: int, changes: Changes) -> None:
        """Tell what a commit changed."""
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
        while True:
            with contextlib.suppress(BusError):  # health says that NATS is away
                await self._events.look_ahead()
                await self._audit.look_ahead()
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
