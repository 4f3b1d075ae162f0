"""How facts look in bytes: JSON batches, versioned.

    {"v": 1, "cluster": "default", "collector": "host-1234", "events": [{"type": "task-started", ...}, ...]}

The version changes when a reader of the old form would misunderstand; a new optional field does not change it.
"""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from meadow.errors import InvalidMessage
from meadow.events import AnyFact

VERSION = 1

T = TypeVar("T")
F = TypeVar("F")


class Batch(Struct, frozen=True):
    """One message on `meadow.events.…`."""

    v: int
    cluster: str
    collector: str
    events: Sequence[AnyFact]


class _Version(Struct, frozen=True):
    v: int


_encoder = msgspec.json.Encoder()
_batch_decoder = msgspec.json.Decoder(Batch)
_version_decoder = msgspec.json.Decoder(_Version)


def encode_batch(cluster: str, collector: str, events: Sequence[AnyFact]) -> bytes:
    """The batch as bytes for the bus."""
    return _encoder.encode(Batch(VERSION, cluster, collector, events))


def join_batch(cluster: str, collector: str, events: Sequence[bytes]) -> bytes:
    """The batch of facts that are encoded already, one by one."""
    head = _encoder.encode({"v": VERSION, "cluster": cluster, "collector": collector})
    return head[:-1] + b',"events":[' + b",".join(events) + b"]}"


def decode_batch(data: bytes) -> Batch:
    """The batch in `data`; raises `InvalidMessage` when it is none or of another version."""
    return _decoded(_batch_decoder, data)


class BatchReader(Generic[F]):
    """Reads batches into facts of the reader's own types, a tagged union that may lack fields that nobody needs there.

    What is not asked for is skipped undecoded.
    """

    def __init__(self, facts: Any) -> None:
        fields = [("v", int), ("events", list[facts])]
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(msgspec.defstruct("Batch", fields))

    def read(self, data: bytes) -> list[F]:
        """The facts of the batch in `data`; raises `InvalidMessage` when it is none or of another version."""
        events: list[F] = _decoded(self._decoder, data).events
        return events


def _decoded(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    try:
        batch = decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidMessage(_explain(data, exc)) from exc
    version: int = batch.v  # type: ignore[attr-defined]
    if version != VERSION:
        raise InvalidMessage(_wrong_version(version))
    return batch


def _explain(data: bytes, exc: Exception) -> str:
    try:
        version = _version_decoder.decode(data).v
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return f"This is not a batch of facts: {exc}"
    return _wrong_version(version) if version != VERSION else f"This batch of facts is not valid: {exc}"


def _wrong_version(version: int) -> str:
    return f"The batch has version {version}, this Meadow reads version {VERSION}. Run the same release everywhere."


def encode(value: Any) -> bytes:
    """Any Struct or plain value as JSON bytes."""
    return _encoder.encode(value)


def decode(data: bytes, type_: type[T]) -> T:
    """`data` as a value of `type_`; raises `InvalidMessage`."""
    try:
        return msgspec.json.decode(data, type=type_)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidMessage(f"Expected {getattr(type_, '__name__', type_)}: {exc}") from exc
