"""The text index of a PostgreSQL store: a GIN index of trigrams, made while everything goes on, if the server can."""

import asyncio
import logging
from typing import Any

import psycopg
from sqlalchemy import make_url

log = logging.getLogger(__name__)

NAME = "tasks_text"
COLUMNS = ("uuid", "queue", "args", "kwargs", "result", "exception", "traceback")
LOCK = 1296385027
CONNECT_TIMEOUT = 5
PAUSE = 300.0

_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)"


class Trigrams:
    """Makes the index, trying again where it cannot be made yet. PostgreSQL keeps it up to date by itself."""

    mark = None

    def __init__(self, url: str) -> None:
        self._url = url
        self._making: list[psycopg.Connection[Any]] = []

    async def run(self) -> None:
        """Make it, until cancelled."""
        made = await self._made()
        while not made:
            await asyncio.sleep(PAUSE)
            made = await self._made()
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Give up making it. May be called twice."""
        for connection in self._making:
            await asyncio.to_thread(connection.cancel)

    async def _made(self) -> bool:
        try:
            return await asyncio.to_thread(make_index, self._url, self._making)
        except psycopg.Error as exc:
            log.warning(
                "Texts are searched without an index for now: %s",
                str(exc).partition("\n")[0],
                extra={"action": "search.index-failed"},
            )
            return False


def make_index(url: str, making: list[psycopg.Connection[Any]]) -> bool:
    """Make the index unless it is there; whether it is there now. Raises `psycopg.Error`.

    May take minutes: `making` holds the connection meanwhile, so that it can be cancelled.
    """
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(
        address, autocommit=True, connect_timeout=CONNECT_TIMEOUT, application_name="meadow (text index)"
    ) as connection:
        making.append(connection)
        try:
            return _make(connection)
        finally:
            making.remove(connection)


def _make(connection: psycopg.Connection[Any]) -> bool:
    if not _first(connection, f"SELECT pg_try_advisory_lock({LOCK}, hashtext(current_schema()))"):
        return False  # another process is at it
    if _first(connection, _VALID, NAME):
        return True
    if not _extension(connection):
        return False
    # One that was not finished helps nobody, and its name is in the way.
    connection.execute(f"DROP INDEX IF EXISTS {NAME}")
    listed = ", ".join(f"{column} gin_trgm_ops" for column in COLUMNS)
    connection.execute(f"CREATE INDEX CONCURRENTLY {NAME} ON tasks USING gin ({listed})")
    log.info("Texts of tasks are found by an index of trigrams now.", extra={"action": "search.index-opened"})
    return True


def _extension(connection: psycopg.Connection[Any]) -> bool:
    try:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    except psycopg.Error as exc:
        log.warning(
            "Texts are searched without an index, since PostgreSQL has no pg_trgm here: %s. "
            "Let an administrator run CREATE EXTENSION pg_trgm, and start Meadow again.",
            str(exc).partition("\n")[0],
            extra={"action": "search.index-failed"},
        )
        return False
    return True


def _first(connection: psycopg.Connection[Any], statement: str, *values: str) -> Any:
    row = connection.execute(statement, values or None).fetchone()
    return None if row is None else row[0]
