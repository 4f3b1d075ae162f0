"""The task store as a SQLite file: how it is opened, owned, and put aside when it is damaged."""

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, exc, inspect
from sqlalchemy.pool import QueuePool

from meadow import file_lock
from meadow.errors import FileHeld, StartRefused
from meadow_api.errors import QueryTooSlow, StoreDamaged, StoreError, StoreInUse, StoreRejected
from meadow_api.file_mark import FileMark, mark_of
from meadow_api.search.functions import register
from meadow_api.store import revisions, schema

log = logging.getLogger(__name__)

READERS = 4
STEPS_BETWEEN_CHECKS = 20_000
PAUSE = 0.02
PAGE_SIZE = 8192
DAMAGE = ("disk image is malformed", "malformed database schema", "not a database", "file is encrypted")


class SqliteFile:
    """One file. The process that writes it holds a lock beside it, which the kernel releases when the process ends."""

    shared = False

    def __init__(self, path: Path, owner: str = "") -> None:
        self.path = path
        self._owner = owner
        self.place = str(path)
        self._writer: Engine | None = None
        self._reader: Engine | None = None
        self._lock: IO[str] | None = None
        self._file: FileMark | None = None
        self._follows = False
        self._connecting = threading.Lock()
        self._closing = threading.Event()
        self._there = threading.Event()
        """Cleared while a damaged file makes room for a new one."""

    def open(self, *, create: bool, follow: bool = False) -> None:
        """Open or create the file."""
        self._follows = follow
        if not create:
            if not self.path.exists():
                raise revisions.NoStoreYet(
                    f"There is no task store at {self.path}. Name its directory with --data-dir."
                )
            self._connect()
            with _translated(), self._engine(self._reader).begin() as connection:
                revisions.require_current(connection, self.place)
            self._there.set()
            return
        self._own()
        self._connect()
        with _translated():
            revisions.bring_up_to_date(self._engine(self._writer), self.place, before=_check_sound)
        self._there.set()

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that holds the file's write lock from its beginning."""
        with _translated(), self._engine(self._writer).begin() as connection:
            yield connection

    @contextlib.contextmanager
    def reading(self, limit: float) -> Iterator[Connection]:
        """A snapshot. SQLite asks every so many steps whether time is up."""
        self._there.wait(limit)
        if self._lock is None:
            self._look_for_another(limit)
        with _translated(limit), self._engine(self._reader).begin() as connection:
            raw: Any = connection.connection.dbapi_connection
            end = time.monotonic() + limit
            raw.set_progress_handler(lambda: self._closing.is_set() or time.monotonic() > end, STEPS_BETWEEN_CHECKS)
            try:
                yield connection
            finally:
                raw.set_progress_handler(None, 0)

    def put_aside(self, reason: str) -> None:
        """Rename the file, and what SQLite keeps beside it."""
        self._there.clear()
        self._disconnect()
        mark = time.strftime("%Y%m%d-%H%M%S", time.gmtime()) + f"-{time.monotonic_ns() % 1_000_000:06d}"
        aside = self.path.with_name(f"{self.path.name}.damaged-{mark}")
        try:
            self.path.rename(aside)
            for suffix in ("-wal", "-shm"):
                side = self.path.with_name(self.path.name + suffix)
                if side.exists():
                    side.rename(aside.with_name(aside.name + suffix))
        except OSError as error:
            raise StoreError(
                f"The task store {self.path} is damaged ({reason}) and cannot be put aside: {error.strerror}. "
                "Rename it, or let Meadow write into its directory."
            ) from error
        log.error(
            "The task store %s is damaged (%s). It was put aside as %s; history is read again from the stream.",
            self.path,
            reason,
            aside.name,
            extra={"action": "store.damaged"},
        )

    def lead(self) -> bool:
        """Always: who opened the file for writing is alone."""
        return True

    def interrupt(self) -> None:
        """The next look at the clock ends each question."""
        self._closing.set()
        self._there.set()

    def dispose(self) -> None:
        """Close the file and let another process have it."""
        self._disconnect()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _look_for_another(self, patience: float) -> None:
        """The owner of the file, another process, may have put a damaged one aside: wait until it has begun anew."""
        end = time.monotonic() + patience
        while (found := self._mark()) != self._file:
            if not self._follows:
                raise StoreError(f"The task store {self.place} was replaced meanwhile. Begin again.")
            with self._connecting:
                if found is not None and self._change_over(found):
                    return
            if self._closing.wait(PAUSE) or time.monotonic() > end:
                raise StoreError(f"The task store {self.place} is not there. It is made anew when Meadow starts.")

    def _mark(self) -> FileMark | None:
        try:
            return mark_of(self.path)
        except OSError as error:
            raise StoreError(f"The task store {self.place} cannot be read: {error.strerror}.") from error

    def _change_over(self, found: FileMark) -> bool:
        """Read this file from now on, unless its tables are not there yet."""
        if found == self._file or self._reader is None:
            return True
        engine = self._reading_engine()
        try:
            with engine.begin() as connection:
                revisions.require_current(connection, self.place)
        except (exc.SQLAlchemyError, StartRefused):
            engine.dispose()
            return False
        before, self._reader, self._file = self._reader, engine, found
        before.dispose()
        return True

    def _connect(self) -> None:
        self._disconnect()
        self._file = mark_of(self.path)
        self._writer = _engine(self.path, begin="BEGIN IMMEDIATE", connections=1)
        self._reader = self._reading_engine()

    def _reading_engine(self) -> Engine:
        return _engine(self.path, begin="BEGIN", connections=READERS)

    def _disconnect(self) -> None:
        for engine in (self._reader, self._writer):
            if engine is not None:
                engine.dispose()
        self._reader = self._writer = None

    def _engine(self, engine: Engine | None) -> Engine:
        if engine is None:
            raise StoreError("The task store is closed.")
        return engine

    def _own(self) -> None:
        if self._lock is not None:
            return
        beside = self.path.with_name(self.path.name + ".lock")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = file_lock.hold(beside, self._owner)
        except OSError as error:
            raise StartRefused(_unusable(self.path, error)) from error
        except FileHeld as held:
            raise StoreInUse(
                f"The task store {self.path} is in use by {held.owner}, and one process at a time can write it. "
                "Stop that one, or give this one another --data-dir."
            ) from held


