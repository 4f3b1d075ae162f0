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
            while self._waiting and await self._store(self._waiting[0]):
                self._waiting.popleft()
                if not self._waiting:
                    log.info("All audit outcomes are stored again.", extra={"action": "audit.caught-up"})

    def health(self) -> dict[str, int]:
        """Outcomes that wait, and those given up."""
        return {"audit_waiting": len(self._waiting), "audit_lost": self._lost}

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
