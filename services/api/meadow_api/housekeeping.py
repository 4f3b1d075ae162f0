"""Lets go of what the store need not keep, a little at a time, so that neither writing nor a page waits for it."""

import asyncio
import logging
import time
from collections import Counter

from meadow_api.store import retention
from meadow_api.store.database import Database
from meadow_api.store.retention import Kind, Limits, Surplus

log = logging.getLogger(__name__)

LONGEST_STEP = 0.05
FEWEST, MOST = 50, 4000
LOOK_AGAIN = 3600.0


class Housekeeping:
    """Deletes by the limits. `sweep` is one round; `deleted` counts the tasks that went, by reason."""

    def __init__(self, database: Database, limits: Limits) -> None:
        self._database = database
        self._limits = limits
        self._step = 500
        self._clean: dict[Kind, float] = {}
        self._looked = time.monotonic()
        self.deleted: Counter[str] = Counter()

    async def sweep(self, now: float) -> int:
        """Delete what is to go by now; gives the number of tasks. Raises `StoreError`."""
        if time.monotonic() - self._looked > LOOK_AGAIN:  # tasks may have come that were old already
            self._clean.clear()
            self._looked = time.monotonic()
        gone = 0
        for surplus in await self._database.read(lambda c: retention.surpluses(c, self._limits, now)):
            gone += await self._forget(surplus)
        while found := await self._database.read(lambda c: retention.oversize(c, self._limits, self._step)):
            step = await self._forget(found[0])
            if not step:
                break
            gone += step
        await self._forget_history(now)
        return gone

    async def _forget(self, surplus: Surplus) -> int:
        """Step by step; in between, writing has its turn."""
        gone = 0
        while surplus.number is None or gone < surplus.number:
            most = self._step if surplus.number is None else min(self._step, surplus.number - gone)
            after = self._clean.get(surplus.kind)
            found = await self._database.read(lambda c: retention.candidates(c, surplus, after, most))  # noqa: B023
            if found:
                begun = time.perf_counter()
                ids = [id for id, _ in found]
                gone += await self._database.write(lambda c: retention.forget(c, surplus, ids))  # noqa: B023
                self._clean[surplus.kind] = found[-1][1]
                await self._pace(time.perf_counter() - begun)
            if len(found) < most:
                break
        self.deleted[surplus.reason] += gone
        return gone

    async def _pace(self, took: float) -> None:
        """Steps of about the same length, with pauses half as long. Writing has its turn after each step anyway."""
        faster = LONGEST_STEP / max(took, 0.001)
        self._step = int(min(max(self._step * min(max(faster, 0.5), 2.0), FEWEST), MOST))
        await asyncio.sleep(took / 2)

    async def _forget_history(self, now: float) -> None:
        gone = retention.STEP
        while gone >= retention.STEP:
            gone = await self._database.write(lambda c: retention.forget_history(c, self._limits, now))
