"""From what Celery sent, decoded, to facts. Pure: nothing here knows a broker, a bus or a clock.

Events come from whoever can publish to the broker, so nothing about them is taken for granted. A wrong optional field
is left out; a wrong required one discards the event, with a reason under which it is counted.
"""

from collections.abc import Callable, Iterator
from typing import Any

from meadow.errors import InvalidEvent
from meadow.events import (
    CeleryEvent,
    CustomEvent,
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
from meadow_collector.text import MAX_EXACT_INT, bounded, clean, cut, size_of

LONGEST_NAME = 255
SHORT = 1024
LATEST = 1e11
FARTHEST = 30 * 86400.0
"""Seconds that a sender's clock may be away from ours: beyond that it says nothing, and the task would stand at the
wrong end of every list, and of retention, for ever."""
MARGIN = 4096
MAX_LOADS = 8

HEAD = frozenset({"type", "hostname", "timestamp", "clock", "pid", "utcoffset", "uuid"})

Event = dict[str, Any]
Head = dict[str, Any]


class Normaliser:
    """Makes facts of events. `field_bytes` bounds each long text."""

    def __init__(self, field_bytes: int, redactor: Redactor) -> None:
        self._limit = field_bytes
        self._redactor = redactor
        self._build: dict[str, Callable[[Event, Head], CeleryEvent]] = {
            "task-sent": self._sent,
            "task-received": lambda event, head: TaskReceived(**self._details(event), **head),
            "task-started": lambda event, head: TaskStarted(uuid=_identifier(event, "uuid"), **head),
            "task-succeeded": self._succeeded,
            "task-failed": lambda event, head: TaskFailed(**self._trouble(event), **head),
            "task-retried": lambda event, head: TaskRetried(**self._trouble(event), **head),
            "task-revoked": self._revoked,
            "task-rejected": self._rejected,
            "task-cancelled": lambda event, head: TaskCancelled(uuid=_identifier(event, "uuid"), **head),
            "worker-online": lambda event, head: WorkerOnline(**self._vitals(event), **head),
            "worker-heartbeat": lambda event, head: WorkerHeartbeat(**self._vitals(event), **head),
            "worker-offline": lambda event, head: WorkerOffline(**self._vitals(event), **head),
        }

    def fact(self, event: Any, seen: float) -> CeleryEvent:
        """The fact that this event, which arrived at `seen`, tells; raises `InvalidEvent`."""
        if not isinstance(event, dict):
            raise InvalidEvent("not-an-object", type(event).__name__)
        kind = _identifier(event, "type")
        head = {
            "hostname": _identifier(event, "hostname"),
            "timestamp": _timestamp(event, seen),
            "seen": seen,
            "clock": _count(event.get("clock")) or 0,
            "pid": _count(event.get("pid")),
        }
        build = self._build.get(kind)
        return build(event, head) if build is not None else self._custom(kind, event, head)

    def _details(self, event: Event) -> dict[str, Any]:
        return {
            "uuid": _identifier(event, "uuid"),
            "name": _short(event.get("name")),
            "args": self._rendered(event.get("args")),
            "kwargs": self._rendered(event.get("kwargs")),
            "root_id": _short(event.get("root_id")),
            "parent_id": _short(event.get("parent_id")),
            "retries": _count(event.get("retries")) or 0,
            "eta": _short(event.get("eta")),
            "expires": _short(event.get("expires")),
        }

    def _sent(self, event: Event, head: Head) -> TaskSent:
        return TaskSent(
            queue=_short(event.get("queue")),
            exchange=_short(event.get("exchange")),
            routing_key=_short(event.get("routing_key")),
            **self._details(event),
            **head,
        )

    def _succeeded(self, event: Event, head: Head) -> TaskSucceeded:
        return TaskSucceeded(
            uuid=_identifier(event, "uuid"),
            result=self._rendered(event.get("result")),
            runtime=_amount(event.get("runtime")),
            **head,
        )

    def _trouble(self, event: Event) -> dict[str, Any]:
        return {
            "uuid": _identifier(event, "uuid"),
            "exception": self._text(event.get("exception")),
            "traceback": self._text(event.get("traceback")),
        }

    def _revoked(self, event: Event, head: Head) -> TaskRevoked:
        signum = event.get("signum")
        return TaskRevoked(
            uuid=_identifier(event, "uuid"),
            terminated=event.get("terminated") is True,
            signum=_short(signum) if isinstance(signum, str) else _digits(_count(signum)),
            expired=event.get("expired") is True,
            **head,
        )

    def _rejected(self, event: Event, head: Head) -> TaskRejected:
        return TaskRejected(uuid=_identifier(event, "uuid"), requeue=event.get("requeue") is True, **head)

    def _vitals(self, event: Event) -> dict[str, Any]:
        return {
            "freq": _amount(event.get("freq")) or 2.0,
            "active": _count(event.get("active")),
            "processed": _count(event.get("processed")),
            "loadavg": _loads(event.get("loadavg")),
            "sw_ident": _short(event.get("sw_ident")),
            "sw_ver": _short(event.get("sw_ver")),
            "sw_sys": _short(event.get("sw_sys")),
        }

    def _custom(self, kind: str, event: Event, head: Head) -> CustomEvent:
        try:
            uuid = _identifier(event, "uuid")
        except InvalidEvent:
            uuid = None
        rest = {key: value for key, value in event.items() if key not in HEAD}
        fields = self._redactor.value(bounded(rest, self._limit))
        return CustomEvent(event=kind, uuid=uuid, fields=fields, **head)

    def _rendered(self, value: Any) -> str | None:
        """A field that holds a repr; what old clients send as plain data is shown as its repr."""
        if value is None or isinstance(value, str):
            return self._text(value)
        return self._text(repr(bounded(value, self._limit)))

    def _text(self, value: Any) -> str | None:
        """A long text: clean, without secrets, and cut visibly."""
        if not isinstance(value, str):
            return None
        limit = self._limit
        if value.isascii() and len(value) <= limit and "\x00" not in value:
            return self._redactor.text(value)
        # Redaction sees more than what is kept, so that a secret at the cut is still recognised by what follows it.
        shown = self._redactor.text(clean(value[: limit + MARGIN]))
        beyond = size_of(value[limit + MARGIN :])
        return cut(shown, limit, of=size_of(shown) + beyond)


def each(body: Any) -> Iterator[Any]:
    """The events of one message: a single one, or a list of them (routing key `task.multi`)."""
    if isinstance(body, list):
        yield from body
    else:
        yield body


def _identifier(event: Event, field: str) -> str:
    value = event.get(field)
    if isinstance(value, str) and value:
        if len(value) > LONGEST_NAME:
            raise InvalidEvent("too-large", f"{field} has {len(value)} characters")
        return clean(value)
    if value is None or value == "":
        raise InvalidEvent(f"no-{field}")
    raise InvalidEvent("bad-type", f"{field} is a {type(value).__name__}")


def _timestamp(event: Event, seen: float) -> float:
    value = event.get("timestamp")
    if value is None:
        raise InvalidEvent("no-timestamp")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidEvent("bad-type", f"timestamp is a {type(value).__name__}")
    if not 0 < value < LATEST:  # not so for NaN either
        raise InvalidEvent("bad-timestamp", "it is not a time in seconds since 1970")
    if abs(value - seen) > FARTHEST:
        raise InvalidEvent("implausible-time", "the sender's clock is more than 30 days away from ours")
    return float(value)


def _count(value: Any) -> int | None:
    """A whole number from 0 to 2**53, where every JSON reader agrees on it."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_EXACT_INT:
        return value
    return None


def _digits(value: int | None) -> str | None:
    return None if value is None else str(value)


def _amount(value: Any) -> float | None:
    """A finite number that is not negative."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MAX_EXACT_INT:
        return None
    return float(value)


def _short(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    if value.isascii() and len(value) <= SHORT and "\x00" not in value:
        return value
    return cut(clean(value[:SHORT]), SHORT, of=size_of(value))


def _loads(value: Any) -> tuple[float, ...]:
    if not isinstance(value, (list, tuple)) or len(value) > MAX_LOADS:
        return ()
    loads = [_amount(load) for load in value]
    return tuple(load for load in loads if load is not None) if None not in loads else ()
