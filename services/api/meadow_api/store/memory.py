"""What writing has to know beforehand: read once, and then kept as it was last committed."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from meadow.codec import decode
from meadow.events import CollectorReported
from meadow_api import presence
from meadow_api.lost import Watched
from meadow_api.presence import WorkerRecord
from meadow_api.store import schema
from meadow_api.store.completeness_writes import Observed, load_lives
from meadow_api.store.lost_writes import Marks

DIGESTS_KEPT = 20_000

Board = dict[str, dict[str, WorkerRecord]]
"""Cluster name to worker name to what is known of the worker."""


@dataclass(frozen=True)
class Memory:
    """What writing has to know of one cluster, as committed. `added_up` is when its statistics were, in the stream's
    time."""

    observed: Observed = field(default_factory=Observed)
    marks: Marks = field(default_factory=Marks)
    watched: Watched = field(default_factory=Watched)
    added_up: float = 0.0


@dataclass
class Loaded:
    """All of it. `digests` are in the order in which their messages were written."""

    clusters: dict[str, int]
    board: Board
    memory: dict[str, Memory]
    digests: list[bytes]


def load(connection: Connection) -> Loaded:
    """Read it from the store."""
    names = {row.id: row.name for row in connection.execute(select(schema.clusters))}
    board: Board = {name: {} for name in names.values()}
    for row in connection.execute(select(schema.workers)):
        board[names[row.cluster]][row.hostname] = worker_record(row)
    watched = {names[row.cluster]: _watched(row.fact) for row in connection.execute(select(schema.collectors))}
    memory = {
        name: Memory(observed, watched=watched.get(name, Watched()))
        for name, observed in load_lives(connection, names).items()
    }
    newest = select(schema.digests.c.digest).order_by(schema.digests.c.sequence.desc()).limit(DIGESTS_KEPT)
    digests = list(connection.execute(newest).scalars())[::-1]
    return Loaded({name: id for id, name in names.items()}, board, memory, digests)


def _watched(fact: str) -> Watched:
    return Watched().after(decode(fact.encode(), CollectorReported))


def worker_record(row: Any) -> WorkerRecord:
    """The record of a row of `workers`."""
    values = {name: getattr(row, name) for name in presence.FIELDS}
    values["heartbeats"], values["loadavg"] = tuple(values["heartbeats"]), tuple(values["loadavg"])
    return WorkerRecord(**values)
