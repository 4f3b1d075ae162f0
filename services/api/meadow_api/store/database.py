"""The task store's database: one thread that writes, a few that read, and time limits for questions."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection

from meadow.errors import StartRefused
from meadow.settings import Settings
from meadow_api.errors import StoreDamaged, StoreError, StoreGone
from meadow_api.store.backend import Backend
from meadow_api.store.reading_pool import NotTaken, ReadingPool
from meadow_api.store.sqlite_file import SqliteFile

FILE = "store.db"
READERS = 4
TIME_LIMIT = 10.0

T = TypeVar("T")


def place_of(settings: Settings) -> Path | str:
    """Where the settings put the store; raises `StartRefused`."""
    if settings.store:
        return settings.store
    if settings.data_dir is None:
        raise StartRefused("The task store needs a data directory. Give one with --data-dir.")
    return Path(settings.data_dir) / FILE


class Database:
    """The store, a SQLite file or a PostgreSQL URL. `write` runs one piece of work after the other, `read` up to four
    at the same time, on connections that carry `reading_options` (SQLAlchemy's execution options)."""

    def __init__(self, where: Path | str, *, owner: str = "") -> None:
        """`owner`: who else shall be told to have it, by default this process."""
        self._backend = _backend(where, owner)
        self._damaged = False
        self.reading_options: dict[str, Any] = {}
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._reading = ReadingPool(READERS, "store-reader", in_turns=not self._backend.shared)

    @property
    def place(self) -> str:
        """How people call it; without passwords."""
        return self._backend.place

    @property
    def shared(self) -> bool:
        """Whether other processes may write it too."""
        return self._backend.shared

    async def open(self, *, create: bool = True, follow: bool = False) -> None:
        """Open or create it; without `create` an existing one, for reading only, and with `follow` also that which its
        owner puts into the place of a damaged one.

        A damaged file is put aside; a store of a newer Meadow, or one in use, raises `StartRefused`.
        """
        await self._run(self._writing, lambda: self._open(create, follow))

    async def read(self, work: Callable[[Connection], T], *, limit: float = TIME_LIMIT) -> T:
        """Run `work` in a reading thread on one snapshot; raises `QueryTooSlow` or another `StoreError`."""
        return await self._ask(lambda: self._read(work, limit))

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in the writing thread as one transaction; raises `StoreError`."""
        return await self._run(self._writing, lambda: self._write(work))

    async def compute(self, work: Callable[[], T]) -> T:
        """Run `work`, which needs no connection, in the writing thread."""
        return await self._run(self._writing, work)

    async def lead(self) -> bool:
        """Whether this process is the one that follows the streams; tries to become it. Raises `StoreError`."""
        return await self._ask(self._backend.lead)

    async def close(self) -> None:
        """Finish the transaction under way, give up questions, let go of the store. May be called twice."""
        self._reading.shut()
        await asyncio.to_thread(self._backend.interrupt)
        await asyncio.to_thread(self._reading.join)
        await asyncio.to_thread(self._writing.shutdown)
        await asyncio.to_thread(self._backend.dispose)

    async def put_aside(self) -> None:
        """Move a damaged store away and begin with an empty one, unless it was done already; raises `StoreError`."""
        await self._run(self._writing, self._put_aside_and_create)

    async def _ask(self, work: Callable[[], T]) -> T:
        try:
            return await self._reading.run(work)
        except NotTaken as exc:
            raise StoreError(str(exc)) from exc

    async def _run(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        try:
            future = asyncio.get_running_loop().run_in_executor(pool, work)
        except RuntimeError as exc:
            raise StoreError("The task store is closed.") from exc
        return await future

    def _open(self, create: bool, follow: bool) -> None:
        try:
            self._backend.open(create=create, follow=follow)
        except StoreDamaged as exc:
            if not create:
                raise
            self._backend.put_aside(str(exc))
            self._backend.open(create=True)

    def _put_aside_and_create(self) -> None:
        if not self._damaged:
            return
        self._backend.put_aside("it was found to be damaged while it was used")
        self._backend.open(create=True)
        self._damaged = False

    def _read(self, work: Callable[[Connection], T], limit: float) -> T:
        try:
            return self._read_once(work, limit)
        except StoreGone:  # a connection may have been cut while nobody used it
            return self._read_once(work, limit)

    def _read_once(self, work: Callable[[Connection], T], limit: float) -> T:
        with self._noticed(), self._backend.reading(limit) as connection:
            return work(connection.execution_options(**self.reading_options))

    def _write(self, work: Callable[[Connection], T]) -> T:
        with self._noticed(), self._backend.writing() as connection:
            return work(connection)

    @contextlib.contextmanager
    def _noticed(self) -> Iterator[None]:
        try:
            yield
        except StoreDamaged:
            self._damaged = True
            raise


def _backend(where: Path | str, owner: str) -> Backend:
    if isinstance(where, Path):
        return SqliteFile(where, owner)
    from meadow_api.store.postgres import PostgresDatabase  # only who has one loads its driver

    return PostgresDatabase(where)
