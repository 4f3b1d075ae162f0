"""What is known of one worker, merged from its events in any order, and whether it is online."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from meadow.events import CeleryEvent, WorkerEvent, WorkerHeartbeat, WorkerOffline, WorkerOnline
from meadow_api.fold import INT64_MAX

HEARTBEATS_KEPT = 4
LEAST_PATIENCE = 5.0
MOST_PATIENCE = 300.0


@dataclass(slots=True)
class WorkerRecord:
    """One worker. `online_at`, `heartbeat_at` and `offline_at` are the newest events by the worker's own clock,
    `first_seen` and `last_seen` by ours. What a worker says of itself belongs to its newest event (`event_at`)."""

    hostname: str
    first_seen: float | None = None
    last_seen: float | None = None
    online_at: float | None = None
    heartbeat_at: float | None = None
    offline_at: float | None = None
    heartbeats: tuple[float, ...] = ()
    event_at: float | None = None
    freq: float = 2.0
    pid: int | None = None
    clock: int | None = None
    active: int | None = None
    processed: int | None = None
    loadavg: tuple[float, ...] = ()
    sw_ident: str | None = None
    sw_ver: str | None = None
    sw_sys: str | None = None
    skew: float | None = None


FIELDS = tuple(WorkerRecord.__dataclass_fields__)
values_of: Callable[[WorkerRecord], tuple[Any, ...]] = attrgetter(*FIELDS)


def absorb_all(record: WorkerRecord, history: Sequence[CeleryEvent]) -> None:
    """Merge events of the worker into its record, in place."""
    seen = [fact.seen for fact in history]
    for edge in {min(seen), max(seen)}:
        _absorb_seen(record, edge)
    for fact in history:
        if isinstance(fact, WorkerEvent):
            _absorb_own(record, fact)


def absorb(record: WorkerRecord, fact: CeleryEvent) -> None:
    """Merge an event of the worker into its record, in place. Events about tasks only say that it lives."""
    absorb_all(record, (fact,))


def _absorb_seen(record: WorkerRecord, seen: float) -> None:
    record.first_seen = seen if record.first_seen is None else min(record.first_seen, seen)
    record.last_seen = seen if record.last_seen is None else max(record.last_seen, seen)


def _absorb_own(record: WorkerRecord, fact: WorkerEvent) -> None:
    at = fact.timestamp
    if isinstance(fact, WorkerOffline):
        record.offline_at = _later(record.offline_at, at)
    else:
        if isinstance(fact, WorkerOnline):
            record.online_at = _later(record.online_at, at)
        elif isinstance(fact, WorkerHeartbeat):
            record.heartbeat_at = _later(record.heartbeat_at, at)
        record.heartbeats = tuple(sorted({*record.heartbeats, at})[-HEARTBEATS_KEPT:])
    if record.event_at is None or (at, _bounded(fact.clock)) >= (record.event_at, record.clock):
        _describe(record, fact)


def _describe(record: WorkerRecord, fact: WorkerEvent) -> None:
    record.event_at, record.freq, record.skew = fact.timestamp, fact.freq, fact.timestamp - fact.seen
    record.pid, record.clock = _bounded(fact.pid), _bounded(fact.clock)
    record.active, record.processed = _bounded(fact.active), _bounded(fact.processed)
    record.loadavg = fact.loadavg[:3]
    record.sw_ident, record.sw_ver, record.sw_sys = fact.sw_ident, fact.sw_ver, fact.sw_sys


def is_online(record: WorkerRecord, now: float) -> bool:
    """Whether the worker was heard of lately (by our clock) and has not said goodbye since."""
    if record.last_seen is None or said_goodbye(record):
        return False
    return now - record.last_seen <= patience(record.freq)


def patience(freq: float) -> float:
    """How many seconds of silence are normal for a worker that sends a heartbeat every `freq` seconds."""
    return min(max(LEAST_PATIENCE, 2.5 * freq), MOST_PATIENCE)


def since(record: WorkerRecord, online: bool) -> float | None:
    """When the worker became what it is: by its own word where it gave one."""
    if online:
        return record.online_at if record.online_at is not None else record.first_seen
    return record.offline_at if said_goodbye(record) else record.last_seen


def said_goodbye(record: WorkerRecord) -> bool:
    """Whether the last that the worker said was that it shuts down."""
    if record.offline_at is None:
        return False
    alive = max((at for at in (record.online_at, record.heartbeat_at) if at is not None), default=None)
    return alive is None or record.offline_at >= alive


def _later(known: float | None, at: float) -> float:
    return at if known is None else max(known, at)


def _bounded(value: int | None) -> int | None:
    return value if value is None else max(-INT64_MAX, min(INT64_MAX, value))
