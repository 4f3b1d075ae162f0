"""Lets go of what the store need not keep, a little at a time, so that neither writing nor a page waits for it."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from sqlalchemy import Connection

from meadow_api.store import retention
from meadow_api.store.database import Database
from meadow_api.store.retention import Limits, Surplus
from meadow_api.store.weight import Kind

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
        limits = self._limits
        gone = await self._forget_all(partial(retention.by_age, limits=limits, now=now))
        gone += await self._forget_all(partial(retention.by_number, limits=limits))
        for rule in (partial(retention.by_size, limits=limits), partial(retention.oversize, limits=limits)):
            while step := await self._forget_all(rule):
                gone += step
        await self._forget_history(now)
        return gone

    async def _forget_all(self, rule: Callable[[Connection], list[Surplus]]) -> int:
        """Delete what one rule finds now; the next one counts anew, since what went need not go again."""
        return sum([await self._forget(_at_once(surplus)) for surplus in await self._database.read(rule)])

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
                went = await self._database.write(lambda c: retention.forget(c, surplus, ids))  # noqa: B023
                gone += went
                self._clean[surplus.kind] = found[-1][1]
                await self._pace(time.perf_counter() - begun)
                if not went:  # another process was faster
                    break
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


def _at_once(surplus: Surplus) -> Surplus:
    """Of what is too large a quarter: then all is weighed anew, since the oldest tasks may be larger than others."""
    if surplus.number is None or surplus.reason != "size":
        return surplus
    return replace(surplus, number=max(surplus.number // 4, min(surplus.number, retention.LEAST)))
