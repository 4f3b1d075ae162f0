"""The task store in PostgreSQL, which several processes may share.

Every transaction that writes takes one advisory lock first, so that there is one after the other, as in SQLite. Which
process follows the streams is a second lock, held by a connection of its own for as long as it lives. What a process
does that was cut off without noticing comes to nothing: the stream's position in the store has moved then.
"""

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.types.string import StrDumper
from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, make_url

from meadow.errors import StartRefused
from meadow_api.errors import QueryTooSlow, StoreError, StoreGone, StoreRejected
from meadow_api.store import revisions

log = logging.getLogger(__name__)

READERS = 4
READ_LIMIT = 10.0
CONNECT_TIMEOUT = 5
START_PATIENCE = 30.0
PAUSE = 0.5

WRITES = 1296385025
LEADS = 1296385026

# Else a plan may be kept from when a table was empty, and read all of it when it is large.
_PLANNED = ("SET plan_cache_mode = force_custom_plan", "SET jit = off")
# A process that hangs in a transaction must not hold the others for ever, nor one whose machine is gone.
_WRITER = (
    "SET lock_timeout = '20s'",
    "SET idle_in_transaction_session_timeout = '30s'",
    "SET synchronous_commit = off",  # what a crash of the server loses is read again from the stream, position and all
)
_READER = (
    f"SET statement_timeout = '{READ_LIMIT:.0f}s'",
    "SET idle_in_transaction_session_timeout = '60s'",
)
_ALIVE = ("SET tcp_keepalives_idle = 10", "SET tcp_keepalives_interval = 5", "SET tcp_keepalives_count = 3")
# Tables of another schema of the same database are another store.
_LOCK = "(%d, hashtext(current_schema()))"


class PostgresDatabase:
    """One database, reached by its URL."""

    shared = True

    def __init__(self, url: str) -> None:
        self._url = _parsed(url)
        port = f":{self._url.port}" if self._url.port else ""
        self.place = f"postgresql://{self._url.host or 'localhost'}{port}/{self._url.database or ''}"
        self._writer: Engine | None = None
        self._reader: Engine | None = None
        self._leading: Any = None
        self._asked: set[Any] = set()
        self._closing = False

    def open(self, *, create: bool, follow: bool = False) -> None:
        """Connect, with some patience while the server starts."""
        self._writer = self._engine(_WRITER, connections=1, writes=True)
        self._reader = self._engine(_READER, connections=READERS, writes=False)
        self._wait_for_server(START_PATIENCE if create else 0.0)
        with _translated(self.place):
            if create:
                revisions.bring_up_to_date(self._writer, self.place, before=lambda _: None)
            else:
                with self._reader.begin() as connection:
                    revisions.require_current(connection, self.place)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that waits for those of other processes before it begins."""
        with _translated(self.place), _open(self._writer).begin() as connection:
            yield connection

    @contextlib.contextmanager
    def reading(self, limit: float) -> Iterator[Connection]:
        """A snapshot whose every statement ends in time."""
        with _translated(self.place, limit), _open(self._reader).begin() as connection:
            raw: Any = connection.connection.dbapi_connection
            self._asked.add(raw)
            try:
                if self._closing:
                    raise StoreError("The task store is closed.")
                if limit != READ_LIMIT:
                    connection.exec_driver_sql(f"SET LOCAL statement_timeout = {max(1, int(limit * 1000))}")
                yield connection
            finally:
                self._asked.discard(raw)

    def put_aside(self, reason: str) -> None:
        """Nothing that Meadow could do."""
        raise StoreError(f"The task store {self.place} is damaged ({reason}). Restore it from a backup.")

    def lead(self) -> bool:
        """Hold the lock of the one that follows, or try to get it."""
        with _translated(self.place):
            if self._leading is not None:
                try:
                    self._leading.execute("SELECT 1")
                except psycopg.Error:
                    self._let_go()
                else:
                    return True
            with contextlib.ExitStack() as unless_ours:
                connection = unless_ours.enter_context(contextlib.closing(self._connect_alone()))
                got = connection.execute(f"SELECT pg_try_advisory_lock{_LOCK % LEADS}").fetchone()
                if got is None or not got[0]:
                    return False
                self._leading = connection
                unless_ours.pop_all()
            return True

    def interrupt(self) -> None:
        """Cancel what the server works on for us."""
        self._closing = True
        for raw in list(self._asked):
            with contextlib.suppress(psycopg.Error):  # it is over already
                raw.cancel()

    def dispose(self) -> None:
        """Close all connections; another process may follow now."""
        self._let_go()
        for engine in (self._reader, self._writer):
            if engine is not None:
                engine.dispose()
        self._reader = self._writer = None

    def _let_go(self) -> None:
        if self._leading is not None:
            self._leading.close()
            self._leading = None

    def _connect_alone(self) -> Any:
        raw = psycopg.connect(
            self._url.set(drivername="postgresql").render_as_string(hide_password=False),
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT,
            application_name="meadow (leads)",
        )
        for statement in _ALIVE:
            raw.execute(statement)
        return raw

    def _wait_for_server(self, patience: float) -> None:
        end = time.monotonic() + patience
        told = False
        while True:
            try:
                self._connect_alone().close()
                return
            except psycopg.OperationalError as error:
                if time.monotonic() > end or _for_people_only(error):
                    raise StartRefused(
                        f"The task store {self.place} cannot be reached: {_first_line(error)} "
                        "Start PostgreSQL, or correct --store."
                    ) from error
                if not told:
                    log.warning(
                        "Waiting for the task store %s: %s",
                        self.place,
                        _first_line(error),
                        extra={"action": "store.waits"},
                    )
                told = True
                time.sleep(PAUSE)

    def _engine(self, settings: tuple[str, ...], *, connections: int, writes: bool) -> Engine:
        engine = create_engine(
            self._url,
            pool_size=connections,
            max_overflow=0,
            connect_args={"connect_timeout": CONNECT_TIMEOUT, "application_name": "meadow"},
        )

        @event.listens_for(engine, "connect")
        def connected(raw: Any, _: Any) -> None:
            raw.adapters.register_dumper(str, _TextDumper)
            raw.adapters.register_loader("numeric", _NumberLoader)
            raw.autocommit = True
            for statement in (*settings, *_PLANNED, *_ALIVE):
                raw.execute(statement)
            raw.autocommit = False
            if not writes:
                raw.read_only = True
                raw.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ

        if writes:

            @event.listens_for(engine, "begin")
            def began(connection: Connection) -> None:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock{_LOCK % WRITES}")

        return engine


class _TextDumper(StrDumper):
    """PostgreSQL's text holds every character but NUL."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\ufffd") if "\0" in obj else obj)


