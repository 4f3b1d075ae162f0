"""The store as lines of JSON, and back: each task with its attempts, each worker, each audit record.

What is read is merged with what is there by the rules by which events are merged, so the order of files does not
matter, and reading one twice changes nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, and_, select, update

from meadow_api import presence
from meadow_api.fold import merge
from meadow_api.presence import WorkerRecord
from meadow_api.record import FIELDS, Record
from meadow_api.store.memory import worker_record
from meadow_api.store.schema import audit, clusters, tasks, workers
from meadow_api.store.task_writes import from_row, write_records
from meadow_api.store.writer import cluster_id

VERSION = 1
PAGE = 500


class Header(Struct, tag="meadow-store", tag_field="type", kw_only=True, frozen=True):
    """The first line."""

    version: int = VERSION
    written: float = 0.0


class End(Struct, tag="meadow-store-end", tag_field="type", kw_only=True, frozen=True):
    """The last line: without it, the export was interrupted."""

    lines: int = 0


class TaskLine(Struct, tag="task", tag_field="type", kw_only=True, frozen=True, omit_defaults=True):
    """One task. `state` is told for readers; it follows from the record."""

    cluster: str
    state: str = ""
    record: Record
    lost_since: float | None = None
    lost_reason: str | None = None


class WorkerLine(Struct, tag="worker", tag_field="type", kw_only=True, frozen=True, omit_defaults=True):
    """One worker."""

    cluster: str
    record: WorkerRecord


class AuditLine(Struct, tag="audit", tag_field="type", kw_only=True, frozen=True, omit_defaults=True):
    """Intent and outcome of one command."""

    cluster: str
    record: str
    at: float
    actor: str = ""
    actor_kind: str = ""
    source: str = ""
    command: str = ""
    target: str = ""
    parameters: str = "{}"
    reason: str = ""
    code: str | None = None
    message: str = ""
    replies: str = "{}"
    seconds: float | None = None


Line: TypeAlias = Header | TaskLine | WorkerLine | AuditLine | End

encode_line = msgspec.json.Encoder().encode
decode_line = msgspec.json.Decoder(Line).decode

_OUTCOME = ("code", "message", "replies", "seconds")
_INTENT = ("at", "actor", "actor_kind", "source", "command", "target", "parameters", "reason")

# -- out ----------------------------------------------------------------------------------------------------------


def task_lines(connection: Connection, after: int) -> tuple[list[TaskLine], int]:
    """Some tasks whose row number is greater than `after`, and the last of these numbers."""
    columns = [tasks.c[name] for name in ("state", *FIELDS)]
    more = (clusters.c.name, tasks.c.id, tasks.c.lost_since, tasks.c.lost_reason)
    found = select(*columns, *more).join(clusters, clusters.c.id == tasks.c.cluster).where(tasks.c.id > after)
    lines = []
    for row in connection.execute(found.order_by(tasks.c.id).limit(PAGE)):
        *values, cluster, after, lost_since, lost_reason = row
        record = from_row(values)
        state, lost = values[0], {"lost_since": lost_since, "lost_reason": lost_reason}
        lines.append(TaskLine(cluster=cluster, state=state, record=record, **lost))
    return lines, after


def worker_lines(connection: Connection) -> list[WorkerLine]:
    """All workers."""
    found = select(workers, clusters.c.name.label("cluster_name")).join(clusters, clusters.c.id == workers.c.cluster)
    return [WorkerLine(cluster=row.cluster_name, record=worker_record(row)) for row in connection.execute(found)]


def audit_lines(connection: Connection, after: int) -> tuple[list[AuditLine], int]:
    """Some audit records whose row number is greater than `after`, and the last of these numbers."""
    columns = [audit.c[name] for name in ("id", "record", *_INTENT, *_OUTCOME)]
    found = select(clusters.c.name, *columns).join(clusters, clusters.c.id == audit.c.cluster).where(audit.c.id > after)
    lines = []
    for row in connection.execute(found.order_by(audit.c.id).limit(PAGE)):
        cluster, after, *values = row
        lines.append(AuditLine(cluster=cluster, **dict(zip(("record", *_INTENT, *_OUTCOME), values, strict=True))))
    return lines, after


# -- in -----------------------------------------------------------------------------------------------------------


def write_lines(connection: Connection, lines: Sequence[Line]) -> int:
    """Merge the lines into the store; gives how many of them were new."""
    kinds = sorted((line for line in lines if not isinstance(line, Header | End)), key=_group)
    added = 0
    for (kind, cluster_name), group in groupby(kinds, key=_group):
        cluster = cluster_id(connection, cluster_name)
        added += _WRITERS[kind](connection, cluster, list(group))
    return added


def _group(line: Any) -> tuple[str, str]:
    return type(line).__name__, line.cluster


def _write_tasks(connection: Connection, cluster: int, lines: Iterable[TaskLine]) -> int:
    records: dict[str, Record] = {}
    lost = []
    for line in lines:
        known = records.setdefault(line.record.uuid, line.record)
        if known is not line.record:
            merge(known, line.record)
        if line.lost_since is not None:
            lost.append(line)
    added = write_records(connection, cluster, records.values())
    connection.execute(update(clusters).where(clusters.c.id == cluster).values(tasks=clusters.c.tasks + added))
    for line in lost:  # unless more is known of the task by now
        same = (tasks.c.timestamp == line.record.timestamp, tasks.c.state == line.state)
        mark = update(tasks).where(tasks.c.cluster == cluster, tasks.c.uuid == line.record.uuid, *same)
        connection.execute(mark.values(lost_since=line.lost_since, lost_reason=line.lost_reason))
    return added


def _write_workers(connection: Connection, cluster: int, lines: Iterable[WorkerLine]) -> int:
    added = 0
    for line in lines:
        key = and_(workers.c.cluster == cluster, workers.c.hostname == line.record.hostname)
        row = connection.execute(select(workers).where(key)).first()
        record = line.record if row is None else merged(worker_record(row), line.record)
        values = dict(zip(presence.FIELDS, presence.values_of(record), strict=True))
        if row is None:
            connection.execute(workers.insert().values(cluster=cluster, **values))
            added += 1
        else:
            connection.execute(update(workers).where(key).values(**values))
    return added


def merged(left: WorkerRecord, right: WorkerRecord) -> WorkerRecord:
    """What two records of one worker say together. What it says of itself belongs to the newer event."""
    newer = max(left, right, key=lambda record: (record.event_at or 0.0, record.clock or 0))
    times = (*left.heartbeats, *right.heartbeats)
    return replace(
        newer,
        first_seen=_of(min, left.first_seen, right.first_seen),
        last_seen=_of(max, left.last_seen, right.last_seen),
        online_at=_of(max, left.online_at, right.online_at),
        heartbeat_at=_of(max, left.heartbeat_at, right.heartbeat_at),
        offline_at=_of(max, left.offline_at, right.offline_at),
        heartbeats=tuple(sorted(set(times))[-presence.HEARTBEATS_KEPT :]),
    )


def _of(choose: Callable[[list[float]], float], *times: float | None) -> float | None:
    known = [at for at in times if at is not None]
    return choose(known) if known else None


def _write_audit(connection: Connection, cluster: int, lines: Iterable[AuditLine]) -> int:
    """An intent or outcome that is there is not written over."""
    added = 0
    for line in lines:
        values = {name: getattr(line, name) for name in (*_INTENT, *_OUTCOME)}
        key = and_(audit.c.cluster == cluster, audit.c.record == line.record)
        row = connection.execute(select(audit).where(key)).first()
        if row is None:
            connection.execute(audit.insert().values(cluster=cluster, record=line.record, **values))
            added += 1
            continue
        lacking = (_INTENT if line.command and not row.command else ()) + (() if row.code else _OUTCOME)
        if lacking:
            connection.execute(update(audit).where(key).values({name: values[name] for name in lacking}))
    return added


_WRITERS: dict[str, Any] = {
    TaskLine.__name__: _write_tasks,
    WorkerLine.__name__: _write_workers,
    AuditLine.__name__: _write_audit,
}
