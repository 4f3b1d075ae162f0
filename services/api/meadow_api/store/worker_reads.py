"""Workers: what their events and their last inspections say."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from meadow.queries import WorkerRow
from meadow_api import presence
from meadow_api.presence import WorkerRecord
from meadow_api.store import schema
from meadow_api.store.memory import worker_record
from meadow_api.store.task_reads import find_cluster

Answers = dict[str, tuple[float, Any]]
"""Inspection method to when it was answered and the answer."""

MOST_ITEMS = 500


def list_workers(
    connection: Connection, cluster_name: str, now: float, hostname: str | None = None, purge: float | None = None
) -> list[WorkerRow]:
    """All workers (or the one) by name. With `purge`, those offline for that many seconds are left out."""
    cluster = find_cluster(connection, cluster_name)
    if cluster is None:
        return []
    statement = select(schema.workers).where(schema.workers.c.cluster == cluster).order_by(schema.workers.c.hostname)
    if hostname is not None:
        statement = statement.where(schema.workers.c.hostname == hostname)
    records = {row.hostname: worker_record(row) for row in connection.execute(statement)}
    inspected = read_inspections(connection, cluster_name, hostname, ("stats", "active_queues"))
    counters = _counters(connection, cluster, hostname)
    rows = []
    for name in sorted({*records, *inspected}):
        record = records.get(name) or WorkerRecord(name)
        row = _row(record, counters.get(name, {}), inspected.get(name, {}), now)
        if row.online or purge is None or now - _last_heard(record, inspected.get(name, {})) < purge:
            rows.append(row)
    return rows


def read_inspections(
    connection: Connection,
    cluster_name: str,
    hostname: str | None = None,
    methods: Sequence[str] | None = None,
) -> dict[str, Answers]:
    """What workers answered last, by worker and method."""
    cluster = find_cluster(connection, cluster_name)
    statement = select(schema.inspections).where(schema.inspections.c.cluster == cluster)
    if hostname is not None:
        statement = statement.where(schema.inspections.c.hostname == hostname)
    if methods is not None:
        statement = statement.where(schema.inspections.c.method.in_(methods))
    found: dict[str, Answers] = {}
    for row in connection.execute(statement.order_by(schema.inspections.c.hostname)):
        found.setdefault(row.hostname, {})[row.method] = (row.at, msgspec.json.decode(row.answer))
    return found


def bounded(answer: Any) -> Any:
    """An inspection's answer with its longest lists cut: a worker may hold many thousands of revoked ids."""
    return answer[:MOST_ITEMS] if isinstance(answer, list) else answer


def queue_names(answers: Answers) -> list[str]:
    """The names of the queues that the worker consumes."""
    return sorted(
        queue["name"]
        for queue in _list(answers.get("active_queues", (0.0, None))[1])
        if isinstance(queue, dict) and isinstance(queue.get("name"), str)
    )


def is_known(connection: Connection, cluster_name: str, hostname: str) -> bool:
    """Whether an event of that worker was ever seen."""
    cluster = find_cluster(connection, cluster_name)
    key = (schema.workers.c.cluster == cluster, schema.workers.c.hostname == hostname)
    return connection.execute(select(schema.workers.c.hostname).where(*key)).first() is not None


def _counters(connection: Connection, cluster: int, hostname: str | None) -> dict[str, dict[str, int]]:
    statement = select(schema.worker_counts).where(schema.worker_counts.c.cluster == cluster)
    if hostname is not None:
        statement = statement.where(schema.worker_counts.c.hostname == hostname)
    found: dict[str, dict[str, int]] = {}
    for row in connection.execute(statement):
        found.setdefault(row.hostname, {})[row.type] = row._mapping["count"]
    return found


def _row(record: WorkerRecord, counters: dict[str, int], answers: Answers, now: float) -> WorkerRow:
    online = presence.is_online(record, now)
    stats = answers.get("stats", (0.0, None))[1]
    pool = stats.get("pool") if isinstance(stats, dict) else None
    concurrency = pool.get("max-concurrency") if isinstance(pool, dict) else None
    return WorkerRow(
        hostname=record.hostname,
        online=online,
        since=presence.since(record, online),
        first_seen=record.first_seen,
        last_seen=record.last_seen,
        heartbeats=list(record.heartbeats),
        freq=record.freq,
        pid=record.pid,
        clock=record.clock,
        active=record.active,
        processed=record.processed,
        loadavg=list(record.loadavg),
        sw_ident=record.sw_ident,
        sw_ver=record.sw_ver,
        sw_sys=record.sw_sys,
        skew=record.skew,
        counters=counters,
        concurrency=concurrency if isinstance(concurrency, int) else None,
        pool=_pool_name(pool),
        queues=queue_names(answers),
    )


def _pool_name(pool: Any) -> str | None:
    """`prefork` of `celery.concurrency.prefork:TaskPool`."""
    implementation = pool.get("implementation") if isinstance(pool, dict) else None
    if not isinstance(implementation, str):
        return None
    return implementation.partition(":")[0].rpartition(".")[2] or None


def _last_heard(record: WorkerRecord, answers: Answers) -> float:
    times = [at for at, _ in answers.values()]
    return max([record.last_seen or 0.0, *times])


def _list(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else ()
