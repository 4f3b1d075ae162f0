"""What is known of one task: a merge of its events in which neither order nor repetition matters.

A record is a product of registers. Each register keeps the value that came with the greatest key (a time, or the
attempt and a time); equal keys keep the greater value. Every register is the maximum of a total order, so the merge
of records is commutative, associative and idempotent: a join-semilattice. The state is not merged but derived.
Beside the registers stands the set of the events of all attempts, but only where the registers do not show them all:
`shown` is what they show, and a record keeps `attempts` exactly when that is not the whole set.

| register                                      | key                                            | set by           |
|-----------------------------------------------|------------------------------------------------|------------------|
| sent, received, started, … (one time each)    | the event's timestamp                          | that event       |
| name, args, kwargs, root_id, parent_id (each) | retries, received before sent, timestamp       | sent, received   |
| retries, eta, expires                         | the same                                       | sent, received   |
| exception, traceback                          | timestamp, failed before retried               | failed, retried  |
| result, runtime                               | timestamp                                      | succeeded        |
| worker, pid, clock, timestamp                 | a worker's event before the sender's, timestamp | all              |
| exchange, routing_key, queue, client          | timestamp                                      | sent             |
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from meadow import events
from meadow.events import TaskFact
from meadow_api.attempts import ENDS, UNKNOWN, Log, Moment, error_texts, union
from meadow_api.record import FIELDS, INT64_MAX, DetailsKey, Record, state_of, values_of

__all__ = ["FIELDS", "INT64_MAX", "Record", "absorb", "absorb_all", "fold", "merge", "shown", "state_of", "values_of"]

DETAILS = ("name", "args", "kwargs", "root_id", "parent_id")

V = TypeVar("V", str, float, int)


def fold(uuid: str, facts: Iterable[TaskFact]) -> Record:
    """The record of one task from its events, in whatever order they are given."""
    record = Record(uuid)
    absorb_all(record, facts)
    return record


def absorb(record: Record, fact: TaskFact) -> None:
    """Merge one event into the record, in place."""
    absorb_all(record, (fact,))


def absorb_all(record: Record, facts: Iterable[TaskFact]) -> None:
    """Merge events into the record, in place."""
    known: Log | None = None
    more: list[Moment] = []
    for fact in facts:
        kind = type(fact)
        absorber = _ABSORBERS.get(kind)
        if absorber is None:
            continue
        if known is None and (record.attempts is not None or not _fits(record, fact, kind)):
            known = log_of(record)
        if known is not None and kind in _KINDS:
            more.append(_moment(fact, _KINDS[kind]))
        absorber(record, fact)
    if known is not None:
        _keep(record, union(known, more))


def merge(record: Record, other: Record) -> None:
    """Merge another record of the same task into the record, in place."""
    log = union(log_of(record), log_of(other))
    for field in _TIMES:
        setattr(record, field, _greater(getattr(record, field), getattr(other, field)))
    _merge_custom(record, other)
    _merge_outcomes(record, other)
    _merge_details(record, other)
    if other.clock is not None:
        _set_worker(record, other.timestamp, other.worker, other.pid, other.clock)
    _keep(record, log)


# -- all attempts --------------------------------------------------------------------------------------------------


def log_of(record: Record) -> Log:
    """The events of all attempts."""
    return shown(record) if record.attempts is None else record.attempts


def shown(record: Record) -> Log:
    """The events that the registers show."""
    worker, pid = record.worker or "", UNKNOWN if record.pid is None else record.pid
    retries = UNKNOWN if record.retries is None else record.retries
    moments = []
    if record.sent is not None:
        moments.append(Moment(record.sent, "sent", retries=retries, queue=record.queue or ""))
    if record.received is not None:
        moments.append(Moment(record.received, "received", worker, pid, retries))
    if record.started is not None:
        moments.append(Moment(record.started, "started", worker, pid))
    error_at = _error_key(record)
    for kind in ENDS:
        at = getattr(record, kind)
        if at is None:
            continue
        runtime = record.runtime if kind == "succeeded" and record.runtime is not None else UNKNOWN
        its_own = error_at is not None and error_at == (at, _ERRORS.get(kind))
        texts = error_texts(record.exception, record.traceback) if its_own else ("", "")
        moments.append(Moment(at, kind, worker, pid, UNKNOWN, "", runtime, *texts))
    return tuple(sorted(moments))


def _keep(record: Record, log: Log) -> None:
    record.attempts = None if log == shown(record) else log


def _fits(record: Record, fact: Any, kind: type[Any]) -> bool:
    """Whether it is certain that the registers show this event beside all others. `False` only costs time."""
    if kind is events.TaskSent:
        return record.sent is None and (record.retries is None or record.retries == fact.retries)
    if record.worker is not None and (record.worker != fact.hostname or record.pid != fact.pid):
        return False
    if kind is events.TaskReceived:
        return record.received is None and (record.retries is None or record.retries == fact.retries)
    if kind is events.CustomEvent:
        return True
    if kind is events.TaskFailed or kind is events.TaskRetried:
        return record.failed is None and record.retried is None
    return getattr(record, _KINDS[kind]) is None


def _moment(fact: Any, kind: str) -> Moment:
    """The event as one moment of an attempt."""
    if kind == "sent":
        return Moment(fact.timestamp, kind, retries=_int64(fact.retries), queue=fact.queue or "")
    pid = UNKNOWN if fact.pid is None else _int64(fact.pid)
    retries = _int64(fact.retries) if kind == "received" else UNKNOWN
    runtime = fact.runtime if kind == "succeeded" and fact.runtime is not None else UNKNOWN
    texts = error_texts(fact.exception, fact.traceback) if kind in _ERRORS else ("", "")
    return Moment(fact.timestamp, kind, fact.hostname or "?", pid, retries, "", runtime, *texts)


_ERRORS = {"failed": 1, "retried": 0}
_KINDS: dict[type[Any], str] = {
    events.TaskSent: "sent",
    events.TaskReceived: "received",
    events.TaskStarted: "started",
    events.TaskSucceeded: "succeeded",
    events.TaskFailed: "failed",
    events.TaskRetried: "retried",
    events.TaskRevoked: "revoked",
    events.TaskRejected: "rejected",
    events.TaskCancelled: "cancelled",
}


# -- one event ----------------------------------------------------------------------------------------------------


def _sent(record: Record, fact: events.TaskSent) -> None:
    at = fact.timestamp
    known = record.sent
    if known is None or at > known:
        record.sent, record.exchange, record.routing_key = at, fact.exchange, fact.routing_key
        record.queue, record.client = fact.queue, fact.hostname
    elif at == known:
        record.exchange = _greater(record.exchange, fact.exchange)
        record.routing_key = _greater(record.routing_key, fact.routing_key)
        record.queue = _greater(record.queue, fact.queue)
        record.client = _greater(record.client, fact.hostname)
    _set_details(record, (_int64(fact.retries), 0, at), fact)
    _set_worker(record, at, None, None, _int64(fact.clock))


def _received(record: Record, fact: events.TaskReceived) -> None:
    at = fact.timestamp
    if record.received is None or at > record.received:
        record.received = at
    _set_details(record, (_int64(fact.retries), 1, at), fact)
    _by_worker(record, fact)


def _started(record: Record, fact: events.TaskStarted) -> None:
    record.started = _greater(record.started, fact.timestamp)
    _by_worker(record, fact)


def _succeeded(record: Record, fact: events.TaskSucceeded) -> None:
    at = fact.timestamp
    if record.succeeded is None or at > record.succeeded:
        record.succeeded, record.result, record.runtime = at, fact.result, fact.runtime
    elif at == record.succeeded:
        record.result = _greater(record.result, fact.result)
        record.runtime = _greater(record.runtime, fact.runtime)
    _by_worker(record, fact)


def _failed(record: Record, fact: events.TaskFailed) -> None:
    _set_error(record, (fact.timestamp, 1), fact.exception, fact.traceback)
    record.failed = _greater(record.failed, fact.timestamp)
    _by_worker(record, fact)


def _retried(record: Record, fact: events.TaskRetried) -> None:
    _set_error(record, (fact.timestamp, 0), fact.exception, fact.traceback)
    record.retried = _greater(record.retried, fact.timestamp)
    _by_worker(record, fact)


def _revoked(record: Record, fact: events.TaskRevoked) -> None:
    record.revoked = _greater(record.revoked, fact.timestamp)
    _by_worker(record, fact)


def _rejected(record: Record, fact: events.TaskRejected) -> None:
    record.rejected = _greater(record.rejected, fact.timestamp)
    _by_worker(record, fact)


def _cancelled(record: Record, fact: events.TaskCancelled) -> None:
    record.cancelled = _greater(record.cancelled, fact.timestamp)
    _by_worker(record, fact)


def _custom(record: Record, fact: events.CustomEvent) -> None:
    if not fact.event.startswith("task-"):
        return
    _set_custom(record, fact.timestamp, fact.event)
    _by_worker(record, fact)


_ABSORBERS: dict[type[Any], Callable[[Record, Any], None]] = {
    events.TaskSent: _sent,
    events.TaskReceived: _received,
    events.TaskStarted: _started,
    events.TaskSucceeded: _succeeded,
    events.TaskFailed: _failed,
    events.TaskRetried: _retried,
    events.TaskRevoked: _revoked,
    events.TaskRejected: _rejected,
    events.TaskCancelled: _cancelled,
    events.CustomEvent: _custom,
}

_TIMES = ("received", "started", "revoked", "rejected", "cancelled")


# -- registers ----------------------------------------------------------------------------------------------------


def _greater(left: V | None, right: V | None) -> V | None:
    """The maximum, where `None` is less than everything."""
    if left is None:
        return right
    if right is None or left >= right:
        return left
    return right


def _int64(value: int) -> int:
    """SQLite's integers have 64 bits; a sender may claim any number."""
    return value if -INT64_MAX <= value <= INT64_MAX else (INT64_MAX if value > 0 else -INT64_MAX)


