"""Empties the outbox into the stream: batches, several under way at once, each repeated until it is stored."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from meadow import subjects
from meadow.codec import encode, join_batch
from meadow.errors import BusUnavailable
from meadow.events import CollectorGap
from meadow_collector.outbox import Entry, Outbox
from meadow_collector.stream import Stream

log = logging.getLogger(__name__)

WINDOW = 8
LARGEST_BATCH = 1024 * 1024
MORE = 5
"""How many times as many facts go into a message when they come faster than NATS takes them."""
LARGE_BATCH = 256 * 1024
"""Bytes of such a message; a larger one keeps its readers busy for long, and is sent only when very much waits."""
ENVELOPE = 4096
"""Bytes kept free in a message for the batch's head and NATS's headers."""
ROOM_FOR_HEADERS = 1024
RETRY_PAUSE = 0.25
APPEND_TIMEOUT = 2.0


@dataclass(frozen=True)
class Origin:
    """Whose facts these are. `run` differs at every start, so that message ids are never used twice."""

    cluster: str
    collector: str
    run: str


@dataclass(frozen=True)
class Parcel:
    """A batch on its way: stored under its message id at most once.

    With it, the first `settles` entries that left the outbox are stored.
    """

    subject: str
    message_id: str
    data: bytes
    entries: Sequence[Entry]
    settles: int = 0

    @property
    def events(self) -> int:
        """How many facts it holds."""
        return sum(entry.events for entry in self.entries)


class Publisher:
    """The only one who takes from the outbox."""

    def __init__(self, bus: Stream, outbox: Outbox, origin: Origin, *, batch_events: int, batch_wait: float) -> None:
        self._bus = bus
        self._outbox = outbox
        self._origin = origin
        self._batch_events = batch_events
        self._batch_wait = batch_wait
        self._window: deque[tuple[Parcel, asyncio.Task[int]]] = deque()
        self._stored_all = asyncio.Event()
        self._waiting = False
        self._number = 0
        self.published = 0
        self.lag: float | None = None

    @property
    def largest_event(self) -> int:
        """The bytes that one encoded fact may take."""
        return largest_event(self._bus.max_payload)

    @property
    def idle(self) -> bool:
        """Whether everything that was put into the outbox is stored."""
        return not self._outbox and not self._window

    async def run(self) -> None:
        """Publish for ever. When cancelled, what is under way is given up."""
        try:
            while True:
                if self.idle:
                    self._stored_all.set()
                if self._window and (len(self._window) >= WINDOW or not self._outbox):
                    await self._settle_oldest()
                    continue
                await self._outbox.filled(self._batch_wait)
                for parcel in self._pack():
                    if len(self._window) >= WINDOW:
                        await self._settle_oldest()
                    self._window.append((parcel, self._send(parcel)))
        finally:
            for _, task in self._window:
                task.cancel()

    def _pack(self) -> list[Parcel]:
        entries = self._take()
        left = self._outbox.left
        gap = self._outbox.take_gap()
        if gap is not None:
            now = time.time()
            fact = CollectorGap(seen=now, start=gap.start, end=gap.end, events=gap.events, reason="buffer-full")
            log.warning(
                "The buffer is full: %d facts had to be dropped.", gap.events, extra={"action": "collector.dropped"}
            )
            entries.insert(0, Entry(subjects.COLLECTOR, now, encode(fact)))
        kinds = dict.fromkeys(entry.kind for entry in entries)
        parcels = [self._parcel(kind, [entry for entry in entries if entry.kind == kind]) for kind in kinds]
        if parcels:  # the window settles in order
            parcels[-1] = replace(parcels[-1], settles=left)
        return parcels

    def _take(self) -> list[Entry]:
        """What goes into the next messages: more where more waits."""
        most, most_bytes = self._batch_events, min(self.largest_event, LARGEST_BATCH)
        if len(self._outbox) > most:
            most = max(most * MORE, len(self._outbox) // WINDOW)
            most_bytes = min(most_bytes, max(LARGE_BATCH, self._outbox.bytes // WINDOW))
        return self._outbox.take(most, most_bytes)

    def _parcel(self, kind: str, entries: Sequence[Entry]) -> Parcel:
        self._number += 1
        origin = self._origin
        return Parcel(
            subject=subjects.events(origin.cluster, kind),
            message_id=f"{origin.collector}.{origin.run}.{self._number}",
            data=join_batch(origin.cluster, origin.collector, [entry.data for entry in entries]),
            entries=entries,
        )

    def _send(self, parcel: Parcel) -> asyncio.Task[int]:
        return asyncio.create_task(self._append(parcel), name=f"publish {parcel.message_id}")

    async def _append(self, parcel: Parcel) -> int:
        if not self._bus.connected:
            raise BusUnavailable("There is no connection to NATS.")
        return await self._bus.append(parcel.subject, parcel.data, message_id=parcel.message_id, timeout=APPEND_TIMEOUT)

    async def _settle_oldest(self) -> None:
        parcel, task = self._window[0]
        try:
            await task
        except BusUnavailable as exc:
            self._note_waiting(exc)
            await self._repeat_window()
        else:
            self._window.popleft()
            self._note_stored(parcel)

    async def _repeat_window(self) -> None:
        """Send again, one by one and in order, all that was not stored."""
        await asyncio.wait([task for _, task in self._window])
        while self._window:
            parcel, task = self._window[0]
            await asyncio.wait([task])
            if task.exception() is None:
                self._window.popleft()
                self._note_stored(parcel)
                continue
            await asyncio.sleep(RETRY_PAUSE)
            if len(parcel.data) + ROOM_FOR_HEADERS > self._bus.max_payload:
                self._divide(parcel)
                continue
            self._window[0] = (parcel, self._send(parcel))

    def _divide(self, parcel: Parcel) -> None:
        """Put smaller parcels in the place of the oldest, which NATS no longer takes since it was restarted; a single
        fact that is too large is given up and counted.
        """
        self._window.popleft()
        entries = [single for entry in parcel.entries for single in entry.singles()]
        kind = parcel.entries[0].kind
        halves = [half for half in (entries[: len(entries) // 2], entries[len(entries) // 2 :]) if half]
        if len(entries) == 1:
            halves = []
            self._outbox.note_dropped(entries[0].seen, entries[0].seen, 1)
        parcels = [self._parcel(kind, half) for half in halves]
        if parcels:
            parcels[-1] = replace(parcels[-1], settles=parcel.settles)
        else:
            self._outbox.settle(parcel.settles)
        self._window.extendleft((smaller, self._send(smaller)) for smaller in reversed(parcels))

    def _note_stored(self, parcel: Parcel) -> None:
        self.published += parcel.events
        self._outbox.settle(parcel.settles)
        self.lag = max(time.time() - parcel.entries[0].seen, 0.0)
        if self._waiting:
            self._waiting = False
            log.info("Facts are published again.", extra={"action": "collector.publishing"})

    def _note_waiting(self, exc: BusUnavailable) -> None:
        if not self._waiting:
            self._waiting = True
            log.warning("Facts wait for NATS: %s", exc, extra={"action": "collector.waiting"})

    def forget(self) -> None:
        """Let go of what was under way when `run` was cancelled: another collector publishes it."""
        self._window.clear()
        self._outbox.forget()
        self._waiting = False

    async def drain(self, deadline: float) -> int:
        """Wait until everything is stored, at most `deadline` seconds; gives how many facts are left."""
        self._outbox.hurry()
        self._stored_all.clear()
        if not self.idle:
            try:
                async with asyncio.timeout(deadline):
                    await self._stored_all.wait()
            except TimeoutError:
                log.debug("Not everything was stored within %.1f s.", deadline)
        return len(self._outbox) + sum(parcel.events for parcel, _ in self._window)


def largest_event(max_payload: int) -> int:
    """The bytes that one encoded fact may take where NATS takes messages of `max_payload` bytes."""
    return max(max_payload - ENVELOPE, 1024)
