"""What became of a wish, and how it travels over the redirect after a form: signed, and valid for a minute."""

import base64
import binascii
import hashlib
import hmac

import msgspec
from msgspec import Struct

from meadow.commands import AnyCommand, CommandReply, RevokeTask, SendTask
from meadow_web.replies import Reply, answered, read_replies

LIFETIME = 60.0
MOST_REPLIES = 20


class Outcome(Struct, frozen=True):
    """What the person who confirmed is told; `task` is the id of the task that was sent."""

    ok: bool
    message: str
    target: str = ""
    replies: tuple[Reply, ...] = ()
    more: int = 0
    task: str = ""


class _Sealed(Struct, frozen=True):
    expires: float
    outcome: Outcome


def outcome_of(reply: CommandReply, command: AnyCommand, known: bool | None = None) -> Outcome:
    """The controller's reply in words; who confirmed, and who refused. `known` says whether there is such a task."""
    replies = read_replies(reply.replies)
    message = reply.message or ("Done." if reply.ok else f"Not done ({reply.code}).")
    if reply.ok and isinstance(command, RevokeTask):
        message = _broadcast(reply, command, known)
    return Outcome(
        reply.ok,
        message[:500],
        command.target[:300],
        tuple(replies[:MOST_REPLIES]),
        len(replies[MOST_REPLIES:]),
        _sent(reply) if isinstance(command, SendTask) else "",
    )


def _broadcast(reply: CommandReply, command: RevokeTask, known: bool | None) -> str:
    order = f"terminate {command.task_id} with {command.signal}" if command.terminate else f"revoke {command.task_id}"
    heard = answered(reply.replies) or "workers do not answer to this"
    message = f"Sent to all workers: {order[:300]}; {heard}."
    return f"{message} No such task is known here." if known is False else message


def _sent(reply: CommandReply) -> str:
    task_id = reply.value.get("task-id") if reply.ok and isinstance(reply.value, dict) else None
    return task_id[:300] if isinstance(task_id, str) else ""


class Flash:
    """Seals outcomes for the way through the browser, so that no link can put words into our mouth."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, outcome: Outcome, now: float) -> str:
        """The outcome as a query parameter."""
        body = base64.urlsafe_b64encode(msgspec.json.encode(_Sealed(now + LIFETIME, outcome))).decode("ascii")
        return f"{body}.{self._digest(body)}"

    def open(self, sealed: str, now: float) -> Outcome | None:
        """The outcome, or `None` for what is forged, broken or old."""
        body, _, digest = sealed.partition(".")
        if not hmac.compare_digest(digest.encode("utf-8", "replace"), self._digest(body).encode()):
            return None
        try:
            content = msgspec.json.decode(base64.urlsafe_b64decode(body), type=_Sealed)
        except (binascii.Error, msgspec.MsgspecError, ValueError):
            return None
        return content.outcome if content.expires >= now else None

    def _digest(self, body: str) -> str:
        return hmac.new(self._key, body.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
