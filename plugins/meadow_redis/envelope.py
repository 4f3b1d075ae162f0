"""From a published message to plain data. Pure. What is not plainly harmless is refused undecoded.

The envelope is that of kombu's virtual transports (`kombu.transport.virtual.base.Channel.prepare_message`), the
content types those of `kombu.serialization`.
"""

import binascii
import json
import pickle
from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal

import msgspec
from msgspec import Struct

from meadow.errors import InvalidEvent

MAX_BODY = 64 * 1024 * 1024
MAX_YAML = 256 * 1024
"""YAML is read so slowly that a larger text would hold up the events behind it."""
LONGEST_DETAIL = 200

PICKLE = frozenset({"application/x-python-serialize", "application/x-pickle"})


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
    """How kombu puts bytes into JSON."""

    kind: Literal["bytes", "base64"] = msgspec.field(name="__type__")
    value: str = msgspec.field(name="__value__")


class _Envelope(Struct, frozen=True):
    body: str | _Bytes
    content_type: str | None = msgspec.field(name="content-type", default=None)
    headers: dict[str, Any] | None = None
    properties: _Properties = _Properties()


_usual = msgspec.json.Decoder(_UsualEnvelope)
_any = msgspec.json.Decoder(_Envelope)
_json = msgspec.json.Decoder()
_msgpack = msgspec.msgpack.Decoder()

MALFORMED = (msgspec.MsgspecError, ValueError, RecursionError)
"""What decoders raise; UnicodeDecodeError and binascii's are ValueErrors."""


def decode_message(data: bytes, *, accept_pickle: bool) -> Any:
    """What the message says: one event or a list of them; raises `InvalidEvent`."""
    try:
        body = _usual.decode(data).body
    except MALFORMED:
        return _decode_unusual(data, accept_pickle=accept_pickle)
    if len(body) <= MAX_BODY:
        try:
            return _json.decode(body)
        except MALFORMED:
            return _decoded(_read_json, body)
    raise InvalidEvent("too-large", f"a body of {len(body)} bytes")


def _decode_unusual(data: bytes, *, accept_pickle: bool) -> Any:
    try:
        envelope = _any.decode(data)
        body = _body(envelope)
    except MALFORMED as exc:
        raise InvalidEvent("undecodable", f"kombu's envelope: {exc}"[:LONGEST_DETAIL]) from exc
    read = _reader_of(envelope.content_type, accept_pickle=accept_pickle)
    if (envelope.headers or {}).get("compression"):  # Celery never compresses events
        raise InvalidEvent("undecodable", "compressed messages are not read")
    most = MAX_YAML if read is _read_yaml else MAX_BODY
    if len(body) > most:
        raise InvalidEvent("too-large", f"a body of {len(body)} bytes")
    return _decoded(read, body)


def _body(envelope: _Envelope) -> bytes:
    body = envelope.body
    if isinstance(body, _Bytes):
        return binascii.a2b_base64(body.value) if body.kind == "base64" else body.value.encode()
    if envelope.properties.body_encoding == "base64":
        return binascii.a2b_base64(body)
    return body.encode()


def _reader_of(content_type: str | None, *, accept_pickle: bool) -> Callable[[bytes], Any]:
    if content_type in PICKLE:
        if not accept_pickle:
            raise InvalidEvent("pickle", "a pickled message is not decoded; see --accept-pickle")
        return pickle.loads
    read = _READERS.get(content_type or "")
    if read is None:
        raise InvalidEvent("content-type", f"{str(content_type)[:100]!r} is not decoded")
    return read


def _decoded(read: Callable[[bytes], Any], body: bytes) -> Any:
    try:
        return read(body)
    except InvalidEvent:
        raise
    except Exception as exc:  # pickle may raise whatever the sender chooses
        raise InvalidEvent("undecodable", f"{type(exc).__name__}: {exc}"[:LONGEST_DETAIL]) from exc


def _read_json(body: bytes) -> Any:
    """JSON as Python's own json reads it (NaN, lone surrogates and all), only faster where it is well-formed."""
    try:
        return _json.decode(body)
    except MALFORMED:
        return json.loads(body)


def _read_yaml(body: bytes) -> Any:
    try:
        yaml: Any = import_module("yaml")
    except ImportError as exc:
        raise InvalidEvent("content-type", "events in YAML are read where PyYAML is installed") from exc
    return yaml.load(body, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # both load plain data only


_READERS: dict[str, Callable[[bytes], Any]] = {
    "application/json": _read_json,
    "application/x-msgpack": _msgpack.decode,
    "application/x-yaml": _read_yaml,
}