def _by_worker(record: Record, fact: events.CeleryEvent) -> None:
    pid = fact.pid if fact.pid is None else _int64(fact.pid)
    _set_worker(record, fact.timestamp, fact.hostname or "?", pid, _int64(fact.clock))


def _set_worker(record: Record, at: float, worker: str | None, pid: int | None, clock: int | None) -> None:
    if record.clock is not None:
        known_side, side = record.worker is not None, worker is not None
        if known_side > side or (known_side == side and record.timestamp > at):
            return
        if known_side == side and record.timestamp == at:
            record.worker = _greater(record.worker, worker)
            record.pid = _greater(record.pid, pid)
            record.clock = _greater(record.clock, clock)
            return
    record.timestamp, record.worker, record.pid, record.clock = at, worker, pid, clock


def _set_custom(record: Record, at: float, name: str | None) -> None:
    if record.custom_at is None or at > record.custom_at:
        record.custom_at, record.custom = at, name
    elif at == record.custom_at:
        record.custom = _greater(record.custom, name)


def _set_error(record: Record, key: tuple[float, int], exception: str | None, traceback: str | None) -> None:
    known = _error_key(record)
    if known is None or key > known:
        record.exception, record.traceback = exception, traceback
    elif key == known:
        record.exception = _greater(record.exception, exception)
        record.traceback = _greater(record.traceback, traceback)


