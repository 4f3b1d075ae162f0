"""From a message's bytes to plain data. What is not plainly harmless is refused undecoded."""

import json
from typing import Any

import kombu.serialization
import msgspec

from meadow.errors import InvalidEvent

loads: Any = kombu.serialization.loads

JSON = "application/json"
PICKLE = frozenset({"application/x-python-serialize", "application/x-pickle"})
HARMLESS = frozenset({JSON, "application/x-msgpack", "application/x-yaml"})
MAX_BODY = 64 * 1024 * 1024


def accepted(*, accept_pickle: bool) -> list[str]:
    """What a consumer accepts, in kombu's words."""
    return ["json", "msgpack", "yaml", *(["pickle"] if accept_pickle else [])]


def decode(body: Any, content_type: str | None, content_encoding: str | None, *, accept_pickle: bool) -> Any:
    """The content of a message's body; raises `InvalidEvent`."""
    if content_type in PICKLE and not accept_pickle:
        raise InvalidEvent("pickle", "a pickled message is not decoded; see --accept-pickle")
    if content_type not in HARMLESS and content_type not in PICKLE:
        raise InvalidEvent("content-type", f"{str(content_type)[:100]!r} is not decoded")
    if body is None or len(body) > MAX_BODY:
        raise InvalidEvent("undecodable" if body is None else "too-large", "the message's body")
    try:
        if content_type == JSON:
            return decode_json(body)
        return loads(body, content_type, content_encoding, accept={content_type})
    except Exception as exc:
        raise InvalidEvent("undecodable", f"{type(exc).__name__}: {exc}"[:200]) from exc


def decode_json(body: bytes | str) -> Any:
    """JSON as Python's own json reads it (NaN, lone surrogates and all), only faster where it is well-formed."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return json.loads(body)