class _NumberLoader(Loader):
    """Sums of whole numbers are NUMERIC there; here they are numbers as any other."""

    def load(self, data: Buffer) -> int | float:
        text = bytes(data)
        return int(text) if text.lstrip(b"-").isdigit() else float(text)


def _open(engine: Engine | None) -> Engine:
    if engine is None:
        raise StoreError("The task store is closed.")
    return engine


def _parsed(url: str) -> URL:
    try:
        return make_url(url).set(drivername="postgresql+psycopg")
    except (exc.ArgumentError, ValueError):  # which may quote the password
        raise StartRefused(
            "--store is not a URL that can be read. Write postgresql://user:password@host:port/database, "
            "with %-codes for special characters in the password."
        ) from None


def _first_line(error: BaseException | None) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") + "." if lines else "no reason was given."


def _for_people_only(error: psycopg.Error) -> bool:
    """Whether waiting is useless: the server is there and refuses us."""
    text = str(error)
    return any(word in text for word in ("authentication failed", "does not exist", "no pg_hba.conf entry", "password"))


@contextlib.contextmanager
def _translated(place: str, limit: float = 0.0) -> Iterator[None]:
    """SQLAlchemy's and psycopg's errors in our words."""
    try:
        yield
    except exc.DBAPIError as error:
        raise _store_error(error.orig, place, limit) from error
    except psycopg.Error as error:  # from a cursor that was read without SQLAlchemy
        raise _store_error(error, place, limit) from error
    except (OverflowError, UnicodeError) as error:
        raise StoreRejected(f"The task store cannot hold this: {error}") from error
    except exc.SQLAlchemyError as error:
        raise StoreError(f"The task store failed: {error}") from error


def _store_error(error: BaseException | None, place: str, limit: float) -> StoreError:
    match error:
        case psycopg.errors.QueryCanceled():
            return QueryTooSlow(
                f"The question was given up after {limit:g} s. Narrow it: by name, state or worker, or a longer text."
            )
        case psycopg.DataError() | psycopg.IntegrityError() | psycopg.errors.ProgramLimitExceeded():
            return StoreRejected(f"The task store cannot hold this: {_first_line(error)}")
        case psycopg.errors.DiskFull():
            return StoreError(f"The disk of {place} is full. Make room; a Meadow that runs goes on by itself.")
        case psycopg.errors.InsufficientPrivilege():
            return StoreError(f"The task store {place} refuses: {_first_line(error)} Grant the user of --store this.")
        case psycopg.OperationalError() | psycopg.InterfaceError():
            return StoreGone(f"The task store {place} does not answer: {_first_line(error)}")
    return StoreError(f"The task store {place} failed: {_first_line(error)}")