def _error_key(record: Record) -> tuple[float, int] | None:
    if record.failed is None:
        return None if record.retried is None else (record.retried, 0)
    if record.retried is None or record.failed >= record.retried:
        return (record.failed, 1)
    return (record.retried, 0)


def _set_details(record: Record, key: DetailsKey, fact: events.TaskDetails | Record) -> None:
    """The details of one event (or of a record, but for what stands in its `older`)."""
    known = record.details_key
    skip = fact.older if isinstance(fact, Record) and fact.older else ()
    if known is None and not skip:
        _first_details(record, key, fact)
        return
    if known is None or key > known:
        _replace_details(record, known, key, fact, skip)
        return
    if key == known:
        record.eta = _greater(record.eta, fact.eta)
        record.expires = _greater(record.expires, fact.expires)
    for field in DETAILS:
        if field not in skip:
            _set_detail(record, field, key, getattr(fact, field))


def _first_details(record: Record, key: DetailsKey, fact: events.TaskDetails | Record) -> None:
    """All details at once: what happens to nearly every task, without a loop."""
    record.name, record.args, record.kwargs = fact.name or None, fact.args or None, fact.kwargs or None
    record.root_id, record.parent_id = fact.root_id or None, fact.parent_id or None
    record.retries, record.details_received, record.details_at = key
    record.eta, record.expires = fact.eta, fact.expires


