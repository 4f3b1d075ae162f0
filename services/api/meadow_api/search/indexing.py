"""Keeps the text index of a SQLite store up to date, in a thread of its own and for a quarter of its time at most.

Rows are promised to the index in steps: from then on the store marks those of them that change. Promised rows are read
and added, then the marked ones again. A row is promised when it is some seconds old, since most tasks have ended by
then. What is not in the index yet is looked at directly by whoever searches (`store/task_search`).
"""

import asyncio
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from sqlalchemy import Connection

from meadow_api.errors import StoreError
from meadow_api.file_mark import FileMark
from meadow_api.search.index_writer import IndexWriter, Row
from meadow_api.search.text_index import Part, State
from meadow_api.store import text_marks
from meadow_api.store.database import Database
from meadow_api.store.text_marks import Claim

log = logging.getLogger(__name__)

SETTLED = 10.0
TICK = 1.0
PAUSE = 5.0
HOUSEKEEPING = 60.0
ROWS_AT_ONCE = 500
PROMISED_AT_ONCE = 10_000
SHARE = 0.25
"""The part of the time that indexing may take."""
MARKS_KEPT = 30.0
"""Longer than any search reads from one snapshot."""
PAGES_AT_ONCE = 500
SAMPLED = 200

_TEXTS = "SELECT id, uuid, queue, args, kwargs, result, exception, traceback FROM tasks "

T = TypeVar("T")


