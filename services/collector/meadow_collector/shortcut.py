"""The short way from an event to its encoded fact, for events that are as Celery's own workers send them.

Pure. msgspec checks such an event as a whole, against the same bounds that `normalise` keeps field by field, several
times faster. Whatever is not quite so takes the careful way.
"""

from typing import Annotated, Any

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
    WorkerEvent,
    WorkerHeartbeat,
    WorkerOffline,
    WorkerOnline,
)
from meadow.redact import Redactor
from meadow_collector.normalise import FARTHEST, LATEST, LONGEST_NAME, MAX_LOADS, SHORT
from meadow_collector.outbox import Entry
from meadow_collector.text import MAX_EXACT_INT

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


class Shortcut:
    """Encodes usual events, redacted. `field_bytes` bounds a fact as it bounds a single text elsewhere."""

    def __init__(self, field_bytes: int, redactor: Redactor) -> None:
        self._limit = field_bytes
        self._redactor = redactor
        # One type for each kind of event: msgspec prepares Struct types once, but a union at every conversion.
        self._usual = {fact.__struct_config__.tag: (_kind(fact), _bounded(fact)) for fact in FACTS}

    def take(self, event: Any, seen: float) -> Entry | None:
        """The encoded fact; `None` for an event that is not a usual one."""
        try:
            type_ = event["type"]
            kind, usual = self._usual[type_]
            fact = msgspec.convert(event, usual)
        except (TypeError, KeyError, UnicodeEncodeError, msgspec.ValidationError):
            return None
        if abs(fact.timestamp - seen) > FARTHEST:
            return None
        fact.seen = seen
        for name in TEXTS.get(type_, ()):
            text = getattr(fact, name)
            if text:
                if len(text) > self._limit:
                    return None
                setattr(fact, name, self._redactor.text(text))
        try:
            data = encode(fact)
        except UnicodeEncodeError:  # half of a surrogate pair
            return None
        # ASCII in JSON is ASCII in each text, and what is short as a whole has no text to be cut.
        return Entry(kind, seen, data) if data.isascii() and len(data) <= self._limit and NUL not in data else None


def _kind(fact: type[CeleryEvent]) -> str:
    return subjects.WORKERS if issubclass(fact, WorkerEvent) else subjects.TASKS
