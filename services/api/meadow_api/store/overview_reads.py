"""The first screen: rates over time, task types, the latest failures, and what runs."""

from typing import Any

from sqlalchemy import Connection, func, select

from meadow.queries import Overview, RatePoint, TaskTypeRow
from meadow_api.store.flower_reads import count_all
from meadow_api.store.pipeline_reads import HOUR, read_gaps, read_tallies, totalled
from meadow_api.store.queue_reads import list_queues, read_collector
from meadow_api.store.schema import rollups, tasks
from meadow_api.store.task_reads import Present, find_cluster, newest_tasks, oldest_tasks
from meadow_api.store.worker_reads import list_workers

FINE, COARSE = 10, 60
FINE_SECONDS = 3 * 3600
COARSE_SECONDS = 30 * 86400
MOST_POINTS = 360
MOST_TYPES = 100
LATEST = 10

_RATES = ("received", "succeeded", "failed", "retried")


def read_overview(
    connection: Connection, cluster_name: str, now: float, seconds: float, present: Present, purge: float | None
) -> Overview:
    """What is going on, with `seconds` of history."""
    seconds = min(max(seconds, FINE), COARSE_SECONDS)
    cluster = find_cluster(connection, cluster_name)
    slice_ = FINE if seconds <= FINE_SECONDS else COARSE
    step = slice_ * -(-int(seconds) // (slice_ * MOST_POINTS))
    start = int(now - seconds) // step * step + step
    failed, held = tasks.c.state == "FAILURE", (tasks.c.state == "STARTED", tasks.c.lost_since.is_(None))
    failures = [] if cluster is None else newest_tasks(connection, cluster, present, LATEST, failed)
    running = [] if cluster is None else oldest_tasks(connection, cluster, present, LATEST, *held)
    return Overview(
        now=now,
        step=float(step),
        points=_points(connection, cluster, slice_, step, start, now),
        types=_types(connection, cluster, slice_, start),
        workers=list_workers(connection, cluster_name, now, purge=purge),
        queues=list_queues(connection, cluster_name, now, 0.0, raw=False),
        failures=failures,
        running=running,
        collector=read_collector(connection, cluster_name),
        tasks_stored=count_all(connection, cluster_name),
        completeness=totalled(read_tallies(connection, cluster, now - HOUR)),
        gaps=read_gaps(connection, cluster, now - max(seconds, HOUR)),
    )


def _key(cluster: int | None, slice_: int, start: int) -> tuple[Any, ...]:
    return (rollups.c.cluster == cluster, rollups.c.step == slice_, rollups.c.at >= start)


def _points(
    connection: Connection, cluster: int | None, slice_: int, step: int, start: int, now: float
) -> list[RatePoint]:
    sums = [func.sum(rollups.c[name]).label(name) for name in _RATES]
    statement = select(rollups.c.at, *sums).where(*_key(cluster, slice_, start)).group_by(rollups.c.at)
    found: dict[int, dict[str, int]] = {}
    for row in connection.execute(statement):
        point = found.setdefault(row.at // step * step, dict.fromkeys(_RATES, 0))
        for name in _RATES:
            point[name] += row._mapping[name]
    return [RatePoint(at=float(at), **found.get(at, {})) for at in range(start, int(now) + 1, step)]


def _types(connection: Connection, cluster: int | None, slice_: int, start: int) -> list[TaskTypeRow]:
    sums = [func.sum(rollups.c[name]).label(name) for name in _RATES]
    runtime = (func.sum(rollups.c.runtime_sum) / func.nullif(func.sum(rollups.c.runtime_count), 0)).label("runtime")
    statement = (
        select(rollups.c.name, *sums, runtime)
        .where(*_key(cluster, slice_, start))
        .group_by(rollups.c.name)
        .order_by(func.sum(rollups.c.received).desc(), rollups.c.name)
        .limit(MOST_TYPES)
    )
    return [TaskTypeRow(**row._mapping) for row in connection.execute(statement)]
