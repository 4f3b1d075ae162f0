"""Flower's GET endpoints."""

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
from aiohttp import web
from sqlalchemy import Connection

from meadow import subjects
from meadow.codec import decode, encode
from meadow.commands import DEFAULT_METHODS, INSPECT_METHODS, CommandReply, CommandRequest, InspectWorkers
from meadow.errors import BusError, InvalidMessage
from meadow.service import Context
from meadow_api import replies
from meadow_api.answers import Answers
from meadow_api.errors import InvalidQuestion, SearchError, StoreError
from meadow_api.queue_lengths import QueueLengths
from meadow_api.shapes import flower_task
from meadow_api.store import flower_reads, task_reads, worker_reads
from meadow_api.store.database import Database
from meadow_api.store.flower_reads import FlowerFilter
from meadow_api.store.schema import tasks

log = logging.getLogger(__name__)

SORTS = ("name", "received", "started", "state")
WHOLE_ANSWER = 2000
CHUNK = 500
WORKER_KEYS = (
    "active_queues",
    "timestamp",
    "stats",
    "registered",
    "conf",
    "active",
    "reserved",
    "scheduled",
    "revoked",
)


class ReadEndpoints:
    """Handlers; each reads its arguments, asks the store in a thread, and answers in Flower's shape."""

    def __init__(
        self,
        context: Context,
        database: Database,
        answers: Answers,
    ) -> None:
        self._context = context
        self._cluster = context.settings.cluster
        self._database = database
        self._answers = answers
        self._lengths = QueueLengths(database, context.settings)

    def routes(self) -> list[web.RouteDef]:
        """The routes. HEAD is refused, as in Flower."""
        handlers = {
            "/healthcheck": self.healthcheck,
            "/api/workers": self.workers,
            "/api/tasks": self.tasks,
            "/api/task/info/{uuid:.*}": self.task_info,
            "/api/task/types": self.task_types,
            "/api/queues/length": self.queue_lengths,
        }
        return [web.get(path, _guarded(handler), allow_head=False) for path, handler in handlers.items()]

    async def healthcheck(self, request: web.Request) -> web.StreamResponse:
        """The process answers. Whether all is well is told by `/api/v1/health`."""
        return web.Response(text="OK", content_type="text/html", charset="UTF-8")

    async def workers(self, request: web.Request) -> web.StreamResponse:
        """The last inspections, or with `status` who is online."""
        refresh, status = replies.bool_argument(request, "refresh"), replies.bool_argument(request, "status")
        name = replies.argument(request, "workername") or None
        if status:
            return replies.json(request, await self._status())
        fresh = await self._refresh(request, name) if refresh else {}
        inspected = await self._database.read(lambda c: worker_reads.read_inspections(c, self._cluster, name))
        for worker, answers in fresh.items():  # which are on their way to the store
            inspected[worker] = inspected.get(worker, {}) | answers
        if name is not None and name not in inspected:
            if not await self._database.read(lambda c: worker_reads.is_known(c, self._cluster, name)):
                return replies.text(404, f"Unknown worker '{name}'")
            inspected[name] = {}
        found = {worker: _inspection(answers) for worker, answers in sorted(inspected.items())}
        return replies.json_bytes(request, await asyncio.to_thread(encode, found))

    async def tasks(self, request: web.Request) -> web.StreamResponse:
        """Tasks by Flower's filters; without a limit all of them."""
        limit, offset = replies.int_argument(request, "limit"), replies.int_argument(request, "offset") or 0
        sort = replies.argument(request, "sort_by") or None
        if sort is not None and sort.removeprefix("-") not in SORTS:
            expected = ", ".join(SORTS)
            return replies.text(400, f"Invalid sort_by '{sort}', expected one of {expected}")
        wanted = _filter(request)

        def work(connection: Connection) -> web.Response | Sequence[int]:
            ids = flower_reads.find_ids(
                connection,
                self._cluster,
                wanted,
                sort=sort.removeprefix("-") if sort else None,
                descending=bool(sort and sort.startswith("-")),
                offset=offset,
                limit=limit,
            )
            if len(ids) > WHOLE_ANSWER:
                return ids
            pieces = [self._members(ids[start : start + CHUNK], connection) for start in range(0, len(ids), CHUNK)]
            return replies.json_bytes(request, b"{" + b",".join(filter(None, pieces)) + b"}")

        try:
            found = await self._database.read(work)
        except SearchError as exc:
            return replies.json(request, {"error": str(exc)}, 400)
        return found if isinstance(found, web.Response) else await self._stream(request, found)

    async def task_info(self, request: web.Request) -> web.StreamResponse:
        """One task."""
        uuid = _storable(request.match_info["uuid"])
        task = await self._database.read(lambda c: task_reads.get_task(c, self._cluster, uuid))
        if task is None:
            return replies.text(404, f"Unknown task '{uuid}'")
        return replies.json(request, flower_task(self._answers.present(task)))

    async def task_types(self, request: web.Request) -> web.StreamResponse:
        """The names of all tasks in the store."""

        def work(connection: Any) -> list[str]:
            cluster = task_reads.find_cluster(connection, self._cluster)
            return [] if cluster is None else task_reads.distinct(connection, cluster, tasks.c.name)

        return replies.json(request, {"task-types": await self._database.read(work)})

    async def queue_lengths(self, request: web.Request) -> web.StreamResponse:
        """The queues that workers consume or the app names, and how long they are."""
        found = await self._lengths.find()
        if not found.supported:
            transport = found.broker.partition(":")[0] or "this"
            return replies.text(404, f"'{transport}' broker is not supported")
        if found.error is not None:
            log.warning("Queue lengths are not known: %s", found.error, extra={"action": "api.queues"})
            if found.broker.startswith(("amqp", "pyamqp")):
                return replies.json(request, {"active_queues": []})
            return replies.empty(500)
        return replies.json(request, {"active_queues": found.queues})

    async def _status(self) -> dict[str, bool]:
        rows = await self._database.read(lambda c: worker_reads.list_workers(c, self._cluster, time.time()))
        return {row.hostname: row.online for row in rows if row.last_seen is not None}

    async def _refresh(self, request: web.Request, worker: str | None) -> dict[str, worker_reads.Answers]:
        """Ask the workers through the controller. When that fails, the last answers have to do, as in Flower."""
        wish = CommandRequest(
            cluster=self._cluster,
            command=InspectWorkers(
                workers=None if worker is None else (worker,),
                methods=DEFAULT_METHODS if worker is None else INSPECT_METHODS,
            ),
            claim=self._context.gate.claim(request),
            source=self._context.gate.source(request),
        )
        patience = self._context.settings.inspect_timeout / 1000.0 + 10.0
        try:
            data = await self._context.bus.ask(subjects.command(self._cluster), encode(wish), timeout=patience)
            reply = decode(data, CommandReply)
            answers = msgspec.convert(reply.value or {}, dict[str, dict[str, Any]])
        except (BusError, InvalidMessage, msgspec.ValidationError) as exc:
            log.warning("Workers could not be inspected: %s", exc, extra={"action": "api.refresh"})
            return {}
        if not reply.ok:
            log.warning("Workers could not be inspected: %s", reply.message, extra={"action": "api.refresh"})
        now = time.time()
        return {
            host: {method: (now, worker_reads.bounded(answer)) for method, answer in given.items()}
            for host, given in answers.items()
        }

    def _members(self, ids: Sequence[int], connection: Connection) -> bytes:
        """The tasks as members of a JSON object, without its braces."""
        lines = flower_reads.read_lines(connection, ids, self._answers.present)
        return encode({line["uuid"]: line for line in lines})[1:-1]

    async def _stream(self, request: web.Request, ids: Sequence[int]) -> web.StreamResponse:
        """A list of any length, a piece at a time: neither memory nor the event loop holds all of it."""
        response = web.StreamResponse(headers={"Content-Type": replies.JSON_TYPE, "X-Content-Type-Options": "nosniff"})
        await response.prepare(request)
        separator = b"{"
        for start in range(0, len(ids), CHUNK):
            try:
                some = ids[start : start + CHUNK]
                members = await self._database.read(partial(self._members, some))
            except StoreError as exc:
                return _cut(request, response, exc)
            if members:
                await response.write(separator + members)
                separator = b","
        await response.write(b"{}" if separator == b"{" else b"}")
        await response.write_eof()
        return response


