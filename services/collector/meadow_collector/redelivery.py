"""Messages that the broker has delivered before, to a collector that died or to a connection that was lost.

Their events may be in the stream already, because what is stored is acknowledged a moment later. So they wait here
until the stream has been read back, and only those that it does not hold go on. docs/decisions says why.
"""

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Struct

from meadow import subjects
from meadow.bus import Bus
from meadow.errors import BusError
from meadow_collector.heard import Identity
from meadow_collector.outbox import Entry, Outbox

log = logging.getLogger(__name__)

MARGIN = 180.0
"""Seconds that may lie between the storing of a message and the broker's giving it up: RabbitMQ notices a dead
connection after two heartbeats, of 60 s by default."""
SETTLING = 1.0
"""Seconds in which what a dying collector sent last arrives in the stream."""
STEADY = 60.0
"""Seconds after which a connection has delivered again all that was under way when the one before it broke."""
RETRY_PAUSE = 0.5


class _Identities(Struct, frozen=True):
    events: list[Identity]


class Held(NamedTuple):
    """One message that waits: its events, and whom to tell when they are stored."""

    entries: list[Entry]
    stored: Callable[[], None]


_identity = msgspec.json.Decoder(Identity)
_identities = msgspec.json.Decoder(_Identities)


class Redelivered:
    """Holds back what was delivered before. `put` and `connection_lost` are the reader's, all else the loop's."""

    def __init__(self, bus: Bus, outbox: Outbox, cluster: str) -> None:
        self._bus = bus
        self._outbox = outbox
        self._cluster = cluster
        self._lock = threading.Lock()
        self._held: list[Held] = []
        self._connection = 0
        self._stood_until: float | None = None
        self._stands_since: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._some = asyncio.Event()
        self.skipped = 0

    def __len__(self) -> int:
        return len(self._held)

    async def open(self) -> None:
        """Learn when a collector of this cluster was last alive, before this one says anything."""
        self._loop = asyncio.get_running_loop()
        self._stood_until = await self._bus.last_stored(
            subjects.EVENTS_STREAM, subjects.events(self._cluster, subjects.COLLECTOR)
        )

    def put(self, entries: list[Entry], stored: Callable[[], None]) -> None:
        """Hold one message back until the stream has been read. Never waits."""
        with self._lock:
            self._held.append(Held(entries, stored))
            first = len(self._held) == 1
        if first and self._loop is not None:
            self._loop.call_soon_threadsafe(self._some.set)

    def connection_made(self) -> None:
        """The broker is connected, and begins with what it has delivered before."""
        self._stands_since = time.time()

    def connection_lost(self) -> None:
        """Forget what is held: the broker will deliver it again, to this collector or to another."""
        with self._lock:
            self._held.clear()
            self._connection += 1
            if self._stands_since is not None:
                self._stood_until = self._since(time.time())
                self._stands_since = None

    def _since(self, now: float) -> float:
        """When what is delivered again now was under way for the last time."""
        steady = self._stands_since is None or now - self._stands_since > STEADY
        return now if steady or self._stood_until is None else self._stood_until

    async def run(self) -> None:
        """Look again and again, for ever."""
        while True:
            await self._some.wait()
            self._some.clear()
            await asyncio.sleep(SETTLING)
            await self._everything_here_stored()
            with self._lock:
                connection, held = self._connection, self._held[:]
                since = self._since(time.time())
            if held:
                self._release(connection, held, await self._found(held, since - MARGIN))

    async def _everything_here_stored(self) -> None:
        """Wait for what this collector has taken from an earlier connection and not yet stored."""
        loop = asyncio.get_running_loop()
        stored = asyncio.Event()

        def tell() -> None:
            loop.call_soon_threadsafe(stored.set)

        self._outbox.put([], tell)
        await stored.wait()

    async def _found(self, held: Sequence[Held], since: float) -> Counter[Identity]:
        """Those of the held events that the stream holds."""
        wanted = frozenset(_identity.decode(entry.data) for message in held for entry in message.entries)
        while True:
            found: Counter[Identity] = Counter()
            try:
                subject = subjects.events(self._cluster, "*")
                async for messages in self._bus.read_since(subjects.EVENTS_STREAM, since, subject=subject):
                    found.update(await asyncio.to_thread(matches, [m.data for m in messages], wanted))
            except BusError as exc:
                log.debug("The stream could not be read back, trying again: %s", exc)
                await asyncio.sleep(RETRY_PAUSE)
                continue
            return found

    def _release(self, connection: int, held: Sequence[Held], found: Counter[Identity]) -> None:
        """Pass on what the stream lacks, unless the connection that delivered it was lost meanwhile."""
        skipped = 0
        with self._lock:
            if connection != self._connection:
                return
            del self._held[: len(held)]
            again = bool(self._held)
            for message in held:
                lacking = missing(message.entries, found)
                skipped += len(message.entries) - len(lacking)
                self._outbox.put(lacking, message.stored)
        self.skipped += skipped
        log.info(
            "The broker delivered %d messages again; %d of their events were in the stream already.",
            len(held),
            skipped,
            extra={"action": "collector.redelivered", "messages": len(held), "skipped": skipped},
        )
        if again:
            self._some.set()


def matches(batches: Iterable[bytes], wanted: frozenset[Identity]) -> list[Identity]:
    """The wanted ones among the events of these batches."""
    found: list[Identity] = []
    for data in batches:
        try:
            events = _identities.decode(data).events
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue  # not a batch of this Meadow's, so not what is looked for
        found += [event for event in events if event in wanted]
    return found


def missing(entries: Sequence[Entry], found: Counter[Identity]) -> list[Entry]:
    """The entries that were not found; each one found is used up."""
    lacking = []
    for entry in entries:
        identity = _identity.decode(entry.data)
        if found[identity] > 0:
            found[identity] -= 1
        else:
            lacking.append(entry)
    return lacking
