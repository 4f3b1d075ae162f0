"""The writing half of the store: a group of facts and the stream's position in one transaction."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from meadow.audit import AnyAuditRecord, AuditIntent
from meadow.codec import encode
from meadow.events import CollectorGap, CollectorReported, QueuesObserved
from meadow_api.errors import PositionMoved
from meadow_api.intake import ClusterFacts, Group
from meadow_api.presence import WorkerRecord
from meadow_api.store import schema
from meadow_api.store.completeness_writes import write_completeness
from meadow_api.store.database import Database
from meadow_api.store.lost_writes import is_due, mark_lost
from meadow_api.store.memory import DIGESTS_KEPT, Board, Memory, load
from meadow_api.store.raw import Statement
from meadow_api.store.rollup_writes import write_rollups
from meadow_api.store.stats_writes import ADD_UP_EVERY, add_up, note
from meadow_api.store.task_writes import WrittenTasks, write_tasks
from meadow_api.store.upsert import upsert
from meadow_api.store.worker_writes import write_inspections, write_workers


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
    memory: Memory | None = None


class Writer:
    """Writes groups one after the other. `board` holds all workers as they were last committed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._clusters: dict[str, int] = {}
        self._digests: set[bytes] = set()
        self._digest_order: deque[bytes] = deque()
        self._memory: dict[str, Memory] = {}
        self.board: Board = {}

    @property
    def digests(self) -> set[bytes]:
        """Digests of the messages that were written lately."""
        return self._digests

    async def load(self) -> None:
        """Read what writing needs to know; after opening, and whenever the file was replaced."""
        loaded = await self._database.read(load)
        self._clusters, self.board, self._memory = loaded.clusters, loaded.board, loaded.memory
        self._digests, self._digest_order = set(loaded.digests), deque(loaded.digests)

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
            if changed.memory is not None:
                self._remember_cluster(cluster, changed.memory)
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

    async def forget_workers(self, before: float) -> None:
        """Forget the workers that were not heard of since `before`."""
        for workers in self.board.values():
            for hostname in [h for h, r in workers.items() if (r.last_seen or 0.0) < before]:
                del workers[hostname]
        for cluster, memory in self._memory.items():
            for hostname in [h for h in memory.observed.lives if h not in self.board.get(cluster, {})]:
                del memory.observed.lives[hostname]

    async def record_gap(self, cluster: str, gap: CollectorGap) -> None:
        """Write that facts are missing."""
        await self._database.write(lambda c: _write_gaps(c, cluster_id(c, cluster), [gap]))

    def _write_group(
        self, connection: Connection, stream: str, before: Position, group: Group
    ) -> tuple[dict[str, int], dict[str, Changes]]:
        _advance(connection, stream, before, group.sequence)
        ids = dict(self._clusters)
        changes = {}
        for name, facts in group.clusters.items():
            if name not in ids:
                ids[name] = cluster_id(connection, name)
            changes[name] = _write_cluster(connection, ids[name], facts, self.board.get(name, {}))
            self._write_what_follows(connection, ids[name], name, facts, changes[name])
        if group.digests:
            _ADD_DIGEST.many(connection, list(group.digests.items()))
        return ids, changes

    def _write_what_follows(
        self, connection: Connection, cluster: int, name: str, facts: ClusterFacts, changes: Changes
    ) -> None:
        """Scores of completeness, marks of lost tasks, statistics."""
        memory = self._memory.get(name, Memory())
        observed, scored = write_completeness(connection, cluster, facts, memory.observed)
        if scored:
            changes.topics.add("pipeline")
        watched, marks, added_up = memory.watched, memory.marks, memory.added_up
        for report in facts.reports:
            watched = watched.after(report)
        if is_due(marks, observed.now):
            board = self.board.get(name, {}) | changes.workers
            lives = memory.observed.lives | observed.lives
            marks, lost = mark_lost(connection, cluster, marks, board, lives, observed.now, watched)
            changes.tasks += lost
            changes.topics |= {"tasks"} if lost else set()
        if observed.now - added_up >= ADD_UP_EVERY:
            add_up(connection, cluster)
            added_up = observed.now
        changes.memory = Memory(observed, marks, watched, added_up)

    def _remember_cluster(self, name: str, changed: Memory) -> None:
        observed = self._memory.get(name, Memory()).observed
        observed.renew(changed.observed)
        self._memory[name] = replace(changed, observed=observed)

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
        write_rollups(connection, cluster, written.tallies)
        note(connection, cluster, written.tallies)
        changes.tasks = written.uuids
        changes.topics.add("tasks")
    if facts.workers:
        changes.workers = write_workers(connection, cluster, facts, board)
        changes.topics.add("workers")
    if facts.inspections:
        write_inspections(connection, cluster, facts.inspections)
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


_ADD_DIGEST = Statement("INSERT INTO digests (digest, sequence) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING")


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
