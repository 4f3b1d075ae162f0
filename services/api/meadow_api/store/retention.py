"""What the store lets go of: tasks by age, number and size, the failed ones by rules of their own, and old history.

Candidates are looked for on a reading connection, and deleted in small transactions that look again: a task may have
changed meanwhile.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, delete, func, select, tuple_, update

from meadow.settings import Settings
from meadow_api.store import schema, weight
from meadow_api.store.schema import tasks
from meadow_api.store.weight import Kind
from meadow_api.store.writer import prune_digests

STEP = 1000
HOUR, DAY = 3600.0, 86400.0

FINE_KEPT = 3 * HOUR
COARSE_KEPT = 30 * DAY
MINUTES_KEPT = 2 * DAY
SAMPLES_KEPT = DAY
GAPS_KEPT = 30 * DAY
SCORES_KEPT = 8 * DAY


@dataclass(frozen=True)
class Limits:
    """How long, how many, how large. Ages are in days; 0 is no limit everywhere."""

    days: float = 0.0
    failed_days: float = 0.0
    most: int = 0
    most_failed: int = 0
    most_bytes: int = 0
    most_failed_bytes: int = 0
    most_other_bytes: int = 0
    audit_days: float = 0.0
    stats_days: float = 0.0

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """Those that the settings ask for."""
        return cls(
            days=settings.retention,
            failed_days=settings.retention if settings.retention_failed is None else settings.retention_failed,
            most=settings.max_tasks,
            most_failed=settings.max_failed_tasks,
            most_bytes=settings.max_store_bytes,
            most_failed_bytes=settings.max_failed_bytes,
            most_other_bytes=settings.max_other_bytes,
            audit_days=settings.retention_audit,
            stats_days=settings.retention_stats,
        )


@dataclass(frozen=True)
class Surplus:
    """What is to go: the oldest `number` of the kind (all, if `None`) that are older than `before`.

    `floor` is how many tasks the cluster has afterwards, at least: where several processes share a store, another one
    may delete the same surplus at the same time.
    """

    kind: Kind
    before: float | None = None
    number: int | None = None
    reason: str = "age"
    floor: int = 0

    def conditions(self) -> tuple[ColumnElement[bool], ...]:
        """The same in SQL, without the number."""
        return (*self.kind.conditions(), *self._old())

    def conditions_on_rows(self) -> tuple[ColumnElement[bool], ...]:
        """The same for rows that are named by their ids."""
        return (*self.kind.conditions_on_rows(), *self._old())

    def _old(self) -> tuple[ColumnElement[bool], ...]:
        return () if self.before is None else (tasks.c.timestamp < self.before,)


Gone = Mapping[Kind, int]
"""How many of each kind are to go already, by rules that come before."""
NONE_GONE: Gone = {}


def by_age(connection: Connection, limits: Limits, now: float) -> list[Surplus]:
    """What is too old."""
    return [
        Surplus(Kind(cluster.id, failed), before=now - days * DAY)
        for cluster in _clusters(connection)
        for failed, days in ((False, limits.days), (True, limits.failed_days))
        if days > 0
    ]


def by_number(connection: Connection, limits: Limits, gone: Gone = NONE_GONE) -> list[Surplus]:
    """What is too much, of all tasks or, with `most_failed`, of the failed and the others."""
    apart = limits.most_failed > 0
    rules = [(True, limits.most_failed), (False, limits.most)] if apart else [(None, limits.most)]
    found = []
    for cluster in _clusters(connection):
        for failed, most in rules:
            kind = Kind(cluster.id, failed)
            if most > 0 and (number := _left(connection, cluster, kind, gone) - most) > 0:
                found.append(Surplus(kind, number=number, reason="number"))
    return _with_floors(connection, found)


def by_size(connection: Connection, limits: Limits, gone: Gone = NONE_GONE) -> list[Surplus]:
    """What makes the failed tasks, or the others, larger than they may be."""
    found = []
    for cluster in _clusters(connection):
        for failed, most in ((True, limits.most_failed_bytes), (False, limits.most_other_bytes)):
            kind = Kind(cluster.id, failed)
            if most <= 0 or (number := _left(connection, cluster, kind, gone)) <= 0:
                continue
            bytes_ = weight.average(connection, kind, number)
            if number * bytes_ > most:
                found.append(Surplus(kind, number=number - int(most / bytes_), reason="size"))
    return _with_floors(connection, found)


def oversize(connection: Connection, limits: Limits, gone: Gone = NONE_GONE) -> list[Surplus]:
    """The oldest tasks of the cluster that has most, where the whole store is too large."""
    largest = max(_clusters(connection), key=lambda cluster: int(cluster.tasks), default=None)
    if limits.most_bytes <= 0 or largest is None:
        return []
    stored, kind = sum(int(cluster.tasks) for cluster in _clusters(connection)), Kind(largest.id, None)
    left = stored - sum(gone.values())
    used = weight.store_size(connection) * left / max(stored, 1)
    number = min(int(left * (used - limits.most_bytes) / max(used, 1)) + LEAST, _left(connection, largest, kind, gone))
    if used <= limits.most_bytes or number <= 0:
        return []
    return _with_floors(connection, [Surplus(kind, number=number, reason="size")])


LEAST = 20
"""Fewer at a time would not free a page."""


def _clusters(connection: Connection) -> Sequence[Any]:
    return connection.execute(select(schema.clusters).order_by(schema.clusters.c.id)).all()


def _with_floors(connection: Connection, found: Sequence[Surplus]) -> list[Surplus]:
    floors = {cluster.id: int(cluster.tasks) for cluster in _clusters(connection)}
    for surplus in found:
        floors[surplus.kind.cluster] -= surplus.number or 0
    return [replace(surplus, floor=floors[surplus.kind.cluster]) for surplus in found]


def _left(connection: Connection, cluster: Any, kind: Kind, gone: Gone) -> int:
    """How many of the kind there are after those that are gone already."""
    everything, failed, others = (Kind(kind.cluster, which) for which in (None, True, False))
    gone_of = {each: gone.get(each, 0) for each in (everything, failed, others)}
    stored = int(cluster.tasks)
    if kind == everything:
        return stored - sum(gone_of.values())
    number = weight.count(connection, failed)
    number = number if kind == failed else stored - number
    return number - gone_of[kind] - gone_of[everything] * number // max(stored, 1)


def candidates(connection: Connection, surplus: Surplus, after: float | None, most: int) -> list[tuple[int, float]]:
    """The oldest of the surplus, as number of the row and time; `after` is where to begin to look."""
    limit = most if surplus.number is None else min(most, surplus.number)
    begin = () if after is None else (tasks.c.timestamp >= after,)
    oldest = select(tasks.c.id, tasks.c.timestamp).where(*surplus.conditions(), *begin)
    return [(row.id, row.timestamp) for row in connection.execute(oldest.order_by(tasks.c.timestamp).limit(limit))]


def count_surplus(connection: Connection, surplus: Surplus) -> int:
    """How many would go."""
    if surplus.number is not None and surplus.before is None:
        return surplus.number
    number = int(connection.execute(select(func.count()).select_from(tasks).where(*surplus.conditions())).scalar_one())
    return number if surplus.number is None else min(number, surplus.number)


def forget(connection: Connection, surplus: Surplus, ids: Sequence[int]) -> int:
    """Delete these, as far as they still belong to the surplus; gives how many went."""
    clusters = schema.clusters
    ours = clusters.c.id == surplus.kind.cluster
    if surplus.floor:
        stored = int(connection.execute(select(clusters.c.tasks).where(ours)).scalar_one())
        ids = ids[: max(0, stored - surplus.floor)]
    gone = connection.execute(delete(tasks).where(tasks.c.id.in_(ids), *surplus.conditions_on_rows())).rowcount
    if gone:
        connection.execute(update(clusters).where(ours).values(tasks=clusters.c.tasks - gone))
    return gone


def count_again(connection: Connection) -> None:
    """Count the tasks of each cluster, should the number that is kept ever be wrong."""
    clusters = schema.clusters
    number = select(func.count()).select_from(tasks).where(tasks.c.cluster == clusters.c.id).scalar_subquery()
    connection.execute(update(clusters).values(tasks=number))


# -- history ------------------------------------------------------------------------------------------------------


def forget_history(connection: Connection, limits: Limits, now: float) -> int:
    """Delete some of the old samples, rollups, gaps, audit records, digests and workers; gives how many rows went."""
    deleted = sum(
        _forget_some(connection, table, *conditions) for table, *conditions in _old_history(connection, limits, now)
    )
    prune_digests(connection)
    if limits.days > 0:
        deleted += _forget_workers(connection, now - limits.days * DAY)
    return deleted


def _old_history(
    connection: Connection, limits: Limits, now: float
) -> list[tuple[Table, *tuple[ColumnElement[bool], ...]]]:
    samples, rollups, gaps, scores, audit = (
        schema.queue_samples,
        schema.rollups,
        schema.gaps,
        schema.scores,
        schema.audit,
    )
    old: list[tuple[Table, *tuple[ColumnElement[bool], ...]]] = [
        (samples, samples.c.at < now - SAMPLES_KEPT),
        (gaps, gaps.c.end < now - GAPS_KEPT),
        (scores, scores.c.at < now - SCORES_KEPT),
    ]
    stats_kept = {60: MINUTES_KEPT} | ({3600: limits.stats_days * DAY} if limits.stats_days > 0 else {})
    for cluster in connection.execute(select(schema.clusters.c.id)).scalars().all():
        for table, ages in ((rollups, {10: FINE_KEPT, 60: COARSE_KEPT}), (schema.stats, stats_kept)):
            for step, kept in ages.items():
                old.append((table, table.c.cluster == cluster, table.c.step == step, table.c.at < int(now - kept)))
        if limits.audit_days > 0:
            old.append((audit, audit.c.cluster == cluster, audit.c.at < now - limits.audit_days * DAY))
    return old


def _forget_some(connection: Connection, table: Table, *conditions: ColumnElement[bool]) -> int:
    key = tuple_(*table.primary_key.columns)
    some = select(*table.primary_key.columns).where(*conditions).limit(STEP)
    return connection.execute(delete(table).where(key.in_(some))).rowcount


def _forget_workers(connection: Connection, before: float) -> int:
    workers = schema.workers
    old = list(
        connection.execute(
            select(workers.c.cluster, workers.c.hostname).where(func.coalesce(workers.c.last_seen, 0.0) < before)
        )
    )
    for cluster, hostname in old:
        for table in (workers, schema.worker_counts, schema.inspections, schema.lives):
            _forget_worker(connection, table, cluster, hostname)
    return len(old)


def _forget_worker(connection: Connection, table: Table, cluster: int, hostname: str) -> None:
    connection.execute(delete(table).where(table.c.cluster == cluster, table.c.hostname == hostname))