def _unusable(path: Path, error: OSError) -> str:
    return (
        f"The task store {path} cannot be written: {error.strerror}. "
        "Let the user that runs Meadow write into that directory, or give another with --data-dir."
    )


def _engine(path: Path, *, begin: str, connections: int) -> Engine:
    reading = begin == "BEGIN"
    where = f"file:{quote(str(path))}?mode={'rw' if reading else 'rwc'}"  # who reads makes no file

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(where, uri=True, check_same_thread=False, timeout=10.0, cached_statements=256)

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=connections, max_overflow=0)

    @event.listens_for(engine, "connect")
    def connected(raw: Any, _: Any) -> None:
        raw.isolation_level = None  # transactions begin where we say, not where the driver thinks
        for pragma in _pragmas(reading):
            raw.execute(f"PRAGMA {pragma}").fetchall()
        register(raw)

    @event.listens_for(engine, "begin")
    def began(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _pragmas(reading: bool) -> list[str]:
    if reading:
        return ["query_only=ON", "cache_size=-16384", "temp_store=MEMORY"]
    return [
        f"page_size={PAGE_SIZE}",
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "cache_size=-65536",
        "temp_store=MEMORY",
        "wal_autocheckpoint=8000",
        "journal_size_limit=67108864",
    ]


def _check_sound(connection: Connection) -> None:
    """A look at every table's first page: a check of the whole file would take minutes when it is large."""
    present = set(inspect(connection).get_table_names())
    for table in schema.metadata.sorted_tables:
        if table.name in present:
            # As it stands there: an older store lacks columns.
            connection.exec_driver_sql(f"SELECT * FROM {table.name} LIMIT 1").all()  # noqa: S608


@contextlib.contextmanager
def _translated(limit: float = 0.0) -> Iterator[None]:
    """SQLAlchemy's and SQLite's errors in our words."""
    try:
        yield
    except exc.OperationalError as error:
        if "interrupted" in str(error.orig):
            raise QueryTooSlow(
                f"The question was given up after {limit:g} s. Narrow it: by name, state or worker, or a longer text."
            ) from error
        raise _store_error(error.orig) from error
    except (exc.IntegrityError, exc.DataError, exc.InterfaceError, exc.ProgrammingError) as error:
        raise StoreRejected(f"The task store cannot hold this: {error.orig}") from error
    except (OverflowError, UnicodeError) as error:
        raise StoreRejected(f"The task store cannot hold this: {error}") from error
    except exc.DBAPIError as error:
        raise _store_error(error.orig) from error
    except sqlite3.Error as error:  # from a cursor that was read without SQLAlchemy
        raise _store_error(error) from error
    except exc.SQLAlchemyError as error:
        raise StoreError(f"The task store failed: {error}") from error


ADVICE = {
    "full": "The disk is full. Make room; a Meadow that runs goes on by itself.",
    "readonly": "It is read-only. Let the user that runs Meadow write the file and its directory.",
    "unable to open": "It cannot be opened. Let the user that runs Meadow read and write the file and its directory.",
    "locked": "Another program holds its lock. Close that program; a Meadow that runs goes on by itself.",
}


def _store_error(error: BaseException | None) -> StoreError:
    text = str(error)
    if any(word in text for word in DAMAGE):
        return StoreDamaged(text)
    for word, advice in ADVICE.items():
        if word in text:
            return StoreError(f"The task store failed ({text}). {advice}")
    return StoreError(f"The task store failed: {text}")
