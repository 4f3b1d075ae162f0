"""Keeps the index of texts that the store has: a file beside SQLite's, or PostgreSQL's trigrams."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from meadow.settings import Settings
from meadow_api.file_mark import FileMark
from meadow_api.search import postgres_trigrams
from meadow_api.search.index_writer import IndexWriter
from meadow_api.search.indexing import Indexing
from meadow_api.search.text_index import TextIndex
from meadow_api.store.database import Database, place_of

log = logging.getLogger(__name__)

FILE = "search.db"
PAUSE = 300.0


def index_of(settings: Settings, trusted: Callable[[], FileMark | None]) -> TextIndex | None:
    """The text index for whoever searches, if it is a file. `trusted`: see there."""
    place = place_of(settings)
    return TextIndex(place.with_name(FILE), trusted) if isinstance(place, Path) else None


class SearchUpkeep:
    """`run` until cancelled; `close` before the store is closed."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._place = place_of(settings)
        self._writer: IndexWriter | None = None
        self._indexing: Indexing | None = None
        self._making: list[psycopg.Connection[Any]] = []
        if isinstance(self._place, Path):
            self._writer = IndexWriter(self._place.with_name(FILE))
            self._indexing = Indexing(database, self._place, self._writer)

    @property
    def mark(self) -> FileMark | None:
        """The file of the index, when it belongs to the store as it is."""
        return None if self._writer is None else self._writer.mark

    async def run(self) -> None:
        """Keep the index up to date."""
        if self._indexing is not None:
            await self._indexing.run()
        made = await self._made()
        while not made:
            await asyncio.sleep(PAUSE)
            made = await self._made()
        await asyncio.Event().wait()  # PostgreSQL does the rest

    async def close(self) -> None:
        """Stop reading the store, and let go of the index. May be called twice."""
        if self._indexing is not None:
            await self._indexing.close()
        for connection in self._making:
            await asyncio.to_thread(connection.cancel)

    async def _made(self) -> bool:
        try:
            return await asyncio.to_thread(postgres_trigrams.make_index, str(self._place), self._making)
        except psycopg.Error as exc:
            log.warning(
                "Texts are searched without an index for now: %s",
                str(exc).partition("\n")[0],
                extra={"action": "search.index-failed"},
            )
            return False
