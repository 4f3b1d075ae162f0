"""Flower's endpoints for commands: reads the request as Flower does, wishes on the bus, and says what became of it.

Unlike Flower, arguments are taken as they are: a queue called `a&b` stays `a&b`. Flower makes `a&amp;b` of it.
"""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import msgspec
from aiohttp import web

from meadow import codec, subjects
from meadow.commands import (
    AbortTask,
    AddConsumer,
    AnyCommand,
    ApplyTask,
    AsyncApplyTask,
    Autoscale,
    CancelConsumer,
    CommandReply,
    CommandRequest,
    GetResult,
    GrowPool,
    RestartPool,
    RevokeTask,
    SendTask,
    SetRateLimit,
    SetTimeLimits,
    ShrinkPool,
    ShutdownWorker,
)
from meadow.errors import AnswerTimedOut, BusError, InvalidMessage, NobodyAnswers
from meadow.service import Context
from meadow.setting_values import parse_bool

Arguments = dict[str, str]
"""Name → the last value given, the body's before the query's."""

PLAIN, HTML = "text/plain", "text/html"

ANSWERS: dict[str, tuple[int, str, bool]] = {
    "invalid": (400, PLAIN, True),
    "unknown-worker": (404, PLAIN, True),
    "unknown-task": (404, PLAIN, True),
    "refused-by-worker": (403, HTML, True),
    "unavailable": (503, PLAIN, True),
    "no-backend": (503, HTML, False),
    "read-only": (403, PLAIN, True),
    "forbidden": (403, PLAIN, True),
    "failed": (500, HTML, False),
}
"""Code → status, content type, and whether the message is the body, as in Flower."""

NOBODY = "No controller is running, so nothing can be changed. Start one with 'meadow run controller'."
ASK_SECONDS = 30.0
"""Longer than the controller takes for anything but waiting for a result."""

LONGEST_WAIT = 3600.0
LARGE = 64 * 1024
INT_LIMIT = 2**31 - 1
REASON = "reason"
MAX_REASON = 500


def command_routes(context: Context) -> list[web.RouteDef]:
    """The routes; `routes()` of the api adds them to its own."""
    endpoints = CommandEndpoints(context)
    return [
        *(web.post(f"{path}/{{target:.+}}", endpoints.command(make)) for path, make in COMMANDS.items()),
        *(web.post(f"{path}/{{target:.+}}", endpoints.call(make)) for path, make in CALLS.items()),
        web.get("/api/task/result/{target:.+}", endpoints.command(_result), allow_head=False),
    ]


