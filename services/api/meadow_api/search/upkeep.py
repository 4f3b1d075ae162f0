"""Which index of texts the store has: a file beside SQLite's, or PostgreSQL's trigrams."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from meadow.settings import Settings
from meadow_api.file_mark import FileMark
from meadow_api.search.index_writer import IndexWriter
from meadow_api.search.indexing import Indexing
from meadow_api.search.text_index import TextIndex
from meadow_api.store.database import Database, place_of

FILE = "search.db"


class Upkeep(Protocol):
    """Keeps an index of texts."""

    @property
    def mark(self) -> FileMark | None:
        """The file of the index when it belongs to the store as it is; `None` also where it is no file."""

    async def run(self) -> None:
        """Keep it up to date until cancelled."""

    async def close(self) -> None:
        """Stop reading the store, which is about to be closed. May be called twice."""


def upkeep_of(database: Database, settings: Settings) -> Upkeep:
    """For who writes the store."""
    place = place_of(settings)
    if isinstance(place, Path):
        return Indexing(database, place, IndexWriter(place.with_name(FILE)))
    from meadow_api.search.postgres_trigrams import Trigrams  # only who has a PostgreSQL loads its driver

    return Trigrams(place)


def index_of(settings: Settings, trusted: Callable[[], FileMark | None]) -> TextIndex | None:
    """For who searches, where it is a file; `trusted` as `TextIndex` wants it."""
    place = place_of(settings)
    return TextIndex(place.with_name(FILE), trusted) if isinstance(place, Path) else None