class Indexing:
    """The writing half of the index. `run` until cancelled, then `close`."""

    def __init__(self, database: Database, store: Path, index: IndexWriter) -> None:
        self._database = database
        self._store = store
        self._index = index
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="text-index")
        self._source: sqlite3.Connection | None = None
        self._claim = Claim("", 0)
        self._state = State("")
        self._sizes: deque[tuple[float, int]] = deque()
        self._settled = 0
        self._seen: deque[tuple[float, int]] = deque()
        self._kept_house = 0.0
        self._error: str | None = None

    async def run(self) -> None:
        """Index what there is and what comes."""
        while True:
            try:
                await self._begin()
                while await self._matches():
                    if not await self._step():
                        await self._keep_house()
                        await asyncio.sleep(TICK)
            except (StoreError, sqlite3.Error, OSError) as exc:
                await self._failed(exc)

    async def close(self) -> None:
        """Finish the step under way and let go of the files. May be called twice."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._thread.shutdown()
        self._index.close()
        if self._source is not None:
            self._source.close()
            self._source = None

    @property
    def mark(self) -> FileMark | None:
        """The file of the index, while searches may trust it."""
        return self._index.mark

    async def _begin(self) -> None:
        self._claim = await self._database.write(text_marks.make)
        self._state = await self._work(lambda: self._open(self._claim.identity))
        newest = await self._database.read(text_marks.newest_mark)
        if self._state.marks > newest:
            # The store is older than its index: a copy was put back.
            await self._work(self._index.remove)
            self._state = await self._work(lambda: self._open(self._claim.identity))
        if self._state.position == 0:
            await self._promise(0)
        self._index.vouch()
        self._settled = await self._database.read(text_marks.newest_row)
        self._sizes.clear()
        self._seen.clear()
        log.info(
            "The text index holds tasks up to row %d.", self._state.position, extra={"action": "search.index-opened"}
        )

    def _open(self, identity: str) -> State:
        if self._source is not None:
            self._source.close()
        self._source = sqlite3.connect(f"file:{quote(str(self._store))}?mode=ro", uri=True, check_same_thread=False)
        self._source.text_factory = lambda raw: raw.decode("utf-8", "replace")
        return self._index.open(identity)

    async def _matches(self) -> bool:
        """Whether store and index are still those that were begun with; also notices how the store grows."""

        def work(connection: Connection) -> tuple[Claim | None, int]:
            return text_marks.read_claim(connection), text_marks.newest_row(connection)

        claim, newest = await self._database.read(work)
        now = time.monotonic()
        if not self._sizes or now - self._sizes[-1][0] >= TICK:
            self._sizes.append((now, newest))
        if not self._index.there or claim is None or claim.identity != self._claim.identity:
            return False
        self._claim = claim
        if self._state.position > claim.position:
            # The newest rows were deleted. Their numbers come again, and are waited for as for any new row.
            self._sizes.clear()
            self._settled = claim.position
            self._state = replace(self._state, position=claim.position)
            await self._work(lambda: self._index.add([], self._state))
        return True

    async def _step(self) -> bool:
        """One step; whether there was something to do."""
        if self._state.position >= self._claim.position:
            settled = self._settle()
            if settled > self._claim.position:
                await self._promise(min(settled, self._claim.position + PROMISED_AT_ONCE))
        began = time.monotonic()
        if self._state.position < self._claim.position:
            self._state = await self._work(self._add_promised)
        else:
            before = self._state
            self._state = await self._work(self._add_marked)
            if self._state == before:
                return False
        self._recovered()
        await asyncio.sleep((time.monotonic() - began) * (1 / SHARE - 1))
        return True

    def _settle(self) -> int:
        """The newest row that has been there for some seconds, or when all began."""
        while self._sizes and time.monotonic() - self._sizes[0][0] >= SETTLED:
            self._settled = self._sizes.popleft()[1]
        return self._settled

    async def _promise(self, position: int) -> None:
        await self._database.write(lambda c: text_marks.promise(c, position))
        self._claim = replace(self._claim, position=position)

    def _add_promised(self) -> State:
        rows = self._texts(
            "WHERE id > ? AND id <= ? ORDER BY id LIMIT ?",
            (self._state.position, self._claim.position, ROWS_AT_ONCE),
        )
        position = rows[-1][0] if len(rows) == ROWS_AT_ONCE else self._claim.position
        state = replace(self._state, position=position)
        self._index.add(rows, state)
        return state

    def _add_marked(self) -> State:
        statement = "SELECT seq, id FROM text_marks WHERE seq > ? ORDER BY seq LIMIT ?"
        marks = self._query(statement, (self._state.marks, ROWS_AT_ONCE))
        if not marks:
            return self._state
        ids = ",".join(str(id) for _, id in marks)
        rows = self._texts(f"WHERE id IN ({ids})", ())
        state = replace(self._state, marks=marks[-1][0])
        self._index.add(rows, state)
        return state

    def _texts(self, where: str, values: Sequence[int]) -> list[Row]:
        return [(id, folded(texts)) for id, *texts in self._query(_TEXTS + where, values)]

    def _query(self, statement: str, values: Sequence[int]) -> list[tuple[int, ...]]:
        if self._source is None:
            raise StoreError("The text index is closed.")
        return self._source.execute(statement, values).fetchall()

    # -- keeping house --------------------------------------------------------------------------------------------

    async def _keep_house(self) -> None:
        """Forget marks that nobody reads any more, ranges without tasks, and what is left of deleted ones."""
        now = time.monotonic()
        self._seen.append((now, self._state.marks))
        done = 0
        while self._seen and now - self._seen[0][0] > MARKS_KEPT:
            done = self._seen.popleft()[1]
        if done:
            await self._database.write(lambda c: text_marks.forget_marks(c, done))
        if now - self._kept_house > HOUSEKEEPING:
            self._kept_house = now
            for part in await self._work(self._index.parts):
                if part.rows.stop <= self._state.position:
                    await self._tidy(part)

    async def _tidy(self, part: Part) -> None:
        left = await self._work(lambda: self._estimate(part))
        if left == 0:
            await self._work(lambda: self._index.drop(part.number))
        elif left * 2 < part.tasks:
            await self._work(lambda: self._renew(part))
        elif not part.merged:
            more = await self._work(lambda: self._index.merge(part.number, PAGES_AT_ONCE, begin=True))
            while more:
                began = time.monotonic()
                more = await self._work(lambda: self._index.merge(part.number, PAGES_AT_ONCE, begin=False))
                await asyncio.sleep((time.monotonic() - began) * (1 / SHARE - 1))

    def _estimate(self, part: Part) -> int:
        """How many tasks of the range are left, from a sample; 0 when there is none."""
        first = self._query("SELECT id FROM tasks WHERE id >= ? ORDER BY id LIMIT 1", (part.rows.start,))
        if not first or first[0][0] >= part.rows.stop:
            return 0
        sample = part.rows[:: max(1, len(part.rows) // SAMPLED)]
        ids = ",".join(map(str, sample))
        found = self._query(f"SELECT count(*) FROM tasks WHERE id IN ({ids})", ())[0][0]  # noqa: S608 -- numbers
        return max(1, found * len(part.rows) // len(sample))

    def _renew(self, part: Part) -> None:
        rows = self._texts("WHERE id >= ? AND id < ? ORDER BY id", (part.rows.start, part.rows.stop))
        self._index.replace(part.number, rows)

    # -- failing --------------------------------------------------------------------------------------------------

    async def _failed(self, exc: Exception) -> None:
        if isinstance(exc, sqlite3.Error):
            self._index.failed(exc)
        if self._error != str(exc):
            log.warning("Texts are searched without an index for now: %s", exc, extra={"action": "search.index-failed"})
        self._error = str(exc)
        await asyncio.sleep(PAUSE)

    def _recovered(self) -> None:
        if self._error is not None:
            log.info("Texts are indexed again.", extra={"action": "search.index-goes-on"})
        self._error = None

    async def _work(self, work: Callable[[], T]) -> T:
        try:
            future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        except RuntimeError as exc:
            raise StoreError("The text index is closed.") from exc
        return await future


def folded(texts: Sequence[object]) -> str:
    """A task's texts as the index knows them. FTS5 reads no further than a NUL."""
    return "\n".join(str(text) for text in texts if text is not None).casefold().replace("\0", " ")
