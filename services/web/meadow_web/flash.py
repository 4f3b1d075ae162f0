"""What became of a wish, and how it travels over the redirect after a form: signed, and valid for a minute."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from meadow.commands import CommandReply

LIFETIME = 60.0
MOST_REPLIES = 20


class Reply(Struct, frozen=True):
    """One worker's answer."""

    worker: str
    text: str
    ok: bool


class Outcome(Struct, frozen=True):
    """What the person who confirmed is told."""

    ok: bool
    message: str
    target: str = ""
    replies: tuple[Reply, ...] = ()
    more: int = 0


class _Sealed(Struct, frozen=True):
    expires: float
    outcome: Outcome


def outcome_of(reply: CommandReply, target: str) -> Outcome:
    """The controller's reply in words; who confirmed, and who refused."""
    replies = [_reply(worker, answer) for worker, answer in reply.replies.items()]
    replies.sort(key=lambda one: (one.ok, one.worker))
    message = reply.message or ("Done." if reply.ok else f"Not done ({reply.code}).")
    return Outcome(reply.ok, message[:500], target[:300], tuple(replies[:MOST_REPLIES]), len(replies[MOST_REPLIES:]))


def _reply(worker: str, answer: Any) -> Reply:
    if answer is None:
        return Reply(worker[:200], "did not answer", False)
    if isinstance(answer, Mapping):
        if "error" in answer:
            return Reply(worker[:200], str(answer["error"])[:300], False)
        return Reply(worker[:200], str(answer.get("ok", answer))[:300], True)
    return Reply(worker[:200], str(answer)[:300], True)


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
