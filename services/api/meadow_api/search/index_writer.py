"""The writing half of the text index (`text_index`): one thread, which is `indexing`'s."""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from meadow_api.file_mark import FileMark, mark_of
from meadow_api.search import text_index
from meadow_api.search.text_index import Part, State, delete, is_damage, read_parts, read_state, table_of

VERSION = "1"
PRAGMAS = ("page_size=8192", "journal_mode=WAL", "synchronous=NORMAL", "journal_size_limit=33554432")

Row = tuple[int, str]
"""A task's row number and its text."""


class IndexWriter:
    """Makes the file and writes it. All methods but `failed`, `vouch` and `close` raise `sqlite3.Error`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mark: FileMark | None = None
        """The file, while searches may trust it."""
        self._file: FileMark | None = None
        self._damaged = False
        self._connection: sqlite3.Connection | None = None

    @property
    def there(self) -> bool:
        """Whether the file that was opened still stands there."""
        return not self._damaged and self._file is not None and mark_of(self.path) == self._file

    def vouch(self) -> None:
        """Let searches trust the file: it belongs to the store as it is."""
        self.mark = self._file

    def failed(self, exc: sqlite3.Error) -> None:
        """Take note of what somebody failed at who used the file: `open` makes a damaged one anew."""
        if is_damage(exc):
            self.mark, self._damaged = None, True

    def open(self, identity: str) -> State:
        """Open the index of that store; an index of another store, or one that cannot be read, is made anew."""
        self.close()
        try:
            state = None if self._damaged else self._read_existing()
        except (sqlite3.DatabaseError, KeyError, ValueError):
            state = None
        if state is None or state.identity != identity:
            self.remove()
            state = self._create(identity)
        self._file, self._damaged = mark_of(self.path), False
        return state

    def add(self, rows: Sequence[Row], state: State) -> None:
        """Add the texts of these tasks; then the index is at `state`."""
        with self._writing() as connection:
            for number in sorted({_number_of(row[0]) for row in rows}):
                _put(connection, number, [row for row in rows if _number_of(row[0]) == number])
            values = [(str(state.position), "position"), (str(state.marks), "marks")]
            connection.executemany("UPDATE state SET value = ? WHERE key = ?", values)

    def parts(self) -> list[Part]:
        """The ranges that have a table."""
        with self._writing() as connection:
            return read_parts(connection)

    def drop(self, number: int) -> None:
        """Forget the tasks of this range."""
        with self._writing() as connection:
            _drop(connection, number)

    def replace(self, number: int, rows: Sequence[Row]) -> None:
        """These are all tasks that are left of this range."""
        with self._writing() as connection:
            _drop(connection, number)
            _put(connection, number, rows)

    def merge(self, number: int, pages: int, *, begin: bool) -> bool:
        """Merge some pages of a range that is complete; whether there is more to merge."""
        table = table_of(number)
        with self._writing() as connection:
            before = connection.total_changes
            statement = f"INSERT INTO {table}({table}, rank) VALUES ('merge', ?)"  # noqa: S608
            connection.execute(statement, (-pages if begin else pages,))
            more = connection.total_changes - before >= 2  # as FTS5's documentation tells it
            if not more:
                connection.execute("UPDATE parts SET merged = 1 WHERE number = ?", (number,))
            return more

    def remove(self) -> None:
        """Delete the file."""
        self.close()
        delete(self.path)

    def close(self) -> None:
        """Let go of the file. May be called twice."""
        self.mark = self._file = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _read_existing(self) -> State | None:
        if not self.path.exists():
            return None
        with self._writing() as connection:
            if connection.execute("SELECT value FROM state WHERE key = 'version'").fetchone() != (VERSION,):
                return None
            return read_state(connection)

    def _create(self, identity: str) -> State:
        with self._writing() as connection:
            connection.execute("CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
            connection.execute(
                "CREATE TABLE parts (number INTEGER PRIMARY KEY, tasks INTEGER NOT NULL, merged INTEGER NOT NULL)"
            )
            values = {"version": VERSION, "identity": identity, "position": "0", "marks": "0"}
            connection.executemany("INSERT INTO state VALUES (?, ?)", values.items())
        return State(identity)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        if self._connection is None:
            self._connection = _connect(self.path)
        connection = self._connection
        with connection:  # which rolls back only what SQLite has not rolled back already, also when COMMIT fails
            connection.execute("BEGIN IMMEDIATE")
            yield connection


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=10.0, check_same_thread=False)
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


def _number_of(id: int) -> int:
    return id // text_index.RANGE


def _put(connection: sqlite3.Connection, number: int, rows: Sequence[Row]) -> None:
    table = table_of(number)
    connection.execute(
        f"CREATE VIRTUAL TABLE IF NOT EXISTS {table} USING "
        "fts5(text, tokenize='trigram', detail=none, content='', columnsize=0)"
    )
    connection.executemany(f"INSERT INTO {table}(rowid, text) VALUES (?, ?)", rows)  # noqa: S608
    connection.execute(
        "INSERT INTO parts VALUES (?, ?, 0) ON CONFLICT (number) DO UPDATE SET tasks = tasks + excluded.tasks",
        (number, len(rows)),
    )


def _drop(connection: sqlite3.Connection, number: int) -> None:
    connection.execute(f"DROP TABLE IF EXISTS {table_of(number)}")
    connection.execute("DELETE FROM parts WHERE number = ?", (number,))
