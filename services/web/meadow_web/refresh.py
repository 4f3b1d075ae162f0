"""Asks the controller to inspect workers when somebody looks at them."""

import asyncio
import logging
from typing import Any

from aiohttp import web

from meadow.commands import DEFAULT_METHODS, INSPECT_METHODS, InspectWorkers
from meadow.queries import WorkerAnswer, WorkerQuery
from meadow.service import Watch
from meadow_web.ask import Ask, NoAnswer
from meadow_web.inspection import as_mapping
from meadow_web.pages.page import Visit

log = logging.getLogger(__name__)

MAX_AGE = 2.0
WATCHED_AGE = 10.0
SETTLE_SECONDS = 1.0
MOST_AT_ONCE = 16
MOST_WATCHED = 256
ALL_WORKERS = "*"


class Refresher:
    """Inspections in the name of whoever looks: at most one at a time for each worker, and a bounded number in all."""

    def __init__(self, ask: Ask, watch: Watch) -> None:
        self._ask = ask
        self._watch = watch
        self._running: set[str] = set()
        self._asked: dict[str, float] = {}

    async def before_showing(self, request: web.Request, visit: Visit) -> dict[str, Any]:
        """Wait for the first inspection of a worker, and for one that was asked for; else refresh behind the page.

        Gives what the worker answered just now. A worker that is known to be offline is left alone.
        """
        name = visit.params["name"]
        answer = await self._ask.api(WorkerQuery(cluster=visit.cluster, hostname=name), WorkerAnswer)
        if answer.worker is not None and not answer.worker.online:
            return {}
        first = "active" not in answer.inspection
        if first or "refresh" in request.query:
            return await self._inspect(request, name, 0.0 if "refresh" in request.query else MAX_AGE)
        if visit.now - answer.inspected.get("active", 0.0) > MAX_AGE:
            self.start(request, name)
        return {}

    def keep_fresh(self, request: web.Request, name: str) -> None:
        """Inspect a worker that somebody keeps watching, at most every `WATCHED_AGE` seconds."""
        now = asyncio.get_running_loop().time()
        if now - self._asked.get(name, -WATCHED_AGE) >= WATCHED_AGE:
            if len(self._asked) >= MOST_WATCHED:
                self._asked.clear()
            self._asked[name] = now
            self.start(request, name, max_age=WATCHED_AGE / 2)

    def after_change(self, request: web.Request, name: str) -> None:
        """Inspect a worker that was told to change, once it had time to."""
        self.start(request, name, max_age=0.0, delay=SETTLE_SECONDS)

    def start(self, request: web.Request, name: str | None, max_age: float = MAX_AGE, delay: float = 0.0) -> None:
        """Inspect behind the page; `None` asks all workers."""
        key = name or ALL_WORKERS
        if key in self._running or len(self._running) >= MOST_AT_ONCE:
            return
        self._running.add(key)
        task = self._watch.start(f"inspect {key}", self._behind(request, name, max_age, delay))
        task.add_done_callback(lambda _: self._running.discard(key))

    async def _behind(self, request: web.Request, name: str | None, max_age: float, delay: float) -> None:
        await asyncio.sleep(delay)
        await self._inspect(request, name, max_age)

    async def _inspect(self, request: web.Request, name: str | None, max_age: float) -> dict[str, Any]:
        command = InspectWorkers(
            workers=None if name is None else (name,),
            methods=DEFAULT_METHODS if name is None else INSPECT_METHODS,
            max_age=max_age,
        )
        try:
            reply = await self._ask.controller(request, command)
        except NoAnswer as exc:
            log.warning("A worker page is shown without an inspection: %s", exc, extra={"action": "web.inspect"})
            return {}
        if not reply.ok:
            log.info("Workers were not inspected: %s", reply.message, extra={"action": "web.inspect"})
        return dict(as_mapping(as_mapping(reply.value).get(name or "")))
