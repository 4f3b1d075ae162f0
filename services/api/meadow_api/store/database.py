"""The SQLite file: how it is opened, one thread that writes, a few that read, and time limits for questions."""

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, exc, insert, inspect, select
from sqlalchemy.pool import QueuePool

from meadow.errors import StartRefused
from meadow_api.errors import QueryTooSlow, StoreDamaged, StoreError, StoreRejected
from meadow_api.search.functions import register
from meadow_api.store import schema

log = logging.getLogger(__name__)

READERS = 4
TIME_LIMIT = 10.0
STEPS_BETWEEN_CHECKS = 20_000
DAMAGE = ("malformed", "not a database", "disk image", "file is encrypted")

T = TypeVar("T")


class Database:
    """The store's file. `write` runs one piece of work after the other, `read` up to four at the same time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: Engine | None = None
        self._reader: Engine | None = None
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._reading = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._closing = False

    async def open(self) -> None:
        """Open or create the file. A damaged one is put aside; one of a newer Meadow raises `StartRefused`."""
        await self._run(self._writing, self._open)

    async def read(self, work: Callable[[Connection], T], *, limit: float = TIME_LIMIT) -> T:
        """Run `work` in a reading thread on one snapshot; raises `QueryTooSlow` or another `StoreError`."""
        return await self._run(self._reading, lambda: self._read(work, limit))

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in the writing thread as one transaction; raises `StoreError`."""
        return await self._run(self._writing, lambda: self._write(work))

    async def compute(self, work: Callable[[], T]) -> T:
        """Run `work`, which needs no connection, in the writing thread."""
        return await self._run(self._writing, work)

    async def close(self) -> None:
        """Finish the transaction under way, give up questions, let go of the file. May be called twice."""
        self._closing = True
        await asyncio.to_thread(self._reading.shutdown, cancel_futures=True)
        await asyncio.to_thread(self._writing.shutdown)
        self._dispose()

    async def put_aside(self) -> None:
        """Move a damaged file away and begin with an empty one."""
        await self._run(self._writing, self._put_aside_and_create)

    async def _run(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        try:
            future = asyncio.get_running_loop().run_in_executor(pool, work)
        except RuntimeError as exc:
            raise StoreError("The task store is closed.") from exc
        return await future

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._create()
        except StoreDamaged as exc:
            self._put_aside(str(exc))
            self._create()

    def _put_aside_and_create(self) -> None:
        self._put_aside("it was found to be damaged while it was used")
        self._create()

    def _create(self) -> None:
        self._writer = _engine(self.path, begin="BEGIN IMMEDIATE", readers=1)
        self._reader = _engine(self.path, begin="BEGIN", readers=READERS)
        with _translated(), self._writer.begin() as connection:
            _check_version(connection, self.path)
            _check_sound(connection)
            schema.metadata.create_all(connection)
            if connection.execute(select(schema.meta.c.value)).first() is None:
                connection.execute(insert(schema.meta).values(key="schema", value=str(schema.SCHEMA_VERSION)))

    def _put_aside(self, reason: str) -> None:
        self._dispose()
        mark = time.strftime("%Y%m%d-%H%M%S", time.gmtime()) + f"-{time.monotonic_ns() % 1_000_000:06d}"
        aside = self.path.with_name(f"{self.path.name}.damaged-{mark}")
        self.path.rename(aside)
        for suffix in ("-wal", "-shm"):
            side = self.path.with_name(self.path.name + suffix)
            if side.exists():
                side.rename(aside.with_name(aside.name + suffix))
        log.error(
            "The task store %s is damaged (%s). It was put aside as %s; history is read again from the stream.",
            self.path,
            reason,
            aside.name,
            extra={"action": "store.damaged"},
        )

    def _dispose(self) -> None:
        for engine in (self._reader, self._writer):
            if engine is not None:
                engine.dispose()
        self._reader = self._writer = None

    def _read(self, work: Callable[[Connection], T], limit: float) -> T:
        if self._reader is None:
            raise StoreError("The task store is closed.")
        with _translated(limit), self._reader.begin() as connection:
            raw: Any = connection.connection.dbapi_connection
            end = time.monotonic() + limit
            raw.set_progress_handler(lambda: self._closing or time.monotonic() > end, STEPS_BETWEEN_CHECKS)
            try:
                return work(connection)
            finally:
                raw.set_progress_handler(None, 0)

    def _write(self, work: Callable[[Connection], T]) -> T:
        if self._writer is None:
            raise StoreError("The task store is closed.")
        with _translated(), self._writer.begin() as connection:
            return work(connection)


@contextlib.contextmanager
def _translated(limit: float = 0.0) -> Iterator[None]:
    """SQLAlchemy's errors in our words."""
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


def _store_error(error: BaseException | None) -> StoreError:
    text = str(error)
    if any(word in text for word in DAMAGE):
        return StoreDamaged(text)
    return StoreError(f"The task store failed: {text}")


def _engine(path: Path, *, begin: str, readers: int) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=QueuePool,
        pool_size=readers,
        max_overflow=0,
        connect_args={"check_same_thread": False, "timeout": 10.0, "cached_statements": 256},
    )
    reading = begin == "BEGIN"

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
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "cache_size=-65536",
        "temp_store=MEMORY",
        "wal_autocheckpoint=8000",
        "journal_size_limit=67108864",
    ]


def _check_version(connection: Connection, path: Path) -> None:
    if not inspect(connection).has_table("meta"):
        return
    found = connection.execute(select(schema.meta.c.value).where(schema.meta.c.key == "schema")).scalar()
    if found is not None and (not found.isdigit() or int(found) > schema.SCHEMA_VERSION):
        raise StartRefused(
            f"The task store {path} was written by a newer Meadow (schema {found}, this one knows "
            f"{schema.SCHEMA_VERSION}). Start that release again, or give another --data-dir."
        )


def _check_sound(connection: Connection) -> None:
    """A look at every table's first page: a check of the whole file would take minutes when it is large."""
    for table in schema.metadata.sorted_tables:
        if inspect(connection).has_table(table.name):
            connection.execute(select(table).limit(1)).all()