def _guarded(handler: Any) -> Any:
    async def guarded(request: web.Request) -> web.StreamResponse:
        try:
            answer: web.StreamResponse = await handler(request)
        except InvalidQuestion as exc:
            return replies.text(400, str(exc))
        except StoreError as exc:
            log.warning("%s was not answered: %s", request.path, exc, extra={"action": "api.store"})
            return replies.text(503, str(exc))
        return answer

    return guarded


def _cut(request: web.Request, response: web.StreamResponse, exc: StoreError) -> web.StreamResponse:
    """The status was sent already: only a cut connection can still say that the list is not whole."""
    log.warning("%s was cut: %s", request.path, exc, extra={"action": "api.store"})
    if request.transport is not None:
        request.transport.abort()
    return response


def _filter(request: web.Request) -> FlowerFilter:
    try:
        start = replies.time_argument(request, "received_start")
        end = replies.time_argument(request, "received_end")
    except ValueError as exc:
        raise replies.bad_request("Invalid received_start or received_end, expected format 'YYYY-MM-DD HH:MM'") from exc
    return FlowerFilter(
        search=replies.argument(request, "search") or "",
        name=_named(replies.argument(request, "taskname")),
        worker=_named(replies.argument(request, "workername")),
        state=_named(replies.argument(request, "state")),
        received_start=start,
        received_end=end,
    )


def _named(value: str | None) -> str | None:
    return None if value in (None, "", "All") else value


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _inspection(answers: worker_reads.Answers) -> dict[str, Any]:
    found = {method: answer for method, (_, answer) in answers.items()}
    if answers:
        found["timestamp"] = max(at for at, _ in answers.values())
    ordered = {key: found.pop(key) for key in WORKER_KEYS if key in found}
    return {**ordered, **found}
