"""What arrives from the broker, made into facts and put into the outbox. Lives in the reader's thread."""

import logging
from collections.abc import Callable
from typing import Any

from meadow import subjects
from meadow.broker import Dropped
from meadow.codec import encode
from meadow.errors import InvalidEvent
from meadow.events import CeleryEvent, WorkerEvent
from meadow.redact import Redactor
from meadow_collector.normalise import Normaliser, each
from meadow_collector.outbox import Entry, Outbox
from meadow_collector.redelivery import Redelivered
from meadow_collector.shortcut import Shortcut

log = logging.getLogger(__name__)

SMALLEST_FIELD = 256
MOST_REASONS = 50
LONGEST_DETAIL = 200


class Intake:
    """Takes decoded messages, never blocks, never raises. Counts what it received and what it discarded, by reason."""

    def __init__(
        self,
        outbox: Outbox,
        redactor: Redactor,
        field_bytes: int,
        largest_event: Callable[[], int],
        redelivered: Redelivered | None = None,
    ) -> None:
        self._outbox = outbox
        self._redelivered = redelivered
        self._redactor = redactor
        self._field_bytes = field_bytes
        self._normaliser = Normaliser(field_bytes, redactor)
        self._shortcut = Shortcut(field_bytes, redactor)
        self._largest_event = largest_event
        self._discarded: dict[str, int] = {}
        self.received = 0

    def deliver(
        self, body: Any, seen: float, stored: Callable[[], None] | None = None, *, redelivered: bool = False
    ) -> None:
        """One message: an event or a list of them. See `meadow.broker.Deliver`."""
        if isinstance(body, Dropped):
            self.received += body.events
            self._outbox.note_dropped(body.start, body.end, body.events)
            return
        largest = self._largest_event()
        shortcut = self._shortcut.take
        entries = []
        for event in each(body):
            self.received += 1
            try:
                usual = shortcut(event, seen)
                if usual is not None and len(usual.data) <= largest:
                    entries.append(usual)
                else:
                    entries.append(self._entry(event, seen, largest))
            except InvalidEvent as exc:
                self._count(exc.reason, str(exc))
            except Exception:
                log.exception("An event could not be normalised.", extra={"action": "event.failed"})
                self._count("failed", "see the traceback above")
        if redelivered and stored is not None and self._redelivered is not None:
            self._redelivered.put(entries, stored)
        elif entries or stored is not None:
            self._outbox.put(entries, stored)

    def discard(self, reason: str, detail: str) -> None:
        """One message that could not be decoded."""
        self.received += 1
        self._count(reason, detail)

    @property
    def discarded(self) -> dict[str, int]:
        """How many events were discarded, by reason."""
        return self._discarded.copy()

    def _entry(self, event: Any, seen: float, largest: int) -> Entry:
        fact = self._normaliser.fact(event, seen)
        data = encode(fact)
        if len(data) > largest:
            data = self._smaller(event, seen, largest)
        return Entry(kind_of(fact), seen, data)

    def _smaller(self, event: Any, seen: float, largest: int) -> bytes:
        """The fact with its texts cut until it fits into one message on NATS."""
        limit = min(self._field_bytes, largest) // 2
        while limit >= SMALLEST_FIELD:
            data = encode(Normaliser(limit, self._redactor).fact(event, seen))
            if len(data) <= largest:
                return data
            limit //= 2
        raise InvalidEvent("too-large", f"it does not fit into {largest} bytes")

    def _count(self, reason: str, detail: str) -> None:
        if reason not in self._discarded and len(self._discarded) >= MOST_REASONS:
            reason = "other"
        self._discarded[reason] = self._discarded.get(reason, 0) + 1
        if self._discarded[reason] == 1:
            log.warning(
                "An invalid event was discarded (%s). More of them are only counted.",
                self._redactor.text(detail[:LONGEST_DETAIL]),
                extra={"action": "event.discarded", "reason": reason},
            )


def kind_of(fact: CeleryEvent) -> str:
    """The last part of the subject on which the fact is told."""
    if isinstance(fact, WorkerEvent) or getattr(fact, "event", "").startswith("worker-"):
        return subjects.WORKERS
    return subjects.TASKS
