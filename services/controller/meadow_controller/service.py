"""The controller: the only service that acts on Celery.

Hears commands (`meadow.command.<cluster>`) and facts about workers. Says audit records (`meadow.audit.<cluster>`)
and what workers answer to inspections (`worker-inspected` on `meadow.events.<cluster>.workers`).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from meadow import codec, subjects
from meadow.bus import Answering
from meadow.commands import DEFAULT_METHODS, CommandReply, CommandRequest
from meadow.errors import BusError, InvalidMessage, MeadowError
from meadow.events import WorkerHeartbeat, WorkerInspected, WorkerOffline, WorkerOnline
from meadow.redact import Redactor
from meadow.service import Context
from meadow_controller.answers import presentable
from meadow_controller.audit_log import AuditLog
from meadow_controller.celery_app import load, prepare
from meadow_controller.celery_control import CeleryControl
from meadow_controller.fulfil import Fulfilment
from meadow_controller.gate import CommandGate
from meadow_controller.inspections import Answer, Inspections
from meadow_controller.known_workers import KnownWorkers
from meadow_controller.sizes import fitting_fact, fitting_reply
from meadow_controller.waiting import Waiting

log = logging.getLogger(__name__)

GROUP = "controller"
EVENTS_SECONDS = 5.0
AGAIN_SECONDS = 5.0
HISTORY_MESSAGES = 5_000
NEW_WORKERS = 1_000
NEW_WORKER_TRIES = 3


def build(context: Context) -> "ControllerService":
    """The controller of one cluster; raises `StartRefused` when there is no app to control."""
    settings = context.settings
    app = load(settings) if context.celery_app is None else prepare(context.celery_app, settings)
    return ControllerService(context, CeleryControl(app, accept_pickle=settings.accept_pickle))


@dataclass
class Condition:
    """Something that works or does not; speaks when that changes."""

    what: str
    action: str
    well: bool | None = None

    def good(self) -> None:
        """It worked."""
        if self.well is False:
            log.info("%s works again.", self.what, extra={"action": f"{self.action}.works"})
        self.well = True

    def bad(self, error: BaseException) -> None:
        """It failed."""
        if self.well is not False:
            log.warning("%s fails: %s", self.what, error, extra={"action": f"{self.action}.fails"})
        self.well = False


class ControllerService:
    """One cluster's controller. Several may run: each command goes to one of them."""

    name = "controller"

    def __init__(self, context: Context, control: CeleryControl, clock: Callable[[], float] = time.time) -> None:
        settings = context.settings
        self._context = context
        self._control = control
        self._clock = clock
        self._redactor = Redactor(settings.redact)
        self._known = KnownWorkers()
        self._new: dict[str, int] = {}
        self._arrived = asyncio.Event()
        self._inspections = Inspections(self._inspect_workers, self._publish, clock)
        self._waiting = Waiting(control.result, limit=settings.apply_timeout)
        self._audit = AuditLog(context.bus)
        self._timeout = settings.inspect_timeout / 1000.0
        self._broker = Condition("Asking workers", "inspect")
        self._events = Condition("Asking workers to send events", "enable-events")
        self._telling = Condition("Publishing inspections", "inspect.publish")
        self._stopped = False
        self._answering: Answering | None = None
        fulfil = Fulfilment(
            control, self._inspections, self._known, self._waiting, self._redactor, inspect_timeout=self._timeout
        )
        self._gate = CommandGate(
            cluster=settings.cluster,
            read_only=settings.read_only,
            verify=context.gate.verify,
            audit=self._audit,
            fulfil=fulfil,
            redactor=self._redactor,
            clock=clock,
        )

    async def listen(self) -> None:
        """Answer commands and hear about workers."""
        bus, cluster = self._context.bus, self._context.settings.cluster
        state = await bus.stream_state(subjects.EVENTS_STREAM)
        self._context.watch.start("controller: worker facts", self._follow(state.last))
        self._answering = await bus.answer({subjects.command(cluster): self._answer}, group=GROUP)

    async def speak(self) -> None:
        """Begin to ask workers."""
        settings, watch = self._context.settings, self._context.watch
        watch.start("controller: audit", self._audit.catch_up())
        watch.start("controller: new workers", self._inspect_new())
        watch.start("controller: inspections", self._inspect_all(settings.inspect_interval))
        if settings.enable_events:
            watch.start("controller: enable events", self._enable_events())

    async def stop(self) -> None:
        """Send waiting callers home and take no more work. May be called twice."""
        self._stopped = True
        if self._answering is not None:
            await self._answering.stop()
        self._waiting.stop()
        await self._inspections.stop()
        self._control.stop()
        await self._audit.stop()

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """None: people talk to the api and to web."""
        return []

    def health(self) -> dict[str, Any]:
        """A broker that is away is no illness of the controller, but worth knowing."""
        return {
            "ok": not self._stopped,
            "broker": self._broker.well,
            "workers": len(self._known),
            "waiting": self._waiting.taken,
            **self._audit.health(),
        }

    # -- commands ----------------------------------------------------------------------------------------------------

    async def _answer(self, data: bytes) -> bytes:
        try:
            request = codec.decode(data, CommandRequest)
        except InvalidMessage as exc:
            return codec.encode(CommandReply(code="invalid", message=str(exc)))
        reply = await self._gate.answer(request)
        return fitting_reply(reply, self._redactor, self._context.bus.max_payload)

    # -- inspections -------------------------------------------------------------------------------------------------

    async def _inspect_workers(
        self, methods: Sequence[str], workers: Sequence[str] | None, timeout: float
    ) -> dict[str, dict[str, Answer]]:
        replies = await self._control.inspect(methods, workers, timeout)
        return await asyncio.to_thread(presentable, replies, self._redactor)

    async def _publish(self, facts: Sequence[WorkerInspected]) -> None:
        bus, cluster = self._context.bus, self._context.settings.cluster
        try:
            for fact in facts:
                self._known.add(fact.hostname)
                data = fitting_fact(fact, cluster, self._redactor, bus.max_payload)
                await bus.append(subjects.events(cluster, subjects.WORKERS), data)
        except BusError as exc:
            self._telling.bad(exc)
        else:
            self._telling.good()

    async def _inspect_all(self, interval: float) -> None:
        while True:
            works = await self._attempt(self._broker, self._inspect_everybody)
            if interval <= 0 and works:
                return
            await asyncio.sleep(interval if works else min(interval or AGAIN_SECONDS, AGAIN_SECONDS))

    async def _inspect_everybody(self) -> None:
        await self._inspections.inspect(DEFAULT_METHODS, None, max_age=0.0, timeout=self._timeout)

    async def _inspect_new(self) -> None:
        """Ask workers that have just appeared, and no others."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._new:
                await self._attempt(self._broker, self._inspect_newcomers)

    async def _inspect_newcomers(self) -> None:
        """A worker may say that it is online a moment before it hears commands, so it is asked more than once."""
        names = tuple(self._new)
        for name in names:
            self._new[name] -= 1
            if self._new[name] <= 0:
                del self._new[name]
        answers = await self._inspections.inspect(DEFAULT_METHODS, names, max_age=0.0, timeout=self._timeout)
        for name in answers:
            self._new.pop(name, None)

    async def _enable_events(self) -> None:
        while True:
            await self._attempt(self._events, lambda: self._control.repeat("enable_events", {}))
            await asyncio.sleep(EVENTS_SECONDS)

    async def _attempt(self, condition: Condition, work: Callable[[], Awaitable[None]]) -> bool:
        try:
            await work()
        except MeadowError as exc:
            condition.bad(exc)
            return False
        condition.good()
        return True

    # -- facts about workers -----------------------------------------------------------------------------------------

    async def _follow(self, present: int) -> None:
        """Learn from recent history which workers there were, and from then on which appear."""
        bus, cluster = self._context.bus, self._context.settings.cluster
        subject = subjects.events(cluster, subjects.WORKERS)
        start = max(present - HISTORY_MESSAGES, 0)
        async for messages in bus.read(subjects.EVENTS_STREAM, after=start, subject=subject):
            for message in messages:
                self._hear(message.data, news=message.sequence > present)

    def _hear(self, data: bytes, *, news: bool) -> None:
        try:
            batch = codec.decode_batch(data)
        except InvalidMessage as exc:
            log.debug("Facts about workers were not understood: %s", exc)
            return
        for fact in batch.events:
            if isinstance(fact, (WorkerOnline, WorkerHeartbeat)):
                new = self._known.add(fact.hostname)
                if news and fact.hostname in self._known and (new or isinstance(fact, WorkerOnline)):
                    self._arrive(fact.hostname)
            elif isinstance(fact, (WorkerOffline, WorkerInspected)):
                self._known.add(fact.hostname)

    def _arrive(self, worker: str) -> None:
        if len(self._new) < NEW_WORKERS:
            self._new[worker] = NEW_WORKER_TRIES
            self._arrived.set()
