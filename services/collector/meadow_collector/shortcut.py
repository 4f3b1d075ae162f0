"""The short way from an event to its encoded fact, for events that are as Celery's own workers send them.

Pure. msgspec checks such an event as a whole, against the same bounds that `normalise` keeps field by field, several
times faster, and while it decodes the JSON. Whatever is not quite so takes the careful way.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Union

import msgspec
from msgspec import Meta

from meadow import subjects
from meadow.codec import encode
from meadow.events import (
    CeleryEvent,
    TaskCancelled,
    TaskFailed,
    TaskReceived,
    TaskRejected,
    TaskRetried,
    TaskRevoked,
    TaskSent,
    TaskStarted,
    TaskSucceeded,
    WorkerHeartbeat,
    WorkerOffline,
    WorkerOnline,
)
from meadow.redact import Redactor
from meadow_collector.normalise import FARTHEST, LATEST, LONGEST_NAME, MAX_LOADS, SHORT
from meadow_collector.outbox import Entry
from meadow_collector.text import MAX_EXACT_INT, size_of

FACTS: tuple[type[CeleryEvent], ...] = (
    TaskSent,
    TaskReceived,
    TaskStarted,
    TaskSucceeded,
    TaskFailed,
    TaskRetried,
    TaskRevoked,
    TaskRejected,
    TaskCancelled,
    WorkerOnline,
    WorkerHeartbeat,
    WorkerOffline,
)

Identifier = Annotated[str, Meta(min_length=1, max_length=LONGEST_NAME)]
Short = Annotated[str, Meta(max_length=SHORT)]
Count = Annotated[int, Meta(ge=0, le=MAX_EXACT_INT)]
Amount = Annotated[float, Meta(ge=0, le=MAX_EXACT_INT)]

BOUNDS: dict[str, Any] = {
    "hostname": Identifier,
    "uuid": Identifier,
    "timestamp": Annotated[float, Meta(gt=0, lt=LATEST)],
    "clock": Count,
    "pid": Count | None,
    "retries": Count,
    "runtime": Amount | None,
    "freq": Annotated[float, Meta(gt=0, le=MAX_EXACT_INT)],
    "active": Count | None,
    "processed": Count | None,
    "loadavg": Annotated[tuple[Amount, ...], Meta(max_length=MAX_LOADS)],
    **dict.fromkeys(
        ("name", "root_id", "parent_id", "eta", "expires", "queue", "exchange", "routing_key", "signum"), Short | None
    ),
    **dict.fromkeys(("sw_ident", "sw_ver", "sw_sys"), Short | None),
}
"""What a usual field holds. Texts that may be long are bounded by the fact's own size."""

TEXTS = {
    "task-sent": ("args", "kwargs"),
    "task-received": ("args", "kwargs"),
    "task-succeeded": ("result",),
    "task-failed": ("exception", "traceback"),
    "task-retried": ("exception", "traceback"),
}
"""The fields that may hold secrets."""

NUL = b"\\u0000"


def _bounded(fact: type[CeleryEvent]) -> Any:
    """A type that looks like the fact's on the bus, with bounds to its fields. `seen` is set afterwards."""
    fields = [
        (field.name, BOUNDS.get(field.name, field.type), *([] if field.required else [field.default]))
        for field in msgspec.structs.fields(fact)
        if field.name != "seen"
    ]
    return msgspec.defstruct(
        fact.__name__,
        [*fields, ("seen", float, 0.0)],
        tag_field="type",
        tag=fact.__struct_config__.tag,
        kw_only=True,
        omit_defaults=True,
        gc=False,
    )


Usual = Any
"""A fact as `_bounded` makes its type: a Struct that may still be changed."""


class Shortcut:
    """Reads usual events and encodes them, redacted. `field_bytes` bounds a message as it bounds a single text
    elsewhere: what is short as a whole has no text to be cut.
    """

    def __init__(self, field_bytes: int, redactor: Redactor) -> None:
        self._limit = field_bytes
        self._redactor = redactor
        self._types = {str(fact.__struct_config__.tag): _bounded(fact) for fact in FACTS}
        tasks = [kind for tag, kind in self._types.items() if tag.startswith("task-")]
        self._workers = frozenset(self._types.values()) - frozenset(tasks)
        self._texts = {kind: TEXTS.get(tag, ()) for tag, kind in self._types.items()}
        self._shorts = {kind: _short_fields(kind) for kind in self._types.values()}
        self._one = _decoder(Union[tuple(self._types.values())])
        self._list = _decoder(list[Union[tuple(tasks)]])  # type: ignore[misc]  # workers' own events come alone

    def read(self, body: bytes, seen: float) -> list[Usual] | None:
        """The facts that a message in JSON tells, all of one kind; `None` when one of them is not a usual one."""
        if len(body) > self._limit or not body.isascii():
            return None
        try:
            facts = self._list.decode(body) if body[:1] == b"[" else [self._one.decode(body)]
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        texts, redacted = self._texts, self._redactor.text
        for fact in facts:
            if not -FARTHEST <= fact.timestamp - seen <= FARTHEST:
                return None
            fact.seen = seen
            for name in texts[type(fact)]:
                text = getattr(fact, name)
                if text:
                    setattr(fact, name, redacted(text))
        return facts

    def kind(self, fact: Usual) -> str:
        """The last part of the subject on which the fact is told."""
        return subjects.WORKERS if type(fact) in self._workers else subjects.TASKS

    def pack(self, facts: Sequence[Usual], seen: float) -> Entry | None:
        """Facts of one kind as one entry; `None` when a text among them needs to be mended."""
        try:
            data = encode(facts)
        except UnicodeEncodeError:  # half of a surrogate pair
            return None
        if NUL in data or not (data.isascii() or all(map(self._fits, facts))):
            return None
        return Entry(self.kind(facts[0]), seen, data[1:-1], len(facts))

    def take(self, event: Any, seen: float) -> Entry | None:
        """The entry of an event that is decoded already; `None` for one that is not a usual one."""
        try:
            fact = msgspec.convert(event, self._types[event["type"]])
        except (TypeError, KeyError, UnicodeEncodeError, msgspec.ValidationError):
            return None
        if not -FARTHEST <= fact.timestamp - seen <= FARTHEST:
            return None
        fact.seen = seen
        for name in self._texts[type(fact)]:
            text = getattr(fact, name)
            if text:
                if len(text) > self._limit:
                    return None
                setattr(fact, name, self._redactor.text(text))
        entry = self.pack((fact,), seen)
        return entry if entry is not None and len(entry.data) <= self._limit else None

    def _fits(self, fact: Usual) -> bool:
        """Whether what is bounded in bytes is within its bounds where a character may be more than one byte."""
        bounds = ((self._shorts[type(fact)], SHORT), (self._texts[type(fact)], self._limit))
        return all(size_of(getattr(fact, name) or "") <= bound for names, bound in bounds for name in names)


def _decoder(type_: Any) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(type_)


def _short_fields(kind: Any) -> tuple[str, ...]:
    return tuple(name for name in kind.__struct_fields__ if BOUNDS.get(name) == Short | None)
