"""Makes answers fit into one message of the bus."""

from typing import Any

import msgspec

from meadow import codec
from meadow.commands import CommandReply
from meadow.events import WorkerInspected
from meadow.redact import Redactor
from meadow_controller.bounds import NARROW, Cleaner

HEADROOM = 1024
TOO_LARGE = "The answer is larger than NATS carries. Ask for fewer workers or inspections at a time."


def fitting_reply(reply: CommandReply, redactor: Redactor, limit: int) -> bytes:
    """The reply as bytes; what makes it too large is cut, or replaced by a sentence."""
    data = _encoded(reply)
    if data is not None and len(data) <= limit - HEADROOM:
        return data
    narrow = msgspec.structs.replace(reply, value=_cut(reply.value, redactor), replies=_cut(reply.replies, redactor))
    data = _encoded(narrow)
    if data is not None and len(data) <= limit - HEADROOM:
        return data
    return codec.encode(CommandReply(code="failed", message=TOO_LARGE, audit_id=reply.audit_id))


def fitting_fact(fact: WorkerInspected, cluster: str, redactor: Redactor, limit: int) -> bytes:
    """The fact as a batch; too large a one is cut to its bones."""
    data = codec.encode_batch(cluster, "controller", [fact])
    if len(data) <= limit - HEADROOM:
        return data
    replies = {method: _cut(answer, redactor) for method, answer in fact.replies.items()}
    cut = {**fact.replies.get("cut", {}), **dict.fromkeys(replies, "cut to fit into one message")}
    cut.pop("cut", None)
    smaller = msgspec.structs.replace(fact, replies={**replies, "cut": cut})
    return codec.encode_batch(cluster, "controller", [smaller])


def _cut(value: Any, redactor: Redactor) -> Any:
    return Cleaner(redactor, NARROW).clean(value)


def _encoded(reply: CommandReply) -> bytes | None:
    """The bytes, or `None` for what msgspec cannot write: results hold what tasks return."""
    try:
        return codec.encode(reply)
    except (msgspec.MsgspecError, OverflowError, UnicodeError, TypeError, ValueError, RecursionError):
        return None
