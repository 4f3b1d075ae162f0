"""What arrives from the broker, made into facts and put into the outbox. Lives in the reader's thread."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from meadow import subjects
from meadow.broker import Dropped, JsonBodies
from meadow.codec import encode
from meadow.errors import InvalidEvent
from meadow.event_body import JSON, decode_body
from meadow.events import CeleryEvent, WorkerEvent
from meadow.redact import Redactor
from meadow_collector.normalise import Normaliser, each
from meadow_collector.outbox import Entry, Outbox
from meadow_collector.redelivery import Redelivered
from meadow_collector.ring import Ring
from meadow_collector.shortcut import Shortcut, Usual

log = logging.getLogger(__name__)

SMALLEST_FIELD = 256
MOST_REASONS = 50
LONGEST_DETAIL = 200
BLOCK_BYTES = 32 * 1024
"""Bytes of usual events that become one entry, roughly."""
BLOCK_EVENTS = 100


class _Block:
    """Usual events of one kind on their way to one entry, and the messages that told them."""

    __slots__ = ("bodies", "facts", "kind", "size")

    def __init__(self, kind: str | None = None) -> None:
        self.kind = kind
        self.facts: list[Usual] = []
        self.bodies: list[bytes] = []
        self.size = 0


class Intake:
    """Takes decoded messages, never blocks, never raises. Counts what it received and what it discarded, by reason."""

    def __init__(
        self,
        outbox: Outbox | Ring,
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
        self._block_events = min(BLOCK_EVENTS, outbox.enough)
        self._discarded: dict[str, int] = {}
        self.received = 0

    def deliver(
        self, body: Any, seen: float, stored: Callable[[], None] | None = None, *, redelivered: bool = False
    ) -> None:
        """One message, or several in JSON. See `meadow.broker.Deliver`."""
        if isinstance(body, Dropped):
            self.received += body.events
            self._outbox.note_dropped(body.start, body.end, body.events)
            return
        if isinstance(body, JsonBodies):
            entries = self._read(body.bodies, seen)
        else:
            entries = []
            for event in each(body):
                self._take(event, seen, entries)
        if redelivered and stored is not None and self._redelivered is not None:
            self._redelivered.put([single for entry in entries for single in entry.singles()], stored)
        elif entries or stored is not None:
            self._outbox.put(entries, stored)

    def _read(self, bodies: Sequence[bytes], seen: float) -> list[Entry]:
        """Usual messages are read whole and packed together; others event by event, in their place."""
        entries: list[Entry] = []
        block = _Block()
        read, kind_of_usual = self._shortcut.read, self._shortcut.kind
        for body in bodies:
            facts = read(body, seen)
            if not facts:
                self._close(block, seen, entries)
                block = _Block()
                if facts is None:
                    self._read_carefully(body, seen, entries)
                continue
            kind = kind_of_usual(facts[0])
            if kind != block.kind or block.size > BLOCK_BYTES or len(block.facts) >= self._block_events:
                self._close(block, seen, entries)
                block = _Block(kind)
            block.facts += facts
            block.bodies.append(body)
            block.size += len(body)
        self._close(block, seen, entries)
        return entries

    def _close(self, block: "_Block", seen: float, entries: list[Entry]) -> None:
        """Add the block's facts as one entry, or its messages one by one where that cannot be."""
        if not block.facts:
            return
        entry = self._shortcut.pack(block.facts, seen)
        if entry is not None and len(entry.data) <= self._largest_event():
            self.received += entry.events
            entries.append(entry)
            return
        for body in block.bodies:
            self._read_carefully(body, seen, entries)

    def _read_carefully(self, body: bytes, seen: float, entries: list[Entry]) -> None:
        try:
            content = decode_body(body, JSON, accept_pickle=False)
        except InvalidEvent as exc:
            self.discard(exc.reason, str(exc))
            return
        for event in each(content):
            self._take(event, seen, entries)

    def _take(self, event: Any, seen: float, entries: list[Entry]) -> None:
        """Add one event, or count why not."""
        largest = self._largest_event()
        self.received += 1
        try:
            usual = self._shortcut.take(event, seen)
            if usual is not None and len(usual.data) <= largest:
                entries.append(usual)
            else:
                entries.append(self._entry(event, seen, largest))
        except InvalidEvent as exc:
            self._count(exc.reason, str(exc))
        except Exception:
            log.exception("An event could not be normalised.", extra={"action": "event.failed"})
            self._count("failed", "see the traceback above")

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