class CommandEndpoints:
    """Makes handlers: what they wish differs, how it is asked for and answered does not."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def command(
        self, make: Callable[[str, Arguments], AnyCommand]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """A handler for a command whose fields come from the query or a form."""

        async def handle(request: web.Request) -> web.StreamResponse:
            arguments = _arguments(request, await request.read())
            return await self._ask(request, make(request.match_info["target"], arguments))

        return handle

    def call(
        self, make: Callable[[str, dict[str, Any]], AnyCommand]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """A handler for a call of a task, described by a JSON body."""

        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._ask(request, make(request.match_info["target"], await _call_body(request)))

        return handle

    async def _ask(self, request: web.Request, command: AnyCommand) -> web.Response:
        gate, bus, cluster = self._context.gate, self._context.bus, self._context.settings.cluster
        wish = CommandRequest(
            cluster=cluster,
            command=command,
            claim=gate.claim(request),
            source=gate.source(request),
            reason=request.query.get(REASON, "")[:MAX_REASON],
        )
        data = _encoded(wish)
        if len(data) > bus.max_payload:
            raise _too_large(bus.max_payload)
        try:
            answer = await bus.ask(subjects.command(cluster), data, timeout=self._patience(command))
            return respond(codec.decode(answer, CommandReply))
        except NobodyAnswers:
            return _text(503, NOBODY)
        except AnswerTimedOut:
            return _text(504, "The controller did not answer in time. See the audit log for what became of it.")
        except (BusError, InvalidMessage) as exc:
            return _text(503, str(exc))

    def _patience(self, command: AnyCommand) -> float:
        if isinstance(command, ApplyTask):
            wait = self._context.settings.apply_timeout if command.timeout is None else command.timeout
        else:
            wait = (command.timeout or 0.0) if isinstance(command, GetResult) else 0.0
        return ASK_SECONDS + min(max(wait, 0.0), LONGEST_WAIT)


def respond(reply: CommandReply) -> web.Response:
    """The reply as Flower would have answered."""
    if reply.ok:
        return web.Response(body=codec.encode(reply.value), content_type="application/json", charset="UTF-8")
    status, content_type, tells = ANSWERS.get(reply.code, (500, HTML, False))
    response = _text(status, reply.message if tells else "", content_type)
    if content_type == HTML:  # as Flower says, but what a worker or a caller wrote is no page
        response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response


# -- what the request says -------------------------------------------------------------------------------------------


def _arguments(request: web.Request, body: bytes) -> Arguments:
    """The last value of each name; blanks around it do not count, as in Tornado."""
    found = {name: value.strip() for name, value in request.query.items()}
    if request.content_type == "application/x-www-form-urlencoded" and body:
        try:
            form = parse_qs(body.decode("utf-8"), keep_blank_values=True, max_num_fields=1000)
        except ValueError as exc:
            raise _bad(f"The form cannot be read: {exc}") from exc
        found.update({name: values[-1].strip() for name, values in form.items()})
    return found


async def _call_body(request: web.Request) -> dict[str, Any]:
    body = await request.read()
    try:
        options = await asyncio.to_thread(_json, body) if len(body) > LARGE else _json(body)
    except RecursionError as exc:
        raise _bad("The body is nested too deeply") from exc
    except ValueError as exc:
        raise _bad(str(exc)) from exc
    if not isinstance(options, dict):
        raise _bad("invalid options")
    if not isinstance(options.get("args", []), list):
        raise _bad("args must be an array")
    return options


def _json(body: bytes) -> Any:
    return json.loads(body.decode("utf-8"), parse_constant=_no_constant) if body else {}


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _count(given: Arguments) -> int:
    return _int(given, "n") if "n" in given else 1


def _autoscale(worker: str, given: Arguments) -> Autoscale:
    return Autoscale(worker=worker, min=_int(given, "min"), max=_int(given, "max"))


def _time_limits(task: str, given: Arguments) -> SetTimeLimits:
    worker = _required(given, "workername")
    return SetTimeLimits(worker=worker, task=task, hard=_float(given, "hard"), soft=_float(given, "soft"))


def _result(task_id: str, given: Arguments) -> GetResult:
    return GetResult(task_id=task_id, timeout=_float(given, "timeout"))


def _apply(task: str, body: dict[str, Any]) -> ApplyTask:
    timeout = body.pop("timeout", None)
    try:
        seconds = None if timeout is None else _finite(timeout)
    except (TypeError, ValueError) as exc:
        raise _bad("Invalid timeout") from exc
    return ApplyTask(task=task, timeout=seconds, **_call_fields(body))


def _async_apply(task: str, body: dict[str, Any]) -> AsyncApplyTask:
    return AsyncApplyTask(task=task, **_call_fields(body))


def _send_task(task: str, body: dict[str, Any]) -> SendTask:
    return SendTask(task=task, **_call_fields(body))


def _call_fields(body: dict[str, Any]) -> dict[str, Any]:
    args, kwargs = body.pop("args", []), body.pop("kwargs", {})
    return {"args": args, "kwargs": kwargs, "options": body}


def _required(given: Arguments, name: str) -> str:
    if not given.get(name):
        raise _bad(f"Missing argument {name}")
    return given[name]


def _int(given: Arguments, name: str) -> int:
    text = _required(given, name)
    try:
        number = int(text)
    except ValueError as exc:
        raise _wrong(text, "int") from exc
    if abs(number) > INT_LIMIT:
        raise _wrong(text, "int")
    return number


def _float(given: Arguments, name: str) -> float | None:
    text = given.get(name)
    if not text:
        return None
    try:
        return _finite(text)
    except ValueError as exc:
        raise _wrong(text, "float") from exc


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no number of seconds")
    return number


def _bool(given: Arguments, name: str) -> bool:
    text = given.get(name)
    if not text:
        return False
    try:
        return parse_bool(text)
    except ValueError as exc:
        raise _wrong(text, "bool") from exc


# -- what is answered --------------------------------------------------------------------------------------------------


def _encoded(wish: CommandRequest) -> bytes:
    try:
        return codec.encode(wish)
    except (msgspec.MsgspecError, OverflowError, UnicodeError, TypeError, ValueError, RecursionError) as exc:
        raise _bad(f"The arguments cannot be sent: {exc}") from exc


def _wrong(text: str, kind: str) -> web.HTTPException:
    return _bad(f"Invalid argument '{text}' of type '{kind}'")


def _bad(message: str) -> web.HTTPException:
    return web.HTTPBadRequest(text=message, content_type=PLAIN)


def _too_large(limit: int) -> web.HTTPException:
    return web.HTTPRequestEntityTooLarge(
        limit,
        text=f"The request is too large: at most {limit} bytes can be sent to the controller.",
        content_type=PLAIN,
    )


def _text(status: int, text: str, content_type: str = PLAIN) -> web.Response:
    return web.Response(status=status, text=text, content_type=content_type, charset="UTF-8")


# -- what there is -----------------------------------------------------------------------------------------------------

COMMANDS: dict[str, Callable[[str, Arguments], AnyCommand]] = {
    "/api/worker/shutdown": lambda worker, _: ShutdownWorker(worker=worker),
    "/api/worker/pool/restart": lambda worker, _: RestartPool(worker=worker),
    "/api/worker/pool/grow": lambda worker, given: GrowPool(worker=worker, n=_count(given)),
    "/api/worker/pool/shrink": lambda worker, given: ShrinkPool(worker=worker, n=_count(given)),
    "/api/worker/pool/autoscale": _autoscale,
    "/api/worker/queue/add-consumer": lambda worker, given: AddConsumer(worker=worker, queue=_required(given, "queue")),
    "/api/worker/queue/cancel-consumer": lambda worker, given: CancelConsumer(
        worker=worker, queue=_required(given, "queue")
    ),
    "/api/task/abort": lambda task_id, _: AbortTask(task_id=task_id),
    "/api/task/timeout": _time_limits,
    "/api/task/rate-limit": lambda task, given: SetRateLimit(
        worker=_required(given, "workername"), task=task, rate=_required(given, "ratelimit")
    ),
    "/api/task/revoke": lambda task_id, given: RevokeTask(
        task_id=task_id, terminate=_bool(given, "terminate"), signal=given.get("signal") or "SIGTERM"
    ),
}
"""Path → what is wished with the last part of the path and the arguments."""

CALLS: dict[str, Callable[[str, dict[str, Any]], AnyCommand]] = {
    "/api/task/apply": _apply,
    "/api/task/async-apply": _async_apply,
    "/api/task/send-task": _send_task,
}
"""Path → what is wished with the task's name and the JSON body."""
