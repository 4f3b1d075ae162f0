"""The writing half of the store: a group of facts and the stream's position in one transaction."""

import copy
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from meadow.audit import AnyAuditRecord, AuditIntent
from meadow.codec import encode
from meadow.events import CollectorGap, CollectorReported, QueuesObserved
from meadow_api import presence
from meadow_api.errors import PositionMoved
from meadow_api.intake import ClusterFacts, Group
from meadow_api.presence import WorkerRecord
from meadow_api.store import schema
from meadow_api.store.completeness_writes import Observed, load_lives, write_completeness
from meadow_api.store.database import Database
from meadow_api.store.task_writes import SLICE, RollupKey, WrittenTasks, write_tasks

DIGESTS_KEPT = 20_000
COARSE_SLICE = 60

Board = dict[str, dict[str, WorkerRecord]]
"""Cluster name to worker name to what is known of the worker."""


@dataclass(frozen=True)
class Position:
    """How far a stream is in the store, and which stream it was."""

    identity: str
    sequence: int


@dataclass
class Changes:
    """What a group changed in one cluster."""

    topics: set[str] = field(default_factory=set)
    tasks: list[str] = field(default_factory=list)
    workers: dict[str, WorkerRecord] = field(default_factory=dict)
    observed: Observed | None = None


class Writer:
    """Writes groups one after the other. `board` holds all workers as they were last committed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._clusters: dict[str, int] = {}
        self._digests: set[bytes] = set()
        self._digest_order: deque[bytes] = deque()
        self._observed: dict[str, Observed] = {}
        self.board: Board = {}

    @property
    def digests(self) -> set[bytes]:
        """Digests of the messages that were written lately."""
        return self._digests

    async def load(self) -> None:
        """Read what writing needs to know; after opening, and whenever the file was replaced."""
        self._clusters, self.board, self._observed, digests = await self._database.read(_load)
        self._digests, self._digest_order = set(digests), deque(digests)

    async def position(self, stream: str) -> Position | None:
        """How far the stream was read into the store."""
        found = await self._database.read(
            lambda c: c.execute(select(schema.positions).where(schema.positions.c.stream == stream)).first()
        )
        return None if found is None else Position(found.identity, found.sequence)

    async def begin_stream(self, stream: str, position: Position) -> None:
        """Read that stream from this position on."""
        await self._database.write(lambda c: _begin_stream(c, stream, position))

    async def write_group(self, stream: str, before: Position, group: Group) -> dict[str, Changes]:
        """Write the group's facts, which follow on `before`; gives what changed in each cluster.

        Raises `PositionMoved` when the store is not at `before`, and other kinds of `StoreError`.
        """
        ids, changes = await self._database.write(lambda c: self._write_group(c, stream, before, group))
        self._clusters.update(ids)
        self._remember(group.digests)
        for cluster, changed in changes.items():
            self.board.setdefault(cluster, {}).update(changed.workers)
            if changed.observed is not None:
                self._observed.setdefault(cluster, Observed()).renew(changed.observed)
        return changes

    async def write_audit(
        self, stream: str, before: Position, sequence: int, records: Sequence[AnyAuditRecord]
    ) -> dict[str, Changes]:
        """Write audit records, which follow on `before`; gives what changed in each cluster."""

        def work(connection: Connection) -> None:
            for record in records:
                write_audit_record(connection, cluster_id(connection, record.cluster), record)
            _advance(connection, stream, before, sequence)

        await self._database.write(work)
        return {record.cluster: Changes(topics={"audit"}) for record in records}

    async def write_inspections(self, cluster: str, answers: Mapping[tuple[str, str], tuple[float, Any]]) -> None:
        """Write what workers answered to inspections."""
        await self._database.write(lambda c: _write_inspections(c, cluster_id(c, cluster), answers))

    async def forget_workers(self, before: float) -> None:
        """Forget the workers that were not heard of since `before`."""
        for workers in self.board.values():
            for hostname in [h for h, r in workers.items() if (r.last_seen or 0.0) < before]:
                del workers[hostname]
        for cluster, observed in self._observed.items():
            for hostname in [h for h in observed.lives if h not in self.board.get(cluster, {})]:
                del observed.lives[hostname]

    async def record_gap(self, cluster: str, gap: CollectorGap) -> None:
        """Write that facts are missing."""
        await self._database.write(lambda c: _write_gaps(c, cluster_id(c, cluster), [gap]))

    def _write_group(
        self, connection: Connection, stream: str, before: Position, group: Group
    ) -> tuple[dict[str, int], dict[str, Changes]]:
        ids = dict(self._clusters)
        changes = {}
        for name, facts in group.clusters.items():
            if name not in ids:
                ids[name] = cluster_id(connection, name)
            changes[name] = _write_cluster(connection, ids[name], facts, self.board.get(name, {}))
            observed = self._observed.get(name, Observed())
            changes[name].observed, scored = write_completeness(connection, ids[name], facts, observed)
            if scored:
                changes[name].topics.add("pipeline")
        for digest, sequence in group.digests.items():
            connection.execute(upsert(schema.digests).values(digest=digest, sequence=sequence).on_conflict_do_nothing())
        _advance(connection, stream, before, group.sequence)
        return ids, changes

    def _remember(self, digests: Iterable[bytes]) -> None:
        for digest in digests:
            self._digests.add(digest)
            self._digest_order.append(digest)
        while len(self._digest_order) > DIGESTS_KEPT:
            self._digests.discard(self._digest_order.popleft())


def cluster_id(connection: Connection, name: str) -> int:
    """The cluster's number in the store; a new cluster gets one."""
    known = connection.execute(select(schema.clusters.c.id).where(schema.clusters.c.name == name)).scalar()
    if known is None:
        known = connection.execute(insert(schema.clusters).values(name=name)).inserted_primary_key[0]  # type: ignore[index]
    return int(known)


