"""Does what the gate has let through. Errors come as `Refused` or `BrokerUnavailable`."""

from collections.abc import Awaitable, Callable
from typing import Any

from meadow.commands import (
    AbortTask,
    AddConsumer,
    ApplyTask,
    AsyncApplyTask,
    Autoscale,
    CallCommand,
    CancelConsumer,
    Command,
    CommandReply,
    GetResult,
    GrowPool,
    InspectWorkers,
    RestartPool,
    RevokeTask,
    SendTask,
    SetRateLimit,
    SetTimeLimits,
    ShrinkPool,
    ShutdownWorker,
    WorkerCommand,
)
from meadow.errors import BrokerUnavailable, Refused
from meadow.redact import Redactor
from meadow_controller import call_options
from meadow_controller.bounds import WIDE, Cleaner
from meadow_controller.celery_control import CeleryControl
from meadow_controller.inspections import Inspections
from meadow_controller.known_workers import KnownWorkers
from meadow_controller.orders import order_for
from meadow_controller.results import TaskResult
from meadow_controller.waiting import Waiting

REPLY_SECONDS = 1.0
"""How long a worker has to answer, as in Flower."""

NO_BACKEND = "The Celery app has no result backend."
NO_WAIT = f"{NO_BACKEND} Nobody could wait for the result, so the task was not sent; use async-apply."


class Fulfilment:
    """One method for each kind of command."""

    def __init__(
        self,
        control: CeleryControl,
        inspections: Inspections,
        known: KnownWorkers,
        waiting: Waiting,
        redactor: Redactor,
        inspect_timeout: float,
    ) -> None:
        self._control = control
        self._inspections = inspections
        self._known = known
        self._waiting = waiting
        self._redactor = redactor
        self._inspect_timeout = inspect_timeout
        self._ways: dict[type, Callable[[Any], Awaitable[CommandReply]]] = {
            RevokeTask: self._revoke,
            AbortTask: self._abort,
            ShutdownWorker: self._shutdown,
            **dict.fromkeys((SetRateLimit, SetTimeLimits), self._limit),
            **dict.fromkeys((GrowPool, ShrinkPool, RestartPool, Autoscale, AddConsumer, CancelConsumer), self._order),
            ApplyTask: self._apply,
            **dict.fromkeys((AsyncApplyTask, SendTask), self._call),
            InspectWorkers: self._inspect,
            GetResult: self._result,
        }

    async def __call__(self, command: Command) -> CommandReply:
        """Do it and say what became of it."""
        return await self._ways[type(command)](command)

    # -- broadcasts --------------------------------------------------------------------------------------------------

    async def _revoke(self, command: RevokeTask) -> CommandReply:
        arguments = {"task_id": command.task_id, "terminate": command.terminate, "signal": command.signal}
        await self._control.tell("revoke", arguments)
        return _said(f"Revoked '{command.task_id}'")

    async def _shutdown(self, command: ShutdownWorker) -> CommandReply:
        await self._require_worker(command.worker)
        await self._control.tell("shutdown", {}, [command.worker])
        return _said("Shutting down!")

    # -- orders to one worker, which answers -------------------------------------------------------------------------

    async def _limit(self, command: SetRateLimit | SetTimeLimits) -> CommandReply:
        self._require_task(command.task)
        return await self._order(command)

    async def _order(self, command: WorkerCommand) -> CommandReply:
        order = order_for(command)
        await self._require_worker(command.worker)
        answer = await self._control.ask(order.method, order.arguments, command.worker, REPLY_SECONDS)
        done, message = order.outcome(answer)
        replies = {command.worker: f"no answer within {REPLY_SECONDS:g} s" if answer is None else self._plain(answer)}
        if not done:
            return CommandReply(code="refused-by-worker", message=message, replies=replies)
        return CommandReply(message=message, value={"message": message}, replies=replies)

    async def _require_worker(self, worker: str) -> None:
        if worker in self._known:
            return
        if await self._control.ask("ping", {}, worker, REPLY_SECONDS) is None:
            raise Refused("unknown-worker", f"Unknown worker '{worker}'")
        self._known.add(worker)

    def _require_task(self, name: str) -> None:
        if not self._control.knows_task(name):
            raise Refused("unknown-task", f"Unknown task '{name}'")

    # -- calls -------------------------------------------------------------------------------------------------------

    async def _call(self, command: AsyncApplyTask | SendTask) -> CommandReply:
        task_id = await self._send(command, by_name=isinstance(command, SendTask))
        value: dict[str, Any] = {"task-id": task_id}
        if self._control.has_backend:
            value["state"] = await self._state_after_sending(task_id)
        return CommandReply(message=f"Sent as {task_id}", value=value)

    async def _apply(self, command: ApplyTask) -> CommandReply:
        self._require_task(command.task)
        if not self._control.has_backend:
            raise Refused("failed", NO_WAIT)
        with self._waiting.place():
            task_id = await self._send(command, by_name=False)
            result = await self._waiting.wait(task_id, command.timeout)
        value = {"task-id": task_id, **self._shown(result), "state": result.state}
        return CommandReply(message=f"Sent as {task_id}: {result.state}", value=value)

    async def _send(self, command: CallCommand, *, by_name: bool) -> str:
        options = dict(command.options)
        if not by_name:
            self._require_task(command.task)
            options = _normalised(options)
        return await self._control.call(command.task, command.args, command.kwargs, options, send=by_name)

    async def _state_after_sending(self, task_id: str) -> str:
        try:
            return (await self._control.result(task_id)).state
        except (BrokerUnavailable, Refused):
            return "PENDING"  # it was sent; to say otherwise would have it sent twice

    # -- the result backend ------------------------------------------------------------------------------------------

    async def _abort(self, command: AbortTask) -> CommandReply:
        self._require_backend()
        await self._control.abort(command.task_id)
        return _said(f"Aborted '{command.task_id}'")

    async def _result(self, command: GetResult) -> CommandReply:
        self._require_backend()
        if command.timeout:
            with self._waiting.place():
                result = await self._waiting.wait(command.task_id, command.timeout)
        else:
            result = await self._control.result(command.task_id)
        return CommandReply(value={"task-id": command.task_id, "state": result.state, **self._shown(result)})

    def _require_backend(self) -> None:
        if not self._control.has_backend:
            raise Refused("no-backend", NO_BACKEND)

    def _shown(self, result: TaskResult) -> dict[str, Any]:
        if not result.ready:
            return {}
        failed = {"traceback": result.traceback} if result.state == "FAILURE" else {}
        return {"result": result.result, **failed}

    # -- questions ---------------------------------------------------------------------------------------------------

    async def _inspect(self, command: InspectWorkers) -> CommandReply:
        timeout = self._inspect_timeout if command.timeout is None else command.timeout
        answers = await self._inspections.inspect(
            command.methods, command.workers, max_age=command.max_age, timeout=max(timeout, 0.0)
        )
        for worker in answers:
            self._known.add(worker)
        return CommandReply(value=answers)

    def _plain(self, value: Any) -> Any:
        return Cleaner(self._redactor, WIDE).clean(value)


def _said(message: str) -> CommandReply:
    return CommandReply(message=message, value={"message": message})


def _normalised(options: dict[str, Any]) -> dict[str, Any]:
    try:
        return call_options.normalise(options)
    except ValueError as exc:
        raise Refused("invalid", "Invalid option") from exc
    except TypeError as exc:
        raise Refused("failed", f"An option has a wrong type: {exc}") from exc
