"""Statements of the hot path, written out once for both drivers."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection


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
