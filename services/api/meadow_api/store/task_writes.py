"""Tasks on their way into the store: read what is known, merge, write back. The hot path.

Statements are written out for the driver: one `executemany` each for new and for known tasks. An UPDATE rewrites
every index whose columns it names, so there are three of them, and each row takes the one that names the least.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import msgspec
from sqlalchemy import Connection

from meadow import events
from meadow.events import TaskFact, TaskSucceeded
from meadow_api.fold import FIELDS, Record, absorb, state_of, values_of
from meadow_api.store.schema import NO_NUMBER, NO_TEXT, NO_TIME, tasks

LOOKED_UP_AT_ONCE = 500
SLICE = 10

RollupKey = tuple[int, str]

_COUNTED: dict[type[Any], int] = {
    events.TaskSent: 0,
    events.TaskReceived: 1,
    events.TaskStarted: 2,
    events.TaskSucceeded: 3,
    events.TaskFailed: 4,
    events.TaskRetried: 5,
    events.TaskRevoked: 6,
    events.TaskRejected: 7,
}
RUNTIME_SUM, RUNTIME_COUNT = 8, 9
COUNTERS = 10


@dataclass
class WrittenTasks:
    """Which tasks changed, how many of them are new, and the counts by 10 s slice and task name."""

    uuids: list[str] = field(default_factory=list)
    added: int = 0
    rollups: dict[RollupKey, list[float]] = field(default_factory=dict)


def write_tasks(connection: Connection, cluster: int, facts: Mapping[str, Sequence[TaskFact]]) -> WrittenTasks:
    """Merge the events of each task into its row."""
    written = WrittenTasks(uuids=list(facts))
    known = dict(_known(connection, cluster, written.uuids))
    inserts: list[tuple[Any, ...]] = []
    updates: tuple[list[tuple[Any, ...]], ...] = ([], [], [])
    for uuid, history in facts.items():
        found = known.get(uuid)
        record, before = (Record(uuid), None) if found is None else (found.record, found)
        for fact in history:
            absorb(record, fact)
        count(written.rollups, record.name or NO_TEXT, history)
        row = to_row(record)
        if before is None:
            inserts.append((cluster, *row))
        else:
            which = _least_update(before.row, row)
            updates[which].append((*_PICK[which](row), before.id))
    if inserts:
        connection.exec_driver_sql(_INSERT, inserts)
        written.added = len(inserts)
    for which, rows in enumerate(updates):
        if rows:
            connection.exec_driver_sql(_UPDATE[which], rows)
    return written


def count(rollups: dict[RollupKey, list[float]], name: str, history: Iterable[TaskFact]) -> None:
    """Add the events to the counts of their slice, by the time they were seen."""
    for fact in history:
        kind = _COUNTED.get(type(fact))
        if kind is None:
            continue
        key = (int(fact.seen) // SLICE * SLICE, name)
        counters = rollups.get(key)
        if counters is None:
            counters = rollups[key] = [0] * COUNTERS
        counters[kind] += 1
        if isinstance(fact, TaskSucceeded) and fact.runtime is not None:
            counters[RUNTIME_SUM] += fact.runtime
            counters[RUNTIME_COUNT] += 1


# -- rows and records ---------------------------------------------------------------------------------------------

_COLUMNS = ("state", *FIELDS)
_DEFAULTS = {"name": NO_TEXT, "worker": NO_TEXT, "received": NO_TIME, "started": NO_TIME, "runtime": NO_NUMBER}
_AT = {name: _COLUMNS.index(name) for name in _COLUMNS}
_SENTINELS = tuple((_AT[name], value) for name, value in _DEFAULTS.items())
_OLDER = _AT["older"]

_encode = msgspec.json.Encoder().encode
_decode_older = msgspec.json.Decoder(dict[str, tuple[int, int, float]]).decode


@dataclass(slots=True)
class _Known:
    id: int
    row: tuple[Any, ...]
    record: Record


def to_row(record: Record) -> tuple[Any, ...]:
    """The record as the values of its row: its state, then all its fields, with what stands for the unknown."""
    row = [state_of(record), *values_of(record)]
    for at, default in _SENTINELS:
        if row[at] is None:
            row[at] = default
    if row[_OLDER] is not None:
        row[_OLDER] = _encode(row[_OLDER]).decode()
    return tuple(row)


def from_row(row: Sequence[Any]) -> Record:
    """The record of a row whose values are those of `FIELDS`, after its state."""
    values = list(row)
    for at, default in _SENTINELS:
        if values[at] == default:
            values[at] = None
    if values[_OLDER] is not None:
        values[_OLDER] = _decode_older(values[_OLDER])
    return Record(*values[1:])


def _known(connection: Connection, cluster: int, uuids: Sequence[str]) -> Iterator[tuple[str, _Known]]:
    uuid_at = _AT["uuid"]
    for start in range(0, len(uuids), LOOKED_UP_AT_ONCE):
        chunk = tuple(uuids[start : start + LOOKED_UP_AT_ONCE])
        # Always the same number of places, so that the driver finds the statement compiled.
        padded = chunk + (chunk[-1],) * (LOOKED_UP_AT_ONCE - len(chunk))
        for found in connection.exec_driver_sql(_SELECT, (cluster, *padded)).cursor.fetchall():
            row = found[1:]
            yield row[uuid_at], _Known(found[0], row, from_row(row))


# -- statements ---------------------------------------------------------------------------------------------------

_INDEXED = ("name", "worker", "received", "root_id", "parent_id")
_RUNTIME_ONLY = _AT["runtime"]
_INDEXED_AT = tuple(_AT[name] for name in _INDEXED)


def _least_update(before: Sequence[Any], after: Sequence[Any]) -> int:
    """0: no index but those of state and timestamp is touched; 1: that of the runtime too; 2: all."""
    for at in _INDEXED_AT:
        if before[at] != after[at]:
            return 2
    return 0 if before[_RUNTIME_ONLY] == after[_RUNTIME_ONLY] else 1


def _named(columns: Iterable[str]) -> tuple[str, ...]:
    return tuple(column for column in columns if column != "uuid")


def _picker(columns: Sequence[str]) -> Any:
    return itemgetter(*(_AT[column] for column in columns))


_TABLE = tasks.name
_ALL = _named(_COLUMNS)
_WITH_RUNTIME = tuple(column for column in _ALL if column not in _INDEXED)
_LIGHT = tuple(column for column in _WITH_RUNTIME if column != "runtime")
_SETS = (_LIGHT, _WITH_RUNTIME, _ALL)
_PICK = tuple(_picker(columns) for columns in _SETS)

# The names are those of the schema; every value is bound.
_SELECT = (
    f"SELECT id, {', '.join(_COLUMNS)} FROM {_TABLE} WHERE cluster = ? AND uuid IN "  # noqa: S608
    f"({', '.join('?' * LOOKED_UP_AT_ONCE)})"
)
_INSERT = f"INSERT INTO {_TABLE} (cluster, {', '.join(_COLUMNS)}) VALUES ({', '.join('?' * (len(_COLUMNS) + 1))})"  # noqa: S608
_UPDATE = tuple(
    f"UPDATE {_TABLE} SET {', '.join(f'{column} = ?' for column in columns)} WHERE id = ?"  # noqa: S608
    for columns in _SETS
)
