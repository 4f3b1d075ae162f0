"""Equal questions are answered once: a page that many look at costs little more than one that a single one looks at.

Nobody gets an answer that is older than the question: one joins only those that nobody has begun to answer, and what
is kept is for who finds the store as it was then.
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable

from sqlalchemy import Connection

from meadow_api.store.database import Database
from meadow_api.v1.replies import Answer

MOST_KEPT = 8 * 1024 * 1024
LARGEST_KEPT = 1024 * 1024


class AskerGone(Exception):
    """Who asked first went away, as browsers do, before there was an answer: the others have to ask themselves."""


class Sharing:
    """The questions that wait for a reading thread, and the last answers."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[tuple[object, ...], list[asyncio.Future[Answer]]] = {}
        self._kept: OrderedDict[tuple[object, ...], Answer] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    async def answer(self, question: tuple[object, ...], work: Callable[[Connection], Answer]) -> Answer:
        """What `work` finds in a reading thread, for all who ask the same before it begins."""
        while (others := self._waiting.get(question)) is not None:
            other: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            others.append(other)
            try:
                return await other
            except AskerGone:
                continue
        others = self._waiting[question] = []

        def begun(connection: Connection) -> Answer:
            self._waiting.pop(question, None)
            return work(connection)

        try:
            found = await self._database.read(begun)
        except BaseException as exc:
            self._give_up(question, others, exc)
            raise
        for other in others:
            if not other.done():
                other.set_result(found)
        return found

    def kept(self, key: tuple[object, ...]) -> Answer | None:
        """The answer that was kept under this key."""
        with self._lock:
            return self._kept.get(key)

    def keep(self, key: tuple[object, ...], answer: Answer) -> None:
        """Keep the answer for others, and let go of the oldest ones."""
        size = len(answer.body or b"")
        if size > LARGEST_KEPT:
            return
        with self._lock:
            if key in self._kept:
                return
            self._kept[key] = answer
            self._size += size
            while self._size > MOST_KEPT:
                _, oldest = self._kept.popitem(last=False)
                self._size -= len(oldest.body or b"")

    def _give_up(self, question: tuple[object, ...], others: list[asyncio.Future[Answer]], exc: BaseException) -> None:
        if self._waiting.get(question) is others:  # it failed before it began
            del self._waiting[question]
        for other in others:
            if not other.done():
                other.set_exception(AskerGone() if isinstance(exc, asyncio.CancelledError) else exc)
