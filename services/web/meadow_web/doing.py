"""Actions: a form asks, a confirmation says what will happen, the controller does it, the outcome is told.

Without JavaScript these are pages and a redirect; with it the same templates come as fragments for a dialog.
"""

import logging
import time

from aiohttp import web

from meadow.access.gate import Gate
from meadow.commands import AnyCommand, RevokeTask, ShutdownWorker, WorkerCommand
from meadow.queries import TaskAnswer, TaskQuery, WorkerAnswer, WorkerList, WorkerListQuery, WorkerQuery
from meadow_web.actions import ACTIONS, SIGNALS, Action, BadCall, BadForm, Form
from meadow_web.ask import Ask, NoAnswer
from meadow_web.consequences import Facts, explain
from meadow_web.flash import Flash, Outcome, outcome_of
from meadow_web.forms import posted
from meadow_web.frame import Fragment, Frame, html_response
from meadow_web.inspection import Inspection
from meadow_web.pages.page import BadArgument
from meadow_web.refresh import Refresher
from meadow_web.run_again import NotExact, as_json, call_of
from meadow_web.urls import Urls

log = logging.getLogger(__name__)

FRAGMENT_HEADER = "X-Meadow-Fragment"
OWN_FIELDS = frozenset({"confirmed", "next", "reason", "signal"})
CALL_FIELDS = ("args", "kwargs")
LONGEST_REASON = 500


class Doing:
    """`POST /do/<action>`: first the confirmation, with `confirmed` the deed."""

    def __init__(self, ask: Ask, gate: Gate, frame: Frame, urls: Urls, flash: Flash, refresher: Refresher) -> None:
        self._ask = ask
        self._gate = gate
        self._frame = frame
        self._urls = urls
        self._flash = flash
        self._refresher = refresher

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Confirm or do."""
        name = request.match_info["action"]
        action = ACTIONS.get(name)
        if action is None:
            raise web.HTTPNotFound(text="There is no such action.")
        try:
            fields = await posted(request)
            if action.asks_call and fields.get("confirmed") != "yes":
                fields |= await self._reported_call(fields)
            command = action.command(Form(fields))
        except BadCall as exc:
            return await self._confirm(request, name, action, exc.call, fields, str(exc))
        except (BadForm, BadArgument, NotExact) as exc:
            return self._bad(request, str(exc))
        if fields.get("confirmed") == "yes":
            return await self._do(request, command, fields)
        return await self._confirm(request, name, action, command, fields)

    async def _reported_call(self, fields: dict[str, str]) -> dict[str, str]:
        """The call of the task as fields of the form; raises `NotExact`, `BadForm`, `HTTPNotFound`."""
        uuid = Form(fields).text("task_id", "The task")
        answer = await self._ask.api(TaskQuery(cluster=self._ask.cluster, uuid=uuid), TaskAnswer)
        if answer.task is None:
            raise web.HTTPNotFound(text="No such task is known here.")
        call = call_of(answer.task)
        queue = {"queue": call.queue} if call.queue else {}
        return {"task": call.task, "args": as_json(call.args), "kwargs": as_json(call.kwargs), **queue}

    def _bad(self, request: web.Request, words: str) -> web.Response:
        if FRAGMENT_HEADER in request.headers:
            outcome = Outcome(ok=False, message=words)
            return html_response(self._frame.plain("outcome.html", {"outcome": outcome}), 400)
        return self._frame.message(request, 400, "Not understood", words)

    async def _confirm(
        self,
        request: web.Request,
        name: str,
        action: Action,
        command: AnyCommand,
        fields: dict[str, str],
        fault: str = "",
    ) -> web.Response:
        own = OWN_FIELDS | (set(CALL_FIELDS) if action.asks_call else set())
        values = {
            "name": name,
            "action": action,
            "sentences": explain(command, await self._facts(command)),
            "fields": {key: value for key, value in fields.items() if key not in own},
            "call": {label: fields.get(label, "") for label in CALL_FIELDS} if action.asks_call else {},
            "reason": fields.get("reason", ""),
            "fault": fault,
            "signals": SIGNALS if action.asks_signal else (),
            "next": self._urls.local(fields.get("next", "")),
            "closed": self._gate.commands_closed(self._gate.actor(request)),
        }
        html = self._frame.plain("confirm.html", values)
        if FRAGMENT_HEADER in request.headers:
            return html_response(html, 400 if fault else 200)
        fragment = Fragment(html, f"{action.title} · Meadow", "", 400 if fault else 200, None, "")
        return self._frame.page(request, "", fragment, "")

    async def _do(self, request: web.Request, command: AnyCommand, fields: dict[str, str]) -> web.StreamResponse:
        reason = fields.get("reason", "").strip()[:LONGEST_REASON]
        reply = await self._ask.controller(request, command, reason)
        outcome = outcome_of(reply, command, await self._known(command))
        if reply.ok and isinstance(command, WorkerCommand) and not isinstance(command, ShutdownWorker):
            self._refresher.after_change(request, command.worker)
        if FRAGMENT_HEADER in request.headers:
            return html_response(self._frame.plain("outcome.html", {"outcome": outcome}))
        target = self._urls.local(fields.get("next", ""))
        raise web.HTTPSeeOther(self._urls.flashed(target, self._flash.seal(outcome, time.time())))

    async def _known(self, command: AnyCommand) -> bool | None:
        """Whether the task that a wish was about is known; `None` where it does not matter or nobody can tell."""
        if not isinstance(command, RevokeTask):
            return None
        try:
            answer = await self._ask.api(TaskQuery(cluster=self._ask.cluster, uuid=command.task_id), TaskAnswer)
        except NoAnswer as exc:  # it was done all the same
            log.info("Nobody could say whether a revoked task is known: %s", exc, extra={"action": "web.revoked"})
            return None
        return answer.task is not None

    async def _facts(self, command: AnyCommand) -> Facts:
        """What the confirmation needs to know."""
        now, cluster = time.time(), self._ask.cluster
        if isinstance(command, RevokeTask):
            answer = await self._ask.api(TaskQuery(cluster=cluster, uuid=command.task_id), TaskAnswer)
            return Facts(now, task=answer.task)
        if not isinstance(command, WorkerCommand):
            return Facts(now)
        one = await self._ask.api(WorkerQuery(cluster=cluster, hostname=command.worker), WorkerAnswer)
        all_ = await self._ask.api(WorkerListQuery(cluster=cluster), WorkerList)
        size = Inspection(one.inspection).pool_size or (one.worker.concurrency if one.worker else None)
        return Facts(now, worker=one.worker, workers=all_.rows, pool_size=size)
