"""The short way from the events of a task to its record, for a story as nearly all tasks tell it.

Sent (or not), received, started and ended, in this order, by one worker: then each register has one candidate, and
nothing has to be compared. Whatever is not quite so takes the careful way of `fold`; both give the same record. Pure.
"""

from collections.abc import Sequence
from typing import Any

from meadow.events import TaskFact, TaskFailed, TaskReceived, TaskSent, TaskStarted, TaskSucceeded
from meadow_api.record import INT64_MAX, Record

MOST_EVENTS = 4


def usual_record(uuid: str, history: Sequence[TaskFact]) -> Record | None:
    """The record of a task of which nothing else is known; `None` when its story is not a usual one."""
    told = len(history)
    if told > MOST_EVENTS:
        return None
    sent: Any = history[0] if type(history[0]) is TaskSent else None
    first = 0 if sent is None else 1
    received: Any = history[first] if first < told else None
    if type(received) is not TaskReceived or not _agree(sent, received):
        return None
    started: Any = history[first + 1] if first + 1 < told else None
    if started is not None and (type(started) is not TaskStarted or not _follows(started, received)):
        return None
    end: Any = history[first + 2] if first + 2 < told else None
    if end is not None and (type(end) not in (TaskSucceeded, TaskFailed) or not _follows(end, started)):
        return None
    if first + 3 < told:
        return None
    return _record(uuid, sent, received, started, end)


def _agree(sent: Any, received: Any) -> bool:
    """Whether all that is known of the message stands in the second of the two."""
    if not received.hostname or not _fits(received) or received.retries > INT64_MAX or received.retries < 0:
        return False
    if sent is None:
        return True
    return bool(
        sent.retries == received.retries
        and (received.name or not sent.name)
        and (received.args or not sent.args)
        and (received.kwargs or not sent.kwargs)
        and (received.root_id or not sent.root_id)
        and (received.parent_id or not sent.parent_id)
    )


def _follows(event: Any, before: Any) -> bool:
    """Whether the same process sent it later."""
    return (
        event.timestamp > before.timestamp
        and event.hostname == before.hostname
        and event.pid == before.pid
        and _fits(event)
    )


def _fits(event: Any) -> bool:
    """Whether a database can hold its numbers."""
    return 0 <= event.clock <= INT64_MAX and (event.pid is None or 0 <= event.pid <= INT64_MAX)


def _record(uuid: str, sent: Any, received: Any, started: Any, end: Any) -> Record:
    last = end or started or received
    record = Record(
        uuid,
        received.name or None,
        received.hostname,
        last.timestamp,
        None if sent is None else sent.timestamp,
        received.timestamp,
        None if started is None else started.timestamp,
    )
    record.retries, record.eta, record.expires = received.retries, received.eta, received.expires
    record.root_id, record.parent_id = received.root_id or None, received.parent_id or None
    record.details_at, record.details_received = received.timestamp, 1
    record.pid, record.clock = received.pid, last.clock
    record.args, record.kwargs = received.args or None, received.kwargs or None
    if sent is not None:
        record.exchange, record.routing_key = sent.exchange, sent.routing_key
        record.queue, record.client = sent.queue, sent.hostname
    if type(end) is TaskSucceeded:
        record.succeeded, record.result, record.runtime = end.timestamp, end.result, end.runtime
    elif end is not None:
        record.failed, record.exception, record.traceback = end.timestamp, end.exception, end.traceback
    return record
