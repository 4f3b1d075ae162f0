"""From a message's bytes to plain data. What is not plainly harmless is refused undecoded."""

import binascii
import json
from typing import Any

import kombu.compression
import kombu.serialization
import msgspec
from msgspec import Struct

from meadow.errors import InvalidEvent

decompress: Any = kombu.compression.decompress
loads: Any = kombu.serialization.loads

JSON = "application/json"
PICKLE = frozenset({"application/x-python-serialize", "application/x-pickle"})
HARMLESS = frozenset({JSON, "application/x-msgpack", "application/x-yaml"})
MAX_BODY = 64 * 1024 * 1024


class _Properties(Struct, frozen=True):
    body_encoding: str | None = None


class _Envelope(Struct, frozen=True):
    """What kombu wraps around a message where the broker has no headers of its own."""

    body: str
    content_type: str | None = msgspec.field(name="content-type", default=None)
    content_encoding: str | None = msgspec.field(name="content-encoding", default=None)
    headers: dict[str, Any] | None = None
    properties: _Properties = _Properties()


_envelope = msgspec.json.Decoder(_Envelope)


def accepted(*, accept_pickle: bool) -> list[str]:
    """What a consumer accepts, in kombu's words."""
    return ["json", "msgpack", "yaml", *(["pickle"] if accept_pickle else [])]


def decode_envelope(data: bytes, *, accept_pickle: bool) -> Any:
    """The content of a message in kombu's envelope; raises `InvalidEvent`."""
    try:
        envelope = _envelope.decode(data)
        body: bytes | str = envelope.body
        if envelope.properties.body_encoding == "base64":
            body = binascii.a2b_base64(envelope.body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise InvalidEvent("undecodable", f"kombu's envelope: {exc}"[:200]) from exc
    headers = envelope.headers
    compression = headers.get("compression") if headers else None
    return decode(
        body,
        envelope.content_type,
        envelope.content_encoding,
        compression=compression,
        accept_pickle=accept_pickle,
    )


def decode(
    body: Any,
    content_type: str | None,
    content_encoding: str | None,
    *,
    compression: str | None = None,
    accept_pickle: bool,
) -> Any:
    """The content of a message's body; raises `InvalidEvent`."""
    if content_type in PICKLE and not accept_pickle:
        raise InvalidEvent("pickle", "a pickled message is not decoded; see --accept-pickle")
    if content_type not in HARMLESS and content_type not in PICKLE:
        raise InvalidEvent("content-type", f"{str(content_type)[:100]!r} is not decoded")
    if body is None or len(body) > MAX_BODY:
        raise InvalidEvent("undecodable" if body is None else "too-large", "the message's body")
    try:
        if compression:
            body = decompress(body, compression)
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
