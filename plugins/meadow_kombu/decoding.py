"""From a message's bytes to plain data. What is not plainly harmless is refused undecoded."""

import json
from typing import Any

import msgspec

from meadow.errors import InvalidEvent

JSON = "application/json"
PICKLE = frozenset({"application/x-python-serialize", "application/x-pickle"})
HARMLESS = frozenset({JSON, "application/x-msgpack", "application/x-yaml"})
MAX_BODY = 64 * 1024 * 1024


def accepted(*, accept_pickle: bool) -> list[str]:
    """What the consumer accepts, in kombu's words."""
    return ["json", "msgpack", "yaml", *(["pickle"] if accept_pickle else [])]


def decode(message: Any, *, accept_pickle: bool) -> Any:
    """The message's content; raises `InvalidEvent`."""
    kind = message.content_type
    if kind in PICKLE and not accept_pickle:
        raise InvalidEvent("pickle", "a pickled message is not decoded; see --accept-pickle")
    if kind not in HARMLESS and kind not in PICKLE:
        raise InvalidEvent("content-type", f"{str(kind)[:100]!r} is not decoded")
    body = message.body
    if body is None or len(body) > MAX_BODY:
        raise InvalidEvent("undecodable" if body is None else "too-large", "the message's body")
    try:
        return decode_json(body) if kind == JSON else message.decode()
    except Exception as exc:
        raise InvalidEvent("undecodable", f"{type(exc).__name__}: {exc}"[:200]) from exc


def decode_json(body: bytes | str) -> Any:
    """JSON as Python's own json reads it (NaN, lone surrogates and all), only faster where it is well-formed."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return json.loads(body)
