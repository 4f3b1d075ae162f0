"""What the store lets go of: tasks by age, number and size, the failed ones by rules of their own, and old history.

Candidates are looked for on a reading connection, and deleted in small transactions that look again: a task may have
changed meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Table, delete, func, select, tuple_, update

from meadow.settings import Settings
from meadow_api.store import schema
from meadow_api.store.schema import tasks
from meadow_api.store.writer import prune_digests

STEP = 1000
HOUR, DAY = 3600.0, 86400.0

FINE_KEPT = 3 * HOUR
COARSE_KEPT = 30 * DAY
MINUTES_KEPT = 2 * DAY
SAMPLES_KEPT = DAY
GAPS_KEPT = 30 * DAY
SCORES_KEPT = 8 * DAY

FAILED = "FAILURE"


@dataclass(frozen=True)
class Limits:
    """How long and how many. Ages are in days; 0 is no limit everywhere."""

    days: float = 0.0
    failed_days: float = 0.0
    most: int = 0
    most_failed: int = 0
    most_bytes: int = 0
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
            audit_days=settings.retention_audit,
            stats_days=settings.retention_stats,
        )


@dataclass(frozen=True)
class Kind:
    """Tasks that one rule is about: of one cluster, and the failed, the others, or (`None`) all."""

    cluster: int
    failed: bool | None

    def conditions(self) -> tuple[ColumnElement[bool], ...]:
        """The same in SQL."""
        if self.failed is None:
            return (tasks.c.cluster == self.cluster,)
        state = tasks.c.state == FAILED if self.failed else tasks.c.state != FAILED
        return (tasks.c.cluster == self.cluster, state)


@dataclass(frozen=True)
class Surplus:
    """What is to go: the oldest `number` of the kind (all, if `None`) that are older than `before`."""

    kind: Kind
    before: float | None = None
    number: int | None = None
    reason: str = "age"

    def conditions(self) -> tuple[ColumnElement[bool], ...]:
        """The same in SQL, without the number."""
        old = () if self.before is None else (tasks.c.timestamp < self.before,)
        return (*self.kind.conditions(), *old)


def surpluses(connection: Connection, limits: Limits, now: float) -> list[Surplus]:
    """What is to go by now, by age and by number."""
    found = []
    for cluster in connection.execute(select(schema.clusters.c.id, schema.clusters.c.tasks)):
        failed, others = Kind(cluster.id, True), Kind(cluster.id, False)
        found += [
            Surplus(kind, before=now - days * DAY)
            for kind, days in ((others, limits.days), (failed, limits.failed_days))
            if days > 0
        ]
        if limits.most_failed > 0:
            number = _count(connection, failed)
            found.append(Surplus(failed, number=number - limits.most_failed, reason="number"))
            if limits.most > 0:
                found.append(Surplus(others, number=cluster.tasks - number - limits.most, reason="number"))
        elif limits.most > 0:
            found.append(Surplus(Kind(cluster.id, None), number=cluster.tasks - limits.most, reason="number"))
    return [surplus for surplus in found if surplus.number is None or surplus.number > 0]


def candidates(connection: Connection, surplus: Surplus, after: float | None, most: int) -> list[tuple[int, float]]:
    """The oldest of the surplus, as number of the row and time; `after` is where to begin to look."""
    limit = most if surplus.number is None else min(most, surplus.number)
    begin = () if after is None else (tasks.c.timestamp >= after,)
    oldest = select(tasks.c.id, tasks.c.timestamp).where(*surplus.conditions(), *begin)
    return [(row.id, row.timestamp) for row in connection.execute(oldest.order_by(tasks.c.timestamp).limit(limit))]


def count_surplus(connection: Connection, surplus: Surplus) -> int:
    """How many would go."""
    number = int(connection.execute(select(func.count()).select_from(tasks).where(*surplus.conditions())).scalar_one())
    return number if surplus.number is None else min(number, surplus.number)


def forget(connection: Connection, surplus: Surplus, ids: Sequence[int]) -> int:
    """Delete these, as far as they still belong to the surplus; gives how many went."""
    gone = connection.execute(delete(tasks).where(tasks.c.id.in_(ids), *surplus.conditions())).rowcount
    if gone:
        clusters = schema.clusters
        left = clusters.c.tasks - gone
        connection.execute(update(clusters).where(clusters.c.id == surplus.kind.cluster).values(tasks=left))
    return gone


def count_again(connection: Connection) -> None:
    """Count the tasks of each cluster, should the number that is kept ever be wrong."""
    clusters = schema.clusters
    number = select(func.count()).select_from(tasks).where(tasks.c.cluster == clusters.c.id).scalar_subquery()
    connection.execute(update(clusters).values(tasks=number))


def _count(connection: Connection, kind: Kind) -> int:
    return int(connection.execute(select(func.count()).select_from(tasks).where(*kind.conditions())).scalar_one())


# -- size ---------------------------------------------------------------------------------------------------------

LEAST_OVERSIZE = 20
_SAMPLED = 500
_INDEX_ENTRY = 40
_ROW_HEADER = 28


def size(connection: Connection) -> int:
    """The bytes that are in use. PostgreSQL gives no space back when rows go, so there it is reckoned from rows."""
    if connection.dialect.name == "sqlite":
        pages, free, bytes_ = (
            int(connection.exec_driver_sql(f"PRAGMA {name}").scalar() or 0)
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * bytes_
    sample = f"SELECT avg(pg_column_size(t.*)) FROM (SELECT * FROM tasks ORDER BY id DESC LIMIT {_SAMPLED}) AS t"  # noqa: S608
    row = float(connection.exec_driver_sql(sample).scalar() or 0.0)
    stored = int(connection.execute(select(func.coalesce(func.sum(schema.clusters.c.tasks), 0))).scalar_one())
    return int(stored * (row + _ROW_HEADER + _INDEX_ENTRY * (len(tasks.indexes) + 2)))


def oversize(connection: Connection, limits: Limits, step: int) -> list[Surplus]:
    """The oldest tasks of the cluster that has most, where the store is too large; no more than is needed."""
    if limits.most_bytes <= 0:
        return []
    used = size(connection)
    clusters = schema.clusters
    largest = connection.execute(select(clusters).order_by(clusters.c.tasks.desc()).limit(1)).first()
    if used <= limits.most_bytes or largest is None or largest.tasks == 0:
        return []
    stored = int(connection.execute(select(func.sum(clusters.c.tasks))).scalar_one())
    needed = int(stored * (used - limits.most_bytes) / used) + LEAST_OVERSIZE
    return [Surplus(Kind(largest.id, None), number=min(step, needed, largest.tasks), reason="size")]


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
