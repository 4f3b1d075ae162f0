"""Lets go of what is too old, a little at a time, so that writing never waits long."""

from sqlalchemy import Connection, Table, delete, func, select, tuple_, update

from meadow_api.store import schema
from meadow_api.store.schema import tasks
from meadow_api.store.writer import prune_digests

STEP = 1000
HOUR, DAY = 3600.0, 86400.0

FINE_KEPT = 3 * HOUR
COARSE_KEPT = 30 * DAY
SAMPLES_KEPT = DAY
GAPS_KEPT = 30 * DAY
SCORES_KEPT = 8 * DAY


def forget_tasks(connection: Connection, now: float, days: float, most: int) -> int:
    """Delete up to `STEP` tasks that are older than `days` (0: none is) or more than `most` (0: any number).

    Gives how many were deleted; fewer than `STEP` means that nothing is left to do.
    """
    deleted = 0
    for cluster in list(connection.execute(select(schema.clusters))):
        room = STEP - deleted
        if days > 0 and room > 0:
            deleted += _forget_oldest(connection, cluster.id, room, now - days * DAY)
        stored = connection.execute(select(schema.clusters.c.tasks).where(schema.clusters.c.id == cluster.id)).scalar()
        surplus = min(STEP - deleted, int(stored or 0) - most)
        if most > 0 and surplus > 0:
            deleted += _forget_oldest(connection, cluster.id, surplus, None)
    return deleted


def forget_history(connection: Connection, now: float, worker_days: float) -> int:
    """Delete old samples, rollups, gaps, digests and workers; gives how many rows went."""
    deleted = 0
    samples, rollups, gaps = schema.queue_samples, schema.rollups, schema.gaps
    key = (samples.c.cluster, samples.c.name, samples.c.at)
    old_samples = select(*key).where(samples.c.at < now - SAMPLES_KEPT).limit(STEP)
    deleted += connection.execute(delete(samples).where(tuple_(*key).in_(old_samples))).rowcount
    for step, kept in ((10, FINE_KEPT), (60, COARSE_KEPT)):
        for cluster in list(connection.execute(select(schema.clusters.c.id)).scalars()):
            old = (rollups.c.cluster == cluster, rollups.c.step == step, rollups.c.at < now - kept)
            deleted += connection.execute(delete(rollups).where(*old)).rowcount
    deleted += connection.execute(delete(gaps).where(gaps.c.end < now - GAPS_KEPT)).rowcount
    deleted += connection.execute(delete(schema.scores).where(schema.scores.c.at < now - SCORES_KEPT)).rowcount
    prune_digests(connection)
    if worker_days > 0:
        deleted += _forget_workers(connection, now - worker_days * DAY)
    return deleted


def _forget_oldest(connection: Connection, cluster: int, most: int, before: float | None) -> int:
    oldest = select(tasks.c.id).where(tasks.c.cluster == cluster).order_by(tasks.c.timestamp).limit(most)
    if before is not None:
        oldest = oldest.where(tasks.c.timestamp < before)
    gone = connection.execute(delete(tasks).where(tasks.c.id.in_(oldest))).rowcount
    if gone:
        left = schema.clusters.c.tasks - gone
        connection.execute(update(schema.clusters).where(schema.clusters.c.id == cluster).values(tasks=left))
    return gone


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
