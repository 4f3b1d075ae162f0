"""The text index: which tasks have these three letters. A SQLite file of its own beside the store, with FTS5.

It may be deleted at any time, and is built again in the background (`indexing`). Tasks are known in it by their row
numbers; ranges of these have tables of their own, so that a table goes when its tasks are gone. It holds at least
what the store held up to `position`, and up to the mark `marks`: what came later has to be looked at directly.

This is the reading half. The writing half (`index_writer`) may be in another process: whoever finds the file damaged
deletes it, and the other one sees that it is gone.
"""

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from meadow_api.file_mark import FileMark, mark_of

log = logging.getLogger(__name__)

RANGE = 500_000
STEPS_BETWEEN_CHECKS = 10_000


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
        self.state = read_state(connection)
        self.numbers = [part.number for part in read_parts(connection)]

    def find(self, expression: str, most: int) -> list[int]:
        """The row numbers of the tasks that may match, at most `most` of them; raises `NoAnswer`."""
        found: list[int] = []
        try:
            for number in reversed(self.numbers):
                table = table_of(number)
                statement = f"SELECT rowid FROM {table} WHERE {table} MATCH ? LIMIT ?"  # noqa: S608
                found += (row[0] for row in self._connection.execute(statement, (expression, most - len(found))))
                if len(found) >= most:
                    break
        except sqlite3.Error as exc:
            self._report(exc)
            raise NoAnswer(str(exc)) from exc
        return found


class TextIndex:
    """Reads the file, in several threads, each with a connection of its own.

    `trusted` gives the file that belongs to the store as it is now, as the writing half says, if there is one.
    """

    def __init__(self, path: Path, trusted: Callable[[], FileMark | None]) -> None:
        self.path = path
        self._trusted = trusted
        self._local = threading.local()
        self._opened: set[sqlite3.Connection] = set()

    @contextlib.contextmanager
    def snapshot(self, seconds: float) -> Iterator[Snapshot | None]:
        """The index as it is now; `None` while there is none that can be read. It answers for so many seconds."""
        trusted = self._trusted()
        with contextlib.ExitStack() as stack:
            snapshot: Snapshot | None = None
            try:
                if trusted is not None and mark_of(self.path) == trusted:
                    snapshot = stack.enter_context(self._reading(trusted, seconds))
            except sqlite3.Error as exc:  # it is damaged, or was removed just now: the writing half makes it anew
                self._failed(exc, trusted)
            except OSError as exc:
                log.warning("The text index cannot be read: %s", exc, extra={"action": "search.index-failed"})
            yield snapshot

    def close(self) -> None:
        """Let go of the file, when no other thread reads it any more. May be called twice."""
        while self._opened:
            self._opened.pop().close()

    @contextlib.contextmanager
    def _reading(self, mark: FileMark, seconds: float) -> Iterator[Snapshot]:
        connection = self._connection(mark)
        end = time.monotonic() + seconds
        connection.execute("BEGIN")
        connection.set_progress_handler(lambda: time.monotonic() > end, STEPS_BETWEEN_CHECKS)
        try:
            yield Snapshot(connection, lambda exc: self._failed(exc, mark))
        finally:
            connection.set_progress_handler(None, 0)
            connection.rollback()  # not COMMIT: FTS5 would read on, also in a damaged file

    def _connection(self, mark: FileMark) -> sqlite3.Connection:
        """The thread's own connection to that file."""
        known: tuple[FileMark, sqlite3.Connection] | None = getattr(self._local, "connection", None)
        if known is not None and known[0] == mark:
            return known[1]
        if known is not None:
            known[1].close()
            self._opened.discard(known[1])
        where = f"file:{quote(str(self.path))}?mode=rw"  # not one that is made here because there is none
        connection = sqlite3.connect(where, uri=True, isolation_level=None, timeout=10.0, check_same_thread=False)
        self._opened.add(connection)
        connection.execute("PRAGMA query_only=ON")
        self._local.connection = (mark, connection)
        return connection

    def _failed(self, exc: sqlite3.Error, mark: FileMark | None) -> None:
        """Who used that file failed at it: a damaged one is deleted, unless there is another already.

        What stands beside it is left to the writing half, which may have made another one a moment later.
        """
        if not is_damage(exc):
            return
        extra = {"action": "search.index-damaged"}
        try:
            if mark_of(self.path) == mark:
                self.path.unlink(missing_ok=True)
                log.warning("The text index %s is damaged (%s) and is built again.", self.path, exc, extra=extra)
        except OSError as error:
            words = "The text index %s is damaged (%s) and cannot be deleted: %s"
            log.warning(words, self.path, exc, error.strerror, extra=extra)


def is_damage(exc: sqlite3.Error) -> bool:
    """Whether the file is no sound database. Other troubles may pass by themselves."""
    return type(exc) is sqlite3.DatabaseError


def delete(path: Path) -> None:
    """Delete the index's files. Who has it open still sees what it was."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def table_of(number: int) -> str:
    """The name of the table of a range."""
    return f"text_{number:d}"


def read_parts(connection: sqlite3.Connection) -> list[Part]:
    """The ranges that have a table."""
    rows = connection.execute("SELECT number, tasks, merged FROM parts ORDER BY number")
    return [Part(number, tasks, bool(merged)) for number, tasks, merged in rows]


def read_state(connection: sqlite3.Connection) -> State:
    """How far the index is."""
    found = dict(connection.execute("SELECT key, value FROM state"))
    return State(found["identity"], int(found["position"]), int(found["marks"]))
