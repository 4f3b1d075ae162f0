"""From a message that kombu published to what it says. Pure.

The envelope is that of kombu's virtual transports (`kombu.transport.virtual.base.Channel.prepare_message`).
"""

import binascii
from typing import Any, Literal

import msgspec
from msgspec import Struct

from meadow.errors import InvalidEvent
from meadow.event_body import JSON, LONGEST_DETAIL, decode_body


class _Base64(Struct, frozen=True, gc=False):
    body_encoding: Literal["base64"]


class _NoCompression(Struct, frozen=True, gc=False):
    compression: None = None


class _UsualEnvelope(Struct, frozen=True, gc=False):
    """Nearly all envelopes: JSON in base64, which is decoded on the way."""

    body: bytes
    content_type: Literal["application/json"] = msgspec.field(name="content-type")
    properties: _Base64
    headers: _NoCompression | None = None


class _Properties(Struct, frozen=True):
    body_encoding: str | None = None


class _Bytes(Struct, frozen=True):
    """How kombu puts bytes into JSON (`kombu.utils.json`)."""

    kind: Literal["bytes", "base64"] = msgspec.field(name="__type__")
    value: str = msgspec.field(name="__value__")


class _Envelope(Struct, frozen=True):
    body: str | _Bytes
    content_type: str | None = msgspec.field(name="content-type", default=None)
    headers: dict[str, Any] | None = None
    properties: _Properties = _Properties()


_usual = msgspec.json.Decoder(_UsualEnvelope)
_any = msgspec.json.Decoder(_Envelope)
_members = msgspec.json.Decoder(list[msgspec.Raw])

MALFORMED = (msgspec.MsgspecError, ValueError, RecursionError)
"""What decoders raise; the errors of base64 and UTF-8 are ValueErrors."""


def json_body(data: bytes) -> bytes | None:
    """The undecoded body of a usual message; `None` for any other."""
    try:
        return _usual.decode(data).body
    except MALFORMED:
        return None


def decode_message(data: bytes, *, accept_pickle: bool) -> Any:
    """What the message says: one event or a list of them; raises `InvalidEvent`."""
    body = json_body(data)
    if body is not None:
        return decode_body(body, JSON, accept_pickle=accept_pickle)
    return _decode_unusual(data, accept_pickle=accept_pickle)


def count_events(data: bytes) -> int:
    """How many events the message tells of, as far as that can be seen without decoding them."""
    try:
        return len(_members.decode(_usual.decode(data).body))
    except MALFORMED:
        return 1


def _decode_unusual(data: bytes, *, accept_pickle: bool) -> Any:
    try:
        envelope = _any.decode(data)
        body = _body(envelope)
    except MALFORMED as exc:
        raise InvalidEvent("undecodable", f"kombu's envelope: {exc}"[:LONGEST_DETAIL]) from exc
    if (envelope.headers or {}).get("compression"):
        raise InvalidEvent("undecodable", "compressed messages are not read; Celery sends none")
    return decode_body(body, envelope.content_type, accept_pickle=accept_pickle)


def _body(envelope: _Envelope) -> bytes:
    body = envelope.body
    if isinstance(body, _Bytes):
        return binascii.a2b_base64(body.value) if body.kind == "base64" else body.value.encode()
    if envelope.properties.body_encoding == "base64":
        return binascii.a2b_base64(body)
    return body.encode()
