"""Writes the audit stream: the intent before anything is done, the outcome after it."""

import asyncio
import logging
from collections import deque

from meadow import codec, subjects
from meadow.audit import AuditIntent, AuditOutcome
from meadow.bus import Bus
from meadow.errors import BusError

log = logging.getLogger(__name__)

WAITING = 1000
AGAIN_SECONDS = 1.0


class AuditLog:
    """Intents are stored or refused. Outcomes that cannot be stored wait, at most `WAITING` of them, for NATS."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: deque[AuditOutcome] = deque()
        self._lost = 0

    async def intend(self, intent: AuditIntent) -> None:
        """Store the intent; raises `BusUnavailable`, and then nothing may be done."""
        await self._bus.append(subjects.audit(intent.cluster), codec.encode(intent), message_id=f"{intent.id}-intent")

    async def conclude(self, outcome: AuditOutcome) -> None:
        """Store the outcome, now or as soon as NATS is back."""
        if self._waiting or not await self._store(outcome):
            self._wait_with(outcome)

    async def catch_up(self) -> None:
        """Store the outcomes that wait, for ever."""
        while True:
            await asyncio.sleep(AGAIN_SECONDS)
            await self._store_waiting()

    async def stop(self) -> None:
        """Try once more to store what waits, and say what is lost. May be called twice."""
        if self._waiting and self._bus.connected:
            await self._store_waiting()
        if self._waiting:
            text = "%d audit outcomes are lost: NATS did not take them before the end. Their intents are recorded."
            log.error(text, len(self._waiting), extra={"action": "audit.lost"})
            self._lost += len(self._waiting)
            self._waiting.clear()

    def health(self) -> dict[str, int]:
        """Outcomes that wait, and those given up."""
        return {"audit_waiting": len(self._waiting), "audit_lost": self._lost}

    async def _store_waiting(self) -> None:
        """Store the outcomes that wait, the oldest first, until one cannot be."""
        while self._waiting:
            oldest = self._waiting[0]
            if not await self._store(oldest):
                return
            if self._waiting and self._waiting[0] is oldest:  # it may have been given up meanwhile
                self._waiting.popleft()
            if not self._waiting:
                log.info("All audit outcomes are stored again.", extra={"action": "audit.caught-up"})

    async def _store(self, outcome: AuditOutcome) -> bool:
        try:
            await self._bus.append(
                subjects.audit(outcome.cluster), codec.encode(outcome), message_id=f"{outcome.id}-outcome"
            )
        except BusError as exc:
            if not self._waiting:
                log.error("An audit outcome has to wait: %s", exc, extra={"action": "audit.waits", "id": outcome.id})
            return False
        return True

    def _wait_with(self, outcome: AuditOutcome) -> None:
        if len(self._waiting) >= WAITING:
            self._lost += 1
            lost = self._waiting.popleft()
            log.error("The audit outcome %s is lost: too many wait.", lost.id, extra={"action": "audit.lost"})
        self._waiting.append(outcome)