def _load(connection: Connection) -> tuple[dict[str, int], Board, dict[str, Observed], list[bytes]]:
    names = {row.id: row.name for row in connection.execute(select(schema.clusters))}
    board: Board = {name: {} for name in names.values()}
    for row in connection.execute(select(schema.workers)):
        board[names[row.cluster]][row.hostname] = worker_record(row)
    newest = select(schema.digests.c.digest).order_by(schema.digests.c.sequence.desc()).limit(DIGESTS_KEPT)
    digests = list(connection.execute(newest).scalars())[::-1]
    return {name: id for id, name in names.items()}, board, load_lives(connection, names), digests


def worker_record(row: Any) -> WorkerRecord:
    """The record of a row of `workers`."""
    values = {name: getattr(row, name) for name in presence.FIELDS}
    values["heartbeats"], values["loadavg"] = tuple(values["heartbeats"]), tuple(values["loadavg"])
    return WorkerRecord(**values)


def _begin_stream(connection: Connection, stream: str, position: Position) -> None:
    # The numbers of the former stream mean nothing now; its messages are still known when they come again.
    connection.execute(update(schema.digests).values(sequence=0))
    values = {"identity": position.identity, "sequence": position.sequence}
    statement = upsert(schema.positions).values(stream=stream, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["stream"], set_=values))


def _advance(connection: Connection, stream: str, before: Position, sequence: int) -> None:
    table = schema.positions
    there = (table.c.stream == stream, table.c.identity == before.identity, table.c.sequence == before.sequence)
    if connection.execute(update(table).where(*there).values(sequence=sequence)).rowcount != 1:
        raise PositionMoved(f"The store is not at message {before.sequence} of {stream}; it was replaced meanwhile.")


def _write_cluster(
    connection: Connection, cluster: int, facts: ClusterFacts, board: Mapping[str, WorkerRecord]
) -> Changes:
    changes = Changes()
    if facts.tasks:
        written = write_tasks(connection, cluster, facts.tasks)
        _count_tasks(connection, cluster, written)
        changes.tasks = written.uuids
        changes.topics.add("tasks")
    if facts.workers:
        changes.workers = _write_workers(connection, cluster, facts, board)
        changes.topics.add("workers")
    if facts.inspections:
        _write_inspections(connection, cluster, facts.inspections)
        changes.topics.add("workers")
    if facts.observations:
        _write_observations(connection, cluster, facts.observations)
        changes.topics.add("queues")
    if facts.reports or facts.gaps:
        _write_reports(connection, cluster, facts.reports)
        _write_gaps(connection, cluster, facts.gaps)
        changes.topics.add("collector")
    return changes


