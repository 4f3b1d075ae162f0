"""The one gate: who is it, may they, record the intent, do it, record the outcome. Every command passes here."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import msgspec

from meadow.access.actors import Actor
from meadow.audit import AuditIntent, AuditOutcome
from meadow.commands import Command, CommandReply, CommandRequest
from meadow.errors import BrokerUnavailable, BusError, Refused
from meadow.redact import Redactor
from meadow_controller.audit_log import AuditLog
from meadow_controller.bounds import AUDIT, Cleaner
from meadow_controller.policy import decide

log = logging.getLogger(__name__)

UNRECORDED = "The audit record could not be stored, so nothing was done. Try again when NATS answers."
TARGETS = frozenset({"task_id", "worker"})

Verify = Callable[[str], Actor]
Fulfil = Callable[[Command], Awaitable[CommandReply]]


@dataclass(frozen=True)
class CommandGate:
    """`verify` gives the actor of a claim or raises `Refused`; `fulfil` does what is let through."""

    cluster: str
    read_only: bool
    verify: Verify
    audit: AuditLog
    fulfil: Fulfil
    redactor: Redactor
    clock: Callable[[], float]

    async def answer(self, request: CommandRequest) -> CommandReply:
        """What became of the wish. Never raises for what a wish can cause."""
        try:
            actor = self.verify(request.claim)
        except Refused as refusal:
            log.warning(
                "A command (%s) from %s was refused: %s",
                request.command.verb,
                request.source[:64],
                refusal,
                extra={"action": "command.claim-refused", "command": request.command.verb},
            )
            return CommandReply(code=refusal.code, message=str(refusal))
        if request.cluster != self.cluster:
            return CommandReply(code="invalid", message=f"This controller serves the cluster {self.cluster!r} only.")
        if not request.command.audited:
            return await self._do(request.command)
        return await self._recorded(request, actor)

    async def _recorded(self, request: CommandRequest, actor: Actor) -> CommandReply:
        command = request.command
        refusal = decide(actor, command, read_only=self.read_only)
        intent = self._intent(request, actor)
        try:
            await self.audit.intend(intent)
        except BusError as exc:
            log.error("Not done, for want of an audit record: %s", exc, extra={"action": "audit.unavailable"})
            return CommandReply(code="unavailable", message=UNRECORDED)
        began = self.clock()
        if refusal is not None:
            reply = CommandReply(code=refusal.code, message=refusal.message)
        else:
            reply = await self._do(command)
        await self.audit.conclude(self._outcome(intent, reply, began))
        log.info(
            "%s: %s %s: %s",
            actor.name,
            command.verb,
            intent.target,
            reply.message or reply.code,
            extra={"action": "command.done", "command": command.verb, "code": reply.code, "audit_id": intent.id},
        )
        return msgspec.structs.replace(reply, audit_id=intent.id)

    async def _do(self, command: Command) -> CommandReply:
        try:
            return await self.fulfil(command)
        except Refused as refusal:
            return CommandReply(code=refusal.code, message=str(refusal))
        except BrokerUnavailable as exc:
            return CommandReply(code="unavailable", message=str(exc))
        except Exception as exc:
            log.exception("The command %s failed.", command.verb, extra={"action": "command.failed"})
            return CommandReply(code="failed", message=f"{type(exc).__name__}: {exc}")

    def _intent(self, request: CommandRequest, actor: Actor) -> AuditIntent:
        return AuditIntent(
            id=uuid4().hex,
            cluster=self.cluster,
            at=self.clock(),
            actor=self._clean(actor.name),
            actor_kind=actor.kind,
            source=self._clean(request.source),
            command=request.command.verb,
            target=self._clean(request.command.target),
            parameters=self._clean(parameters(request.command)),
            reason=self._clean(request.reason),
        )

    def _outcome(self, intent: AuditIntent, reply: CommandReply, began: float) -> AuditOutcome:
        now = self.clock()
        return AuditOutcome(
            id=intent.id,
            cluster=self.cluster,
            at=now,
            code=reply.code,
            message=self._clean(reply.message),
            replies=self._clean(reply.replies),
            seconds=max(now - began, 0.0),
        )

    def _clean(self, value: Any) -> Any:
        return Cleaner(self.redactor, AUDIT).clean(value)


def parameters(command: Command) -> dict[str, Any]:
    """The command's fields besides its target.

    >>> from meadow.commands import GrowPool
    >>> parameters(GrowPool(worker="w@h", n=2))
    {'n': 2}
    """
    fields = {name: getattr(command, name) for name in command.__struct_fields__}
    targets = {"task"} if "worker" not in fields else TARGETS
    return {name: value for name, value in fields.items() if name not in targets | TARGETS}
