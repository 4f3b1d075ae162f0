"""What the store remembers for the text index: how far rows were promised to it, and which of those changed since.

Two small tables of SQLite. They belong to the index rather than to the schema: they are made when the index is opened,
and mean nothing without it. Changes are marked by who writes tasks: a trigger on each update would double its cost.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, exc

_MAKE = (
    "CREATE TABLE IF NOT EXISTS text_claim (id INTEGER PRIMARY KEY CHECK (id = 1), identity TEXT NOT NULL, "
    "position INTEGER NOT NULL)",
    # Numbers of marks are never used again: the index says up to which it has seen them.
    "CREATE TABLE IF NOT EXISTS text_marks (seq INTEGER PRIMARY KEY AUTOINCREMENT, id INTEGER NOT NULL)",
    # The row numbers of the newest tasks are given again when these are deleted: then they are no longer promised.
    """CREATE TRIGGER IF NOT EXISTS tasks_text_deleted AFTER DELETE ON tasks
    WHEN old.id > coalesce((SELECT max(id) FROM tasks), 0) BEGIN
    UPDATE text_claim SET position = min(position, coalesce((SELECT max(id) FROM tasks), 0)); END""",
)


@dataclass(frozen=True)
class Claim:
    """Which store this is, and up to which row the index may read: what changes there later is marked."""

    identity: str
    position: int


def make(connection: Connection) -> Claim:
    """Make the tables and triggers where they are missing."""
    for statement in _MAKE:
        connection.exec_driver_sql(statement)
    connection.exec_driver_sql("INSERT OR IGNORE INTO text_claim VALUES (1, ?, 0)", (uuid.uuid4().hex,))
    row = connection.exec_driver_sql("SELECT identity, position FROM text_claim").one()
    return Claim(row.identity, row.position)


def read_claim(connection: Connection) -> Claim | None:
    """What was promised; `None` in a store that no index was opened for."""
    try:
        row = connection.exec_driver_sql("SELECT identity, position FROM text_claim").first()
    except exc.OperationalError:  # there is no such table
        return None
    return None if row is None else Claim(row.identity, row.position)


def newest_row(connection: Connection) -> int:
    """The highest row number."""
    return int(connection.exec_driver_sql("SELECT coalesce(max(id), 0) FROM tasks").scalar_one())


def mark(connection: Connection, ids: Sequence[int]) -> None:
    """The texts of these rows are another now. Nothing to do for rows that were not promised, and on PostgreSQL."""
    if connection.dialect.name != "sqlite" or (claim := read_claim(connection)) is None:
        return
    promised = [(id,) for id in ids if id <= claim.position]
    if promised:
        connection.exec_driver_sql("INSERT INTO text_marks (id) VALUES (?)", promised)


def promise(connection: Connection, position: int) -> None:
    """From now on, what changes up to this row is marked."""
    connection.exec_driver_sql("UPDATE text_claim SET position = ?", (position,))


def changed_since(connection: Connection, seq: int, most: int) -> list[int]:
    """The rows that were marked after that mark."""
    rows = connection.exec_driver_sql("SELECT id FROM text_marks WHERE seq > ? LIMIT ?", (seq, most))
    return list(rows.scalars())


def forget_marks(connection: Connection, seq: int) -> None:
    """Delete the marks up to this one."""
    connection.exec_driver_sql("DELETE FROM text_marks WHERE seq <= ?", (seq,))


def newest_mark(connection: Connection) -> int:
    """The highest number that a mark ever had."""
    found = connection.exec_driver_sql("SELECT seq FROM sqlite_sequence WHERE name = 'text_marks'").scalar()
    return int(found or 0)