def _says_as_much(fact: events.TaskDetails | Record, record: Record) -> bool:
    """Whether the fact has every detail that the record has."""
    return bool(
        (fact.name or record.name is None)
        and (fact.args or record.args is None)
        and (fact.kwargs or record.kwargs is None)
        and (fact.root_id or record.root_id is None)
        and (fact.parent_id or record.parent_id is None)
    )


def _replace_details(
    record: Record,
    known: DetailsKey | None,
    key: DetailsKey,
    fact: events.TaskDetails | Record,
    skip: Iterable[str],
) -> None:
    older = record.older
    if older is None and not skip and _says_as_much(fact, record):
        _first_details(record, key, fact)
        return
    for field in DETAILS:
        value = None if field in skip else getattr(fact, field)
        if value:
            setattr(record, field, value)
            if older is not None:
                older.pop(field, None)
        elif known is not None and getattr(record, field) is not None:
            older = {} if older is None else older
            older.setdefault(field, known)
    record.older = older or None
    record.retries, record.details_received, record.details_at = key
    record.eta, record.expires = fact.eta, fact.expires


def _set_detail(record: Record, field: str, key: DetailsKey, value: str | None) -> None:
    """One detail under a key that is not greater than the record's own."""
    if not value:
        return
    known_value = getattr(record, field)
    own = record.details_key
    known = None if known_value is None else (record.older or {}).get(field, own)
    if known is not None and (known > key or (known == key and known_value >= value)):
        return
    setattr(record, field, value)
    older = dict(record.older or {})
    if key == own:
        older.pop(field, None)
    else:
        older[field] = key
    record.older = older or None


# -- two records --------------------------------------------------------------------------------------------------


def _merge_custom(record: Record, other: Record) -> None:
    if other.custom_at is not None:
        _set_custom(record, other.custom_at, other.custom)


def _merge_outcomes(record: Record, other: Record) -> None:
    key = _error_key(other)
    if key is not None:
        _set_error(record, key, other.exception, other.traceback)
    record.failed = _greater(record.failed, other.failed)
    record.retried = _greater(record.retried, other.retried)
    for at, fields in (("succeeded", ("result", "runtime")), ("sent", ("exchange", "routing_key", "queue", "client"))):
        theirs, ours = getattr(other, at), getattr(record, at)
        if theirs is None or (ours is not None and ours > theirs):
            continue
        for field in fields:
            value = getattr(other, field)
            setattr(record, field, _greater(getattr(record, field), value) if ours == theirs else value)
        setattr(record, at, theirs)


def _merge_details(record: Record, other: Record) -> None:
    key = other.details_key
    if key is None:
        return
    _set_details(record, key, other)
    for field, older_key in (other.older or {}).items():
        _set_detail(record, field, older_key, getattr(other, field))
