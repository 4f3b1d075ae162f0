"""From the body of a broker's message to plain data. What is not plainly harmless is refused undecoded.

The content types are those of `kombu.serialization`. Pure; compressed bodies are not read, since Celery never
compresses events.
"""

import json
import pickle
from collections.abc import Callable
from importlib import import_module
from typing import Any

import msgspec

from meadow.errors import InvalidEvent

JSON = "application/json"
PICKLE = frozenset({"application/x-python-serialize", "application/x-pickle"})

MAX_BODY = 64 * 1024 * 1024
MAX_YAML = 256 * 1024
"""YAML is read so slowly that a larger text would hold up the events behind it."""
LONGEST_DETAIL = 200

_json = msgspec.json.Decoder()
_msgpack = msgspec.msgpack.Decoder()


def decode_body(body: bytes, content_type: str | None, *, accept_pickle: bool) -> Any:
    """What the body says: one event or a list of them; raises `InvalidEvent`."""
    read = _reader_of(content_type, accept_pickle=accept_pickle)
    if len(body) > (MAX_YAML if read is _read_yaml else MAX_BODY):
        raise InvalidEvent("too-large", f"a body of {len(body)} bytes")
    try:
        return read(body)
    except InvalidEvent:
        raise
    except Exception as exc:  # pickle may raise whatever the sender chooses
        raise InvalidEvent("undecodable", f"{type(exc).__name__}: {exc}"[:LONGEST_DETAIL]) from exc


def _reader_of(content_type: str | None, *, accept_pickle: bool) -> Callable[[bytes], Any]:
    read = _READERS.get(content_type or "")
    if read is not None:
        return read
    if content_type not in PICKLE:
        raise InvalidEvent("content-type", f"{str(content_type)[:100]!r} is not decoded")
    if not accept_pickle:
        raise InvalidEvent("pickle", "a pickled message is not decoded; see --accept-pickle")
    return pickle.loads


def _read_json(body: bytes) -> Any:
    """JSON as Python's own json reads it (NaN, lone surrogates and all), only faster where it is well-formed."""
    try:
        return _json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return json.loads(body)


def _read_yaml(body: bytes) -> Any:
    try:
        yaml: Any = import_module("yaml")
    except ImportError as exc:
        raise InvalidEvent("content-type", "events in YAML are read where PyYAML is installed") from exc
    return yaml.safe_load(body)


_READERS: dict[str, Callable[[bytes], Any]] = {
    JSON: _read_json,
    "application/x-msgpack": _msgpack.decode,
    "application/x-yaml": _read_yaml,
}
