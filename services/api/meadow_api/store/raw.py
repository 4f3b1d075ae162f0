"""Statements of the hot path, written out once for both drivers."""

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, compress
from typing import Any

from sqlalchemy import Connection

ROWS_AT_ONCE = 64
"""Rows of one `INSERT`. Their values together stay far below what SQLite (32,766) and PostgreSQL (65,535) take."""

ROWS_OF_A_SHAPE = ROWS_AT_ONCE // 2
"""Fewer rows that know the same columns are not worth a statement of their own."""


class Statement:
    """SQL with `?` for each value, none of them in quotes; psycopg wants `%s`.

    `index` is the one that SQLite shall use, where `{index}` stands: without figures about the tables, which only
    PostgreSQL keeps up to date by itself, its planner takes others, that have to be read by the million.
    """

    def __init__(self, sql: str, *, index: str | None = None) -> None:
        postgresql = sql.replace("{index} ", "").replace("%", "%%").replace("?", "%s")
        sqlite = sql if index is None else sql.replace("{index}", f"INDEXED BY {index}")
        self._by_dialect = {"sqlite": sqlite, "postgresql": postgresql}

    def many(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run it once for each row of values."""
        connection.exec_driver_sql(self._by_dialect[connection.dialect.name], list(rows))

    def all(self, connection: Connection, values: Sequence[Any]) -> list[Any]:
        """Run it and give all rows, as the driver has them."""
        return list(
            connection.exec_driver_sql(self._by_dialect[connection.dialect.name], tuple(values)).cursor.fetchall()
        )

    def one(self, connection: Connection, values: Sequence[Any]) -> int:
        """Run it once; gives how many rows it concerned."""
        return connection.exec_driver_sql(self._by_dialect[connection.dialect.name], tuple(values)).rowcount


class Insert(Statement):
    """Rows into a table, many with one statement.

    The drivers let go of Python's lock for each statement and have to wait for it again afterwards, behind whatever
    else the process does.
    """

    def __init__(self, table: str, columns: Sequence[str]) -> None:
        self._row = f"({', '.join('?' * len(columns))})"
        self._head = f"INSERT INTO {table} ({', '.join(columns)}) VALUES "  # noqa: S608 - the schema's names
        super().__init__(self._head + self._row)
        self._block = Statement(self._head + ", ".join([self._row] * ROWS_AT_ONCE))

    def many(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        whole = len(rows) // ROWS_AT_ONCE * ROWS_AT_ONCE
        for start in range(0, whole, ROWS_AT_ONCE):
            block = rows[start : start + ROWS_AT_ONCE]
            self._block.one(connection, tuple(chain.from_iterable(block)))
        if whole < len(rows):
            super().many(connection, rows[whole:])


class SparseInsert:
    """Rows of which each leaves many columns unknown: one statement for those that know the same columns.

    What is not named is NULL as well, and costs nothing. The sqlite3 module looks for an adapter for every `None` that
    it is given: a fifth of the work of inserting a task went there.
    """

    def __init__(self, table: str, columns: Sequence[str]) -> None:
        self._table, self._columns = table, tuple(columns)
        self._whole = Insert(table, columns)

    def many(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert the rows, not quite in the order in which they are given."""
        by_shape: defaultdict[tuple[bool, ...], list[tuple[Any, ...]]] = defaultdict(list)
        for row in rows:
            by_shape[tuple([value is not None for value in row])].append(row)
        rare: list[tuple[Any, ...]] = []
        for shape, alike in by_shape.items():
            if len(alike) < ROWS_OF_A_SHAPE:
                rare += alike
            else:
                columns = tuple(compress(self._columns, shape))
                _insert(self._table, columns).many(connection, [tuple(compress(row, shape)) for row in alike])
        if rare:
            self._whole.many(connection, rare)


@lru_cache(maxsize=32)
def _insert(table: str, columns: tuple[str, ...]) -> Insert:
    return Insert(table, columns)