def _count_tasks(connection: Connection, cluster: int, written: WrittenTasks) -> None:
    if written.added:
        column = schema.clusters.c.tasks
        connection.execute(
            update(schema.clusters).where(schema.clusters.c.id == cluster).values(tasks=column + written.added)
        )
    coarse: dict[RollupKey, list[float]] = {}
    for (at, name), counters in written.rollups.items():
        key = (at // COARSE_SLICE * COARSE_SLICE, name)
        known = coarse.get(key)
        coarse[key] = counters if known is None else [a + b for a, b in zip(known, counters, strict=True)]
    for step, rollups in ((SLICE, written.rollups), (COARSE_SLICE, coarse)):
        rows = [(cluster, step, at, name, *counters) for (at, name), counters in rollups.items()]
        if rows:
            connection.exec_driver_sql(_ADD_ROLLUPS, rows)


_COUNTERS = tuple(column.name for column in schema.rollups.c if not column.primary_key)
_ADD_ROLLUPS = (
    f"INSERT INTO rollups VALUES ({', '.join('?' * (4 + len(_COUNTERS)))}) "  # noqa: S608
    "ON CONFLICT (cluster, step, at, name) DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in _COUNTERS)
)
_ADD_COUNTS = (
    "INSERT INTO worker_counts VALUES (?, ?, ?, ?) "
    "ON CONFLICT (cluster, hostname, type) DO UPDATE SET count = count + excluded.count"
)


def _write_workers(
    connection: Connection, cluster: int, facts: ClusterFacts, board: Mapping[str, WorkerRecord]
) -> dict[str, WorkerRecord]:
    changed: dict[str, WorkerRecord] = {}
    for hostname, history in facts.workers.items():
        known = board.get(hostname)
        record = WorkerRecord(hostname) if known is None else copy.copy(known)
        for fact in history:
            presence.absorb(record, fact)
        changed[hostname] = record
    rows = [
        {"cluster": cluster, **dict(zip(presence.FIELDS, presence.values_of(record), strict=True))}
        for record in changed.values()
    ]
    statement = upsert(schema.workers)
    fields = {name: statement.excluded[name] for name in presence.FIELDS if name != "hostname"}
    connection.execute(statement.on_conflict_do_update(index_elements=["cluster", "hostname"], set_=fields), rows)
    counts = [(cluster, hostname, type_, n) for (hostname, type_), n in facts.counts.items()]
    connection.exec_driver_sql(_ADD_COUNTS, counts)
    return changed


def _write_inspections(
    connection: Connection, cluster: int, answers: Mapping[tuple[str, str], tuple[float, Any]]
) -> None:
    statement = upsert(schema.inspections)
    newer = {"at": statement.excluded.at, "answer": statement.excluded.answer}
    rows = [
        {"cluster": cluster, "hostname": hostname, "method": method, "at": at, "answer": encode(answer).decode()}
        for (hostname, method), (at, answer) in answers.items()
    ]
    if rows:
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["cluster", "hostname", "method"],
                set_=newer,
                where=statement.excluded.at >= schema.inspections.c.at,
            ),
            rows,
        )


def _write_newest(connection: Connection, table: Any, cluster: int, fact: QueuesObserved | CollectorReported) -> None:
    statement = upsert(table).values(cluster=cluster, seen=fact.seen, fact=encode(fact).decode())
    newer = {"seen": statement.excluded.seen, "fact": statement.excluded.fact}
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["cluster"], set_=newer, where=statement.excluded.seen >= table.c.seen
        )
    )


def _write_observations(connection: Connection, cluster: int, observed: Sequence[QueuesObserved]) -> None:
    _write_newest(connection, schema.observations, cluster, max(observed, key=lambda fact: fact.seen))
    rows = [
        {"cluster": cluster, "name": queue.name, "at": fact.seen, "messages": queue.messages}
        for fact in observed
        for queue in fact.queues
    ]
    if rows:
        connection.execute(upsert(schema.queue_samples).on_conflict_do_nothing(), rows)


def _write_reports(connection: Connection, cluster: int, reports: Sequence[CollectorReported]) -> None:
    if reports:
        _write_newest(connection, schema.collectors, cluster, max(reports, key=lambda fact: fact.seen))


def _write_gaps(connection: Connection, cluster: int, gaps: Sequence[CollectorGap]) -> None:
    rows = [
        {"cluster": cluster, "start": gap.start, "end": gap.end, "reason": gap.reason, "events": gap.events}
        for gap in gaps
    ]
    if rows:
        connection.execute(upsert(schema.gaps).on_conflict_do_nothing(), rows)


def write_audit_record(connection: Connection, cluster: int, record: AnyAuditRecord) -> None:
    """Intent and outcome make one row, whichever comes first and however often."""
    if isinstance(record, AuditIntent):
        values: dict[str, Any] = {
            "at": record.at,
            "actor": record.actor,
            "actor_kind": record.actor_kind,
            "source": record.source,
            "command": record.command,
            "target": record.target,
            "parameters": encode(record.parameters).decode(),
            "reason": record.reason,
        }
        known = values
    else:
        values = {
            "code": record.code,
            "message": record.message,
            "replies": encode(record.replies).decode(),
            "seconds": record.seconds,
        }
        known = values
        values = {**values, "at": record.at}
    statement = upsert(schema.audit).values(cluster=cluster, record=record.id, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["cluster", "record"], set_=known))


def prune_digests(connection: Connection) -> None:
    """Forget the digests of old messages."""
    newest = select(func.max(schema.digests.c.sequence)).scalar_subquery()
    connection.execute(delete(schema.digests).where(schema.digests.c.sequence < newest - DIGESTS_KEPT))
