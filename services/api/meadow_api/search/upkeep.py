"""Which index of texts the store has, and the task that keeps it: a file beside SQLite's, or PostgreSQL's trigrams."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import psycopg

from meadow.settings import Settings
from meadow_api.search import postgres_trigrams
from meadow_api.search.indexing import FILE, Indexing
from meadow_api.search.text_index import TextIndex
from meadow_api.store.database import Database, place_of

log = logging.getLogger(__name__)

PAUSE = 300.0


class SearchIndex:
    """`run` until cancelled; `close` when the store is closed. Searches find it by the connections that they read."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._place = place_of(settings)
        self._index: TextIndex | None = None
        self._indexing: Indexing | None = None
        self._making: list[psycopg.Connection[Any]] = []
        if isinstance(self._place, Path):
            self._index = TextIndex(self._place.with_name(FILE))
            self._indexing = Indexing(database, self._place, self._index)
            database.reading_options["text_index"] = self._index

    async def run(self) -> None:
        """Keep the index up to date."""
        if self._indexing is not None:
            await self._indexing.run()
        made = await self._made()
        while not made:
            await asyncio.sleep(PAUSE)
            made = await self._made()
        await asyncio.Event().wait()  # PostgreSQL does the rest

    async def let_go(self) -> None:
        """Stop reading the store, which is about to be closed. May be called twice."""
        if self._indexing is not None:
            await self._indexing.close()

    async def close(self) -> None:
        """Let go of its files. May be called twice."""
        if self._indexing is not None:
            await self._indexing.close()
        if self._index is not None:
            self._index.close()
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
