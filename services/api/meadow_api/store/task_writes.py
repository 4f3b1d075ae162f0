"""Tasks on their way into the store: read what is known, merge, write back. The hot path.

Statements are written out for the driver: one for the rows that know the same columns, one for those in which the same
columns change. An UPDATE rewrites every index whose columns it names, so it names no others.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import compress
from operator import itemgetter, ne
from typing import Any

import msgspec
from sqlalchemy import Connection

from meadow.events import TaskFact
from meadow_api import tallies
from meadow_api.attempts import Moment
from meadow_api.fold import FIELDS, Record, absorb_all, merge, state_of, values_of
from meadow_api.store import text_marks
from meadow_api.store.raw import SparseInsert, Statement
from meadow_api.store.schema import NO_NUMBER, NO_TEXT, NO_TIME, tasks
from meadow_api.tallies import Tallies
from meadow_api.usual import usual_record

LOOKED_UP_AT_ONCE = 500


@dataclass
class WrittenTasks:
    """Which tasks changed, how many of them are new, and what happened to them, counted."""

    uuids: list[str] = field(default_factory=list)
    added: int = 0
    tallies: Tallies = field(default_factory=dict)


def write_tasks(connection: Connection, cluster: int, facts: Mapping[str, Sequence[TaskFact]]) -> WrittenTasks:
    """Merge the events of each task into its row."""
    written = WrittenTasks(uuids=list(facts))
    known = dict(_known(connection, cluster, written.uuids))
    rows = _Rows(cluster)
    for uuid, history in facts.items():
        found = known.get(uuid)
        record = usual_record(uuid, history) if found is None else None
        if record is None:
            record = Record(uuid) if found is None else found.record
            absorb_all(record, history)
        tallies.count(written.tallies, record, history)
        rows.add(record, found)
    written.added = rows.write(connection)
    return written


def write_records(connection: Connection, cluster: int, records: Iterable[Record]) -> int:
    """Merge records of tasks, each at most once, into their rows; gives how many rows are new."""
    by_uuid = {record.uuid: record for record in records}
    known = dict(_known(connection, cluster, list(by_uuid)))
    rows = _Rows(cluster)
    for uuid, record in by_uuid.items():
        found = known.get(uuid)
        if found is not None:
            merge(found.record, record)
        rows.add(record if found is None else found.record, found)
    return rows.write(connection)


@dataclass(slots=True)
class _Known:
    """A row as it stands in the store. `lost`: it is marked as lost."""

    id: int
    lost: bool
    row: tuple[Any, ...]
    record: Record


class _Rows:
    """Collects what has to be written, by statement."""

    def __init__(self, cluster: int) -> None:
        self._cluster = cluster
        self._inserts: list[tuple[Any, ...]] = []
        self._updates: defaultdict[tuple[bool, ...], list[tuple[Any, ...]]] = defaultdict(list)
        self._found: list[tuple[int]] = []
        self._rewritten: list[int] = []

    def add(self, record: Record, before: _Known | None) -> None:
        """The record takes the place of the row that was there before, if any."""
        row = to_row(record)
        if before is None:
            self._inserts.append((self._cluster, *row))
        elif row != before.row:
            changed = tuple(map(ne, before.row, row))
            self._updates[changed].append((*compress(row, changed), before.id))
            if _searched(row) != _searched(before.row):
                self._rewritten.append(before.id)
            if before.lost and (row[_TIMESTAMP] > before.row[_TIMESTAMP] or row[0] != before.row[0]):
                self._found.append((before.id,))

    def write(self, connection: Connection) -> int:
        """Write all; gives how many rows are new."""
        if self._inserts:
            _INSERT.many(connection, self._inserts)
        for changed, rows in self._updates.items():
            _update(changed).many(connection, rows)
        if self._found:
            _UNMARK.many(connection, self._found)
        if self._rewritten:
            text_marks.mark(connection, self._rewritten)
        return len(self._inserts)


# -- rows and records ---------------------------------------------------------------------------------------------

_COLUMNS = ("state", *FIELDS)
_DEFAULTS = {"name": NO_TEXT, "worker": NO_TEXT, "received": NO_TIME, "started": NO_TIME, "runtime": NO_NUMBER}
_AT = {name: _COLUMNS.index(name) for name in _COLUMNS}
_SENTINELS = tuple((_AT[name], value) for name, value in _DEFAULTS.items())
_OLDER, _ATTEMPTS, _TIMESTAMP = _AT["older"], _AT["attempts"], _AT["timestamp"]

_searched = itemgetter(*(_AT[name] for name in ("queue", "args", "kwargs", "result", "exception", "traceback")))

_encode = msgspec.json.Encoder().encode
_decode_older = msgspec.json.Decoder(dict[str, tuple[int, int, float]]).decode
_decode_attempts = msgspec.json.Decoder(tuple[Moment, ...]).decode


def to_row(record: Record) -> tuple[Any, ...]:
    """The record as the values of its row: its state, then all its fields, with what stands for the unknown."""
    row = [state_of(record), *values_of(record)]
    for at, default in _SENTINELS:
        if row[at] is None:
            row[at] = default
    if row[_OLDER] is not None:
        row[_OLDER] = _encode(row[_OLDER]).decode()
    if row[_ATTEMPTS] is not None:
        row[_ATTEMPTS] = _encode(row[_ATTEMPTS]).decode()
    return tuple(row)


def from_row(row: Sequence[Any]) -> Record:
    """The record of a row whose values are those of `FIELDS`, after its state."""
    values = list(row)
    for at, default in _SENTINELS:
        if values[at] == default:
            values[at] = None
    if values[_OLDER] is not None:
        values[_OLDER] = _decode_older(values[_OLDER])
    if values[_ATTEMPTS] is not None:
        values[_ATTEMPTS] = _decode_attempts(values[_ATTEMPTS])
    return Record(*values[1:])


def _known(connection: Connection, cluster: int, uuids: Sequence[str]) -> Iterator[tuple[str, _Known]]:
    uuid_at = _AT["uuid"]
    for start in range(0, len(uuids), LOOKED_UP_AT_ONCE):
        chunk = tuple(uuids[start : start + LOOKED_UP_AT_ONCE])
        # Always the same number of places, so that the driver finds the statement compiled.
        padded = chunk + (chunk[-1],) * (LOOKED_UP_AT_ONCE - len(chunk))
        for found in _SELECT.all(connection, (cluster, *padded)):
            row = tuple(found[2:])
            yield row[uuid_at], _Known(found[0], found[1] is not None, row, from_row(row))


def read_record(connection: Connection, cluster: int, uuid: str) -> Record | None:
    """What is known of one task."""
    found = _SELECT_ONE.all(connection, (cluster, uuid))
    return from_row(found[0]) if found else None


# -- statements ---------------------------------------------------------------------------------------------------

_TABLE = tasks.name

# The names are those of the schema; every value is bound.
_SELECT = Statement(
    f"SELECT id, lost_since, {', '.join(_COLUMNS)} FROM {_TABLE} WHERE cluster = ? AND uuid IN "  # noqa: S608
    f"({', '.join('?' * LOOKED_UP_AT_ONCE)})"
)
_SELECT_ONE = Statement(f"SELECT {', '.join(_COLUMNS)} FROM {_TABLE} WHERE cluster = ? AND uuid = ?")  # noqa: S608
_INSERT = SparseInsert(_TABLE, ("cluster", *_COLUMNS))
_UNMARK = Statement(f"UPDATE {_TABLE} SET lost_since = NULL, lost_reason = NULL WHERE id = ?")  # noqa: S608


@lru_cache(maxsize=256)
def _update(changed: tuple[bool, ...]) -> Statement:
    columns = compress(_COLUMNS, changed)
    return Statement(f"UPDATE {_TABLE} SET {', '.join(f'{column} = ?' for column in columns)} WHERE id = ?")  # noqa: S608
