"""How complete the picture is: the scores of all workers, and the gaps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from meadow.codec import decode
from meadow.queries import Completeness, GapRow, Pipeline, StreamProgress, WorkerCompleteness
from meadow_api import presence
from meadow_api.completeness import Life, Lives
from meadow_api.store import schema
from meadow_api.store.completeness_writes import SLICE
from meadow_api.store.memory import worker_record
from meadow_api.store.queue_reads import read_collector
from meadow_api.store.task_reads import find_cluster

HOUR = 3600.0
MOST_SECONDS = 7 * 86400
MOST_GAPS = 100
MOST_WORKERS = 1000


@dataclass(frozen=True)
class Tally:
    """One worker's starts over some time."""

    expected: int = 0
    seen: int = 0
    lost_from: float | None = None
    lost_until: float | None = None

    @property
    def missing(self) -> int:
        return max(self.expected - self.seen, 0)

    @property
    def surplus(self) -> int:
        return max(self.seen - self.expected, 0)


def read_pipeline(
    connection: Connection,
    cluster_name: str,
    now: float,
    seconds: float,
    streams: Sequence[StreamProgress],
    purge: float | None = None,
) -> Pipeline:
    """Everything about how events arrive. With `purge`, workers offline for that long show only if they miss starts."""
    seconds = min(max(seconds, 0.0), MOST_SECONDS)
    cluster = find_cluster(connection, cluster_name)
    tallies = read_tallies(connection, cluster, now - seconds)
    workers = _workers(connection, cluster, tallies, now, purge)
    return Pipeline(
        now=now,
        seconds=seconds,
        total=totalled(tallies),
        workers=sorted(workers, key=lambda row: (-row.missing, -row.surplus, not row.online, row.hostname))[
            :MOST_WORKERS
        ],
        workers_known=len(workers),
        gaps=read_gaps(connection, cluster, now - seconds),
        collector=read_collector(connection, cluster_name),
        streams=list(streams),
    )


def read_tallies(connection: Connection, cluster: int | None, after: float) -> dict[str, Tally]:
    """What each worker's heartbeats counted and what arrived, by worker, from the slice on that holds `after`."""
    table = schema.scores
    sums = (
        func.sum(table.c.expected),
        func.sum(table.c.seen),
        func.min(table.c.lost_from),
        func.max(table.c.lost_until),
    )
    begun = table.c.at > after - SLICE
    statement = select(table.c.hostname, *sums).where(table.c.cluster == cluster, begun).group_by(table.c.hostname)
    return {hostname: Tally(*values) for hostname, *values in connection.execute(statement)}


def totalled(tallies: Mapping[str, Tally]) -> Completeness:
    """All workers together."""
    lacking = {hostname: tally for hostname, tally in tallies.items() if tally.missing}
    return Completeness(
        expected=sum(tally.expected for tally in tallies.values()),
        seen=sum(tally.seen for tally in tallies.values()),
        missing=sum(tally.missing for tally in lacking.values()),
        surplus=sum(tally.surplus for tally in tallies.values()),
        missing_since=min((t.lost_from for t in lacking.values() if t.lost_from is not None), default=None),
        missing_until=max((t.lost_until for t in lacking.values() if t.lost_until is not None), default=None),
        workers=len(lacking),
        worst=max(lacking, key=lambda hostname: lacking[hostname].missing, default=None),
    )


def read_gaps(connection: Connection, cluster: int | None, after: float) -> list[GapRow]:
    """The gaps that end after `after`, newest first."""
    table = schema.gaps
    key = (table.c.cluster == cluster, table.c.end >= after)
    statement = select(table.c.start, table.c.end, table.c.reason, table.c.events).where(*key)
    newest = statement.order_by(table.c.end.desc(), table.c.start.desc()).limit(MOST_GAPS)
    return [GapRow(**row._mapping) for row in connection.execute(newest)]


def _workers(
    connection: Connection, cluster: int | None, tallies: Mapping[str, Tally], now: float, purge: float | None
) -> list[WorkerCompleteness]:
    statement = select(schema.workers).where(schema.workers.c.cluster == cluster)
    records = {row.hostname: worker_record(row) for row in connection.execute(statement)}
    newest = _newest_lives(connection, cluster)
    rows = []
    for hostname in {*records, *tallies}:
        record, life = records.get(hostname), newest.get(hostname)
        tally = tallies.get(hostname, Tally())
        row = WorkerCompleteness(
            hostname=hostname,
            online=record is not None and presence.is_online(record, now),
            expected=tally.expected,
            seen=tally.seen,
            missing=tally.missing,
            surplus=tally.surplus,
            since=life.since if life else None,
            checked=life.base.seen if life and life.base and life.floor is not None else None,
            missing_since=tally.lost_from if tally.missing else None,
            missing_until=tally.lost_until if tally.missing else None,
            skew=record.skew if record else None,
        )
        heard = record.last_seen if record and record.last_seen is not None else 0.0
        if row.online or row.missing or row.surplus or purge is None or now - heard < purge:
            rows.append(row)
    return rows


def _newest_lives(connection: Connection, cluster: int | None) -> dict[str, Life]:
    statement = select(schema.lives.c.hostname, schema.lives.c.lives).where(schema.lives.c.cluster == cluster)
    found: dict[str, Life] = {}
    for row in connection.execute(statement):
        lives = decode(row.lives.encode(), Lives)
        found[row.hostname] = max(
            lives.values(), key=lambda life: life.timestamp, default=Life(began=0, clock=0, timestamp=0)
        )
    return found
