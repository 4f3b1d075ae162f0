"""Asks the controller to inspect workers when somebody looks at them."""

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
MOST_AT_ONCE = 16
ALL_WORKERS = "*"


class Refresher:
    """Inspections in the name of whoever looks: at most one at a time for each worker, and a bounded number in all."""

    def __init__(self, ask: Ask, watch: Watch) -> None:
        self._ask = ask
        self._watch = watch
        self._running: set[str] = set()

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
            return await self._inspect(request, name)
        if visit.now - answer.inspected.get("active", 0.0) > MAX_AGE:
            self.start(request, name)
        return {}

    def start(self, request: web.Request, name: str | None) -> None:
        """Inspect behind the page; `None` asks all workers."""
        key = name or ALL_WORKERS
        if key in self._running or len(self._running) >= MOST_AT_ONCE:
            return
        self._running.add(key)
        task = self._watch.start(f"inspect {key}", self._behind(request, name))
        task.add_done_callback(lambda _: self._running.discard(key))

    async def _behind(self, request: web.Request, name: str | None) -> None:
        await self._inspect(request, name)

    async def _inspect(self, request: web.Request, name: str | None) -> dict[str, Any]:
        command = InspectWorkers(
            workers=None if name is None else (name,),
            methods=DEFAULT_METHODS if name is None else INSPECT_METHODS,
            max_age=0.0 if "refresh" in request.query else MAX_AGE,
        )
        try:
            reply = await self._ask.controller(request, command)
        except NoAnswer as exc:
            log.warning("A worker page is shown without an inspection: %s", exc, extra={"action": "web.inspect"})
            return {}
        if not reply.ok:
            log.info("Workers were not inspected: %s", reply.message, extra={"action": "web.inspect"})
        return dict(as_mapping(as_mapping(reply.value).get(name or "")))
