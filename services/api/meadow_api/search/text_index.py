"""The text index: which tasks have these three letters. A SQLite file of its own beside the store, with FTS5.

It may be deleted at any time, and is built again in the background (`indexing`). Tasks are known in it by their row
numbers; ranges of these have tables of their own, so that a table goes when its tasks are gone. It holds at least
what the store held up to `position`, and up to the mark `marks`: what came later has to be looked at directly.
"""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

VERSION = "1"
RANGE = 500_000
STEPS_BETWEEN_CHECKS = 10_000

Row = tuple[int, str]
"""A task's row number and its text."""


@dataclass(frozen=True)
class State:
    """Which store the index belongs to, and how far it is."""

    identity: str
    position: int = 0
    marks: int = 0


@dataclass(frozen=True)
class Part:
    """A range of row numbers: how many tasks were put into its table, and whether the table is merged."""

    number: int
    tasks: int
    merged: bool

    @property
    def rows(self) -> range:
        """The row numbers."""
        return range(self.number * RANGE, (self.number + 1) * RANGE)


class NoAnswer(sqlite3.OperationalError):
    """The index does not say which tasks may match: that took too long, was too much to ask, or it is damaged."""


class Snapshot:
    """The index as it was at one moment. `report` is told what its file fails at."""

    def __init__(self, connection: sqlite3.Connection, report: Callable[[sqlite3.Error], None]) -> None:
        self._connection = connection
        self._report = report
        self.state = _read_state(connection)
        self.numbers = [part.number for part in _read_parts(connection)]

    def find(self, expression: str, most: int) -> list[int]:
        """The row numbers of the tasks that may match, at most `most` of them; raises `NoAnswer`."""
        found: list[int] = []
        try:
            for number in reversed(self.numbers):
                table = _table(number)
                statement = f"SELECT rowid FROM {table} WHERE {table} MATCH ? LIMIT ?"  # noqa: S608
                found += (row[0] for row in self._connection.execute(statement, (expression, most - len(found))))
                if len(found) >= most:
                    break
        except sqlite3.Error as exc:
            self._report(exc)
            raise NoAnswer(str(exc)) from exc
        return found


class TextIndex:
    """The file. Reading may happen in several threads, writing in one; each has a connection of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._generation = 0
        self._damaged = -1
        self._ready = False

    @property
    def damaged(self) -> bool:
        """Whether the file was found to be no sound database. `open` makes it anew then."""
        return self._damaged == self._generation

    def failed(self, exc: sqlite3.Error, generation: int | None = None) -> None:
        """Take note of what somebody failed at who used the file, or the one of that generation."""
        if type(exc) is sqlite3.DatabaseError:  # other kinds may pass by themselves
            self._damaged = self._generation if generation is None else generation

    # -- reading --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def snapshot(self, seconds: float) -> Iterator[Snapshot | None]:
        """The index as it is now; `None` while there is none that can be read. It answers for so many seconds."""
        if not self._ready:
            yield None
            return
        with contextlib.ExitStack() as stack:
            snapshot: Snapshot | None
            try:
                snapshot = stack.enter_context(self._reading(seconds))
            except sqlite3.Error as exc:  # it is damaged, or was removed just now: the writing half makes it anew
                self.failed(exc)
                snapshot = None
            yield snapshot

    @contextlib.contextmanager
    def _reading(self, seconds: float) -> Iterator[Snapshot]:
        generation = self._generation
        connection = self._connection()
        end = time.monotonic() + seconds
        connection.execute("BEGIN")
        connection.set_progress_handler(lambda: time.monotonic() > end, STEPS_BETWEEN_CHECKS)
        try:
            yield Snapshot(connection, lambda exc: self.failed(exc, generation))
        finally:
            connection.set_progress_handler(None, 0)
            connection.rollback()  # not COMMIT: FTS5 would read on, also in a damaged file

    def _connection(self) -> sqlite3.Connection:
        """The thread's own connection to the present file."""
        generation = self._generation
        known: tuple[int, sqlite3.Connection] | None = getattr(self._local, "connection", None)
        if known is not None and known[0] == generation:
            return known[1]
        if known is not None:
            known[1].close()
        connection = _connect(self.path)
        self._opened.append(connection)
        self._local.connection = (generation, connection)
        return connection

    # -- writing: each of these raises `sqlite3.Error` ------------------------------------------------------------

    def open(self, identity: str) -> State:
        """Open the index of that store; an index of another store, or one that cannot be read, is made anew."""
        try:
            state = None if self.damaged else self._read_existing()
        except (sqlite3.DatabaseError, KeyError, ValueError):
            state = None
        if state is None or state.identity != identity:
            self.remove()
            state = self._create(identity)
        self._ready = True
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
            return _read_parts(connection)

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
        table = _table(number)
        with self._writing() as connection:
            before = connection.total_changes
            statement = f"INSERT INTO {table}({table}, rank) VALUES ('merge', ?)"  # noqa: S608
            connection.execute(statement, (-pages if begin else pages,))
            more = connection.total_changes - before >= 2  # as FTS5's documentation tells it
            if not more:
                connection.execute("UPDATE parts SET merged = 1 WHERE number = ?", (number,))
            return more

    def remove(self) -> None:
        """Delete the file. Other threads let go of it when they want to read next."""
        self._ready = False
        self._generation += 1
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file, when no other thread reads it any more. May be called twice."""
        self._ready = False
        self._generation += 1
        for connection in self._opened:
            connection.close()
        self._opened.clear()

    def _read_existing(self) -> State | None:
        if not self.path.exists():
            return None
        with self._writing() as connection:
            if connection.execute("SELECT value FROM state WHERE key = 'version'").fetchone() != (VERSION,):
                return None
            return _read_state(connection)

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
        connection = self._connection()
        with connection:  # which rolls back only what SQLite has not rolled back already, also when COMMIT fails
            connection.execute("BEGIN IMMEDIATE")
            yield connection


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=10.0, check_same_thread=False)
    for pragma in ("page_size=8192", "journal_mode=WAL", "synchronous=NORMAL", "journal_size_limit=33554432"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


def _table(number: int) -> str:
    return f"text_{number:d}"


def _number_of(id: int) -> int:
    return id // RANGE


def _put(connection: sqlite3.Connection, number: int, rows: Sequence[Row]) -> None:
    table = _table(number)
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
    connection.execute(f"DROP TABLE IF EXISTS {_table(number)}")
    connection.execute("DELETE FROM parts WHERE number = ?", (number,))


def _read_parts(connection: sqlite3.Connection) -> list[Part]:
    rows = connection.execute("SELECT number, tasks, merged FROM parts ORDER BY number")
    return [Part(number, tasks, bool(merged)) for number, tasks, merged in rows]


def _read_state(connection: sqlite3.Connection) -> State:
    found = dict(connection.execute("SELECT key, value FROM state"))
    return State(found["identity"], int(found["position"]), int(found["marks"]))
