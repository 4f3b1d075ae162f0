"""Which process follows the streams into a store that several share: one at a time, the others stand by."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from meadow_api.errors import StoreError
from meadow_api.store.database import Database

log = logging.getLogger(__name__)

TICK = 1.0


class Turn:
    """Whose turn it is. A store that nobody shares is always ours.

    `stand_by` is called every second while it is another's.
    """

    def __init__(self, database: Database, stand_by: Callable[[], Awaitable[None]]) -> None:
        self._database = database
        self._stand_by = stand_by
        self._ours = asyncio.Event()
        self._standing_by = False
        if not database.shared:
            self._ours.set()

    @property
    def ours(self) -> bool:
        """Whether this process follows."""
        return self._ours.is_set()

    async def wait(self) -> None:
        """Return when it is our turn."""
        await self._ours.wait()

    async def run(self) -> None:
        """Try for the turn, and notice when it is lost, until cancelled."""
        while self._database.shared:
            try:
                await self._look(await self._database.lead())
            except StoreError as exc:
                self._lost(str(exc))
            await asyncio.sleep(TICK)

    async def _look(self, leads: bool) -> None:
        if not leads:
            self._lost("another Meadow writes it")
            await self._stand_by()
        elif not self.ours:
            self._ours.set()
            self._standing_by = False
            log.info("This process writes %s now.", self._database.place, extra={"action": "store.leads"})

    def _lost(self, reason: str) -> None:
        if self.ours or not self._standing_by:
            log.info(
                "This process reads %s and stands by: %s",
                self._database.place,
                reason,
                extra={"action": "store.stands-by"},
            )
        self._ours.clear()
        self._standing_by = True
