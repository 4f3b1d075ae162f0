"""Queues: the last observation, its history, and who consumes them."""

from collections.abc import Sequence

from sqlalchemy import Connection, select

from meadow.codec import decode
from meadow.events import CollectorReported, QueueDepth, QueuesObserved
from meadow.queries import CollectorState, QueueList, QueueRow
from meadow_api.store import schema
from meadow_api.store.task_reads import find_cluster
from meadow_api.store.worker_reads import list_workers

POINTS_OF_A_LIST = 20_000
LEAST_POINTS, MOST_POINTS = 30, 720
MOST_RAW = 200

Sample = tuple[float, int | None]


def read_observation(connection: Connection, cluster_name: str) -> QueuesObserved | None:
    """What the collector saw last."""
    cluster = find_cluster(connection, cluster_name)
    statement = select(schema.observations.c.fact).where(schema.observations.c.cluster == cluster)
    text = connection.execute(statement).scalar()
    return None if text is None else decode(text.encode(), QueuesObserved)


def read_collector(connection: Connection, cluster_name: str) -> CollectorState:
    """What the collector said of itself last."""
    cluster = find_cluster(connection, cluster_name)
    statement = select(schema.collectors.c.fact).where(schema.collectors.c.cluster == cluster)
    text = connection.execute(statement).scalar()
    if text is None:
        return CollectorState()
    report = decode(text.encode(), CollectorReported)
    return CollectorState(
        reported=report.seen,
        connected=report.connected,
        broker=report.broker,
        since=report.since,
        error=report.error,
        received=report.received,
        published=report.published,
        dropped=report.dropped,
        lag=report.lag,
        loop_lag=report.loop_lag,
        buffered=report.buffered,
        spilled_bytes=report.spilled_bytes,
        discarded=report.discarded,
        collector=report.collector,
        standbys=report.standbys,
        takeovers=report.takeovers,
    )


def list_queues(
    connection: Connection, cluster_name: str, now: float, history: float, *, raw: bool = True
) -> QueueList:
    """All queues that were observed or that an online worker consumes, by name."""
    observed = read_observation(connection, cluster_name)
    consumers = _consumers(connection, cluster_name, now)
    depths = {queue.name: queue for queue in (observed.queues if observed else ())}
    names = sorted({*depths, *consumers})
    samples = _samples(connection, cluster_name, names, now - history) if history > 0 else {}
    keep_raw = raw and len(names) <= MOST_RAW
    return QueueList(
        rows=[_row(name, depths.get(name), consumers.get(name, []), samples.get(name, []), keep_raw) for name in names],
        broker=read_collector(connection, cluster_name).broker,
        observed=observed.seen if observed else None,
        error=observed.error if observed else None,
        supported=observed.supported if observed else True,
    )


def _row(name: str, depth: QueueDepth | None, workers: list[str], samples: list[Sample], keep_raw: bool) -> QueueRow:
    depth = depth or QueueDepth(name=name)
    return QueueRow(
        name=name,
        messages=depth.messages,
        ready=depth.ready,
        unacked=depth.unacked,
        consumers=depth.consumers,
        workers=workers,
        samples=samples,
        raw=depth.raw if keep_raw else None,
    )


def _consumers(connection: Connection, cluster_name: str, now: float) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for worker in list_workers(connection, cluster_name, now):
        for queue in worker.queues if worker.online else ():
            found.setdefault(queue, []).append(worker.hostname)
    return found


def _samples(connection: Connection, cluster_name: str, names: Sequence[str], after: float) -> dict[str, list[Sample]]:
    """The history of each queue, thinned evenly so that the answer stays small."""
    cluster = find_cluster(connection, cluster_name)
    most = max(LEAST_POINTS, min(MOST_POINTS, POINTS_OF_A_LIST // max(1, len(names))))
    table = schema.queue_samples
    found: dict[str, list[Sample]] = {}
    for name in names:
        key = (table.c.cluster == cluster, table.c.name == name, table.c.at >= after)
        rows = [(row.at, row.messages) for row in connection.execute(select(table).where(*key).order_by(table.c.at))]
        step = -(-len(rows) // most) or 1
        found[name] = rows[::-step][::-1]
    return found
