"""How many bytes tasks take in the database, indexes included, reckoned from some hundred of them.

What a row takes is the width of its values, once for the row and once more for each index that a value is in, and a
little beside. On SQLite and PostgreSQL that comes within an eighth of the pages of a store that was just filled. Room
that deleted rows have left in pages is not reckoned.

The sample is the same every time, and spread over all rows: a new one each time would come out above a limit now and
then for no reason, and tasks would go for it.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Float, LargeBinary, Text, case, cast, func, literal, select
from sqlalchemy.types import TypeEngine

from meadow_api.store.schema import clusters, tasks

FAILED = "FAILURE"
SAMPLED = 1000
_SHUFFLE = 40503  # the golden ratio in 16 bits: tasks often come in repeating patterns, the sample must not


@dataclass(frozen=True)
class Kind:
    """Tasks of one cluster: the failed, the others, or (`None`) all."""

    cluster: int
    failed: bool | None

    def conditions(self) -> tuple[ColumnElement[bool], ...]:
        """The same in SQL."""
        return (tasks.c.cluster == self.cluster, *self._of_state())

    def conditions_on_rows(self) -> tuple[ColumnElement[bool], ...]:
        """The same for rows that are named by their ids. SQLite would prefer an index of the cluster, and read all of
        its tasks for a few: a sum has no index."""
        return (tasks.c.cluster + 0 == self.cluster, *self._of_state())

    def _of_state(self) -> tuple[ColumnElement[bool], ...]:
        if self.failed is None:
            return ()
        return (tasks.c.state == FAILED if self.failed else tasks.c.state != FAILED,)


def count(connection: Connection, kind: Kind) -> int:
    """How many tasks there are of the kind, exactly."""
    return int(connection.execute(select(func.count()).select_from(tasks).where(*kind.conditions())).scalar_one())


def store_size(connection: Connection) -> int:
    """The bytes that are in use. PostgreSQL gives no space back when rows go, so there only tasks are reckoned."""
    if connection.dialect.name == "sqlite":
        pages, free, bytes_ = (
            int(connection.exec_driver_sql(f"PRAGMA {name}").scalar() or 0)
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * bytes_
    stored = int(connection.execute(select(func.coalesce(func.sum(clusters.c.tasks), 0))).scalar_one())
    return int(stored * _average(connection, _spread(connection)))


def average(connection: Connection, kind: Kind, number: int) -> float:
    """The bytes that one task of the kind takes, of which there are so many."""
    ids = _some_failed(connection, kind, number) if kind.failed else _spread(connection)
    return _average(connection, ids, *kind.conditions_on_rows()) or _average(connection, ids)


def _average(connection: Connection, ids: list[int], *conditions: ColumnElement[bool]) -> float:
    width = _bytes_of_a_row(connection.dialect.name)
    found = connection.execute(select(func.avg(width)).where(tasks.c.id.in_(ids), *conditions)).scalar()
    return float(found or 0.0)


def _spread(connection: Connection) -> list[int]:
    """One row number out of each block of equal length, up to `SAMPLED`; some rows may be gone."""
    first, last = connection.execute(select(func.min(tasks.c.id), func.max(tasks.c.id))).one()
    if first is None:
        return []
    block = 1 << ((last - first) // SAMPLED).bit_length()
    return [n * block + (n * _SHUFFLE >> 7) % block for n in range(first // block, last // block + 1)]


def _some_failed(connection: Connection, kind: Kind, number: int) -> list[int]:
    """Failed tasks are few among many: these are picked from an index that holds no others."""
    of = 1 << (number // SAMPLED).bit_length()
    picked = select(tasks.c.id).where(*kind.conditions(), tasks.c.id * _SHUFFLE % (of << 16) < 1 << 16)
    return list(connection.execute(picked).scalars())


# -- the width of a row -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layout:
    """What a database takes beside the values: for a row, for an entry of an index; `filled` is how full pages are."""

    row: int
    entry: int
    whole: int
    filled: float


_LAYOUTS = {"sqlite": _Layout(33, 9, 3, 0.9), "postgresql": _Layout(36, 16, 8, 0.85)}


def _bytes_of_a_row(dialect: str) -> ColumnElement[Any]:
    layout = _LAYOUTS[dialect]
    indexes: list[list[Column[Any]]] = [
        [*index.columns] for index in tasks.indexes if index.dialect_options[dialect]["where"] is None
    ]
    indexes.append([tasks.c.cluster, tasks.c.uuid])
    if dialect == "postgresql":
        indexes.append([tasks.c.id])
    total: ColumnElement[Any] = literal(layout.row + layout.entry * len(indexes))
    for column in tasks.c:
        times = 1 + sum(column in index for index in indexes)
        total = total + _width(column, dialect, layout) * times
    return total / layout.filled


def _width(column: Column[Any], dialect: str, layout: _Layout) -> ColumnElement[int]:
    kind: TypeEngine[Any] = column.type
    if isinstance(kind, Text):
        bytes_ = func.length(cast(column, LargeBinary)) if dialect == "sqlite" else func.pg_column_size(column)
        return func.coalesce(bytes_, 0)
    return case((column.is_(None), 0), else_=8 if isinstance(kind, Float) else layout.whole)
