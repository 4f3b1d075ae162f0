"""Reads the streams into the store: facts of `MEADOW_EVENTS`, records of `MEADOW_AUDIT`.

The position of a stream is written with its data, so whatever happens, reading goes on where the data ends. A stream
that was made anew is read from its beginning; a hole in it is told and recorded as a gap.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from meadow import subjects
from meadow.audit import AnyAuditRecord
from meadow.bus import READ_AHEAD, Bus, StreamMessage, StreamState
from meadow.codec import decode
from meadow.errors import BusError, InvalidMessage
from meadow.events import CollectorGap
from meadow_api.errors import PositionMoved, StoreDamaged, StoreError, StoreRejected
from meadow_api.intake import Group, groups
from meadow_api.store.database import Database
from meadow_api.store.writer import Changes, Position, Writer
from meadow_api.throughput import Throughput
from meadow_api.turn import Turn

log = logging.getLogger(__name__)

Announce = Callable[[str, int, Changes], Awaitable[None]]
"""Called with the cluster, the stream's sequence, and what changed."""

PAUSE = 1.0
BUSY = 100.0
"""Events per second from which on waiting a little makes groups larger, and writing cheaper."""


def gathering(rate: float) -> float:
    """How many seconds lie between the beginnings of two groups when so many events come per second.

    A task's row is written once for all its events in a group: groups of a quarter second take half the processor time
    of those of 20 ms.
    """
    if rate < BUSY:
        return 0.0
    if rate < 20 * BUSY:
        return 0.1
    return 0.25 if rate < 100 * BUSY else 0.4


@dataclass
class Progress:
    """How reading one stream is going, for people who ask. `lag` is in seconds, as measured at `lag_at`."""

    stream: str
    position: int = 0
    last: int = 0
    events: int = 0
    invalid: int = 0
    repeated: int = 0
    rejected: int = 0
    error: str | None = None
    lag: float | None = None
    lag_at: float | None = None
    throughput: Throughput = field(default_factory=Throughput)

    @property
    def behind(self) -> int:
        """Messages of the stream that are not in the store yet, as far as known."""
        return max(0, self.last - self.position)


@dataclass
class Follower:
    """Follows one stream for ever. What to do with messages is `consume`."""

    bus: Bus
    database: Database
    writer: Writer
    stream: str
    subject: str
    announce: Announce
    turn: Turn
    progress: Progress = field(init=False)
    position: Position = field(init=False, default=Position("", 0))

    def __post_init__(self) -> None:
        self.progress = Progress(self.stream)

    async def run(self) -> None:
        """Read until cancelled."""
        trouble: StoreError | BusError | None = None
        while True:
            try:
                await self.turn.wait()
                await self._mend(trouble)
                trouble = None
                await self._begin()
                await self._follow()
            except PositionMoved as exc:
                trouble = exc
                log.warning("%s", exc, extra={"action": "store.moved"})
            except (BusError, StoreError) as exc:
                trouble = exc
                self._failed(str(exc))
                if not isinstance(exc, StoreDamaged):
                    await asyncio.sleep(PAUSE)

    async def _mend(self, trouble: StoreError | BusError | None) -> None:
        """What has to happen before reading goes on."""
        if isinstance(trouble, StoreDamaged):
            await self.database.put_aside()

    async def consume(self, messages: Sequence[StreamMessage]) -> None:
        """Write the messages to the store."""
        raise NotImplementedError

    async def look_ahead(self) -> None:
        """Find out how far the stream reaches."""
        self.progress.last = (await self.bus.stream_state(self.stream)).last

    async def look_on(self) -> None:
        """See how far another process has read the stream into the store, and how far it reaches."""
        stored = await self.writer.position(self.stream)
        if stored is not None:  # our own position stays: a group may still be under way
            self.progress.position = stored.sequence
        await self.look_ahead()

    async def _follow(self) -> None:
        reading = self.bus.read(self.stream, after=self.position.sequence, subject=self.subject)
        async with aclosing(reading) as batches:
            begun = time.monotonic()
            async for messages in batches:
                if messages:
                    before, begun, events = begun, time.monotonic(), self.progress.events
                    await self.consume(messages)
                    self._recovered()
                    if len(messages) < READ_AHEAD:
                        rate = (self.progress.events - events) / max(begun - before, 0.001)
                        await asyncio.sleep(gathering(rate) - (time.monotonic() - begun))
                elif self.bus.connected and not self._is_ours(await self.bus.stream_state(self.stream)):
                    return

    def _is_ours(self, state: StreamState) -> bool:
        self.progress.last = state.last
        return state.identity == self.position.identity and state.last >= self.position.sequence

    async def remember(self) -> None:
        """Read again what writing needs to know."""

    async def _begin(self) -> None:
        """Find the place to read on from."""
        await self.remember()
        state = await self.bus.stream_state(self.stream)
        stored = await self.writer.position(self.stream)
        if stored is not None and stored.identity == state.identity and stored.sequence <= state.last:
            self.position = stored
        else:
            self.position = Position(state.identity, 0)
            if stored is not None:
                log.warning(
                    "The stream %s was made anew; it is read from its beginning.",
                    self.stream,
                    extra={"action": "stream.new", "stream": self.stream},
                )
            await self.writer.begin_stream(self.stream, self.position)
        self.progress.position, self.progress.last = self.position.sequence, state.last
        missing = state.first - self.position.sequence - 1
        if missing > 0 and state.last >= state.first - 1 and stored is not None and self.position.sequence:
            await self._tell_hole(missing)

    async def _tell_hole(self, missing: int) -> None:
        log.warning(
            "%d messages of %s were deleted before they were read, because the stream reached its limits.",
            missing,
            self.stream,
            extra={"action": "stream.hole", "stream": self.stream},
        )
        now = time.time()
        for cluster, workers in list(self.writer.board.items()):
            heard = max((record.last_seen or 0.0 for record in workers.values()), default=now)
            gap = CollectorGap(seen=now, start=heard, end=now, reason="stream-limit")
            await self.writer.record_gap(cluster, gap)

    async def advanced(self, sequence: int, changes: dict[str, Changes]) -> None:
        """The store is now at `sequence`."""
        self.position = replace(self.position, sequence=sequence)
        self.progress.position = sequence
        for cluster, changed in changes.items():
            await self.announce(cluster, sequence, changed)

    def _failed(self, reason: str) -> None:
        if self.progress.error != reason:
            log.error("Reading %s has to wait: %s", self.stream, reason, extra={"action": "store.waits"})
        self.progress.error = reason

    def _recovered(self) -> None:
        if self.progress.error is not None:
            log.info("Reading %s goes on.", self.stream, extra={"action": "store.goes-on"})
        self.progress.error = None


class EventFollower(Follower):
    """Follows the facts."""

    async def remember(self) -> None:
        """What the writer remembers may not be what the store holds: another may have written it, or a server that
        crashed may have lost its last transactions, position and all."""
        await self.writer.load()

    async def consume(self, messages: Sequence[StreamMessage]) -> None:
        pending = groups(messages, self.writer.digests)
        begun = self.position.sequence
        while (group := await self.database.compute(lambda: next(pending, None))) is not None:
            try:
                await self._write(group)
            except StoreRejected:
                part = [m for m in messages if max(begun, self.position.sequence) < m.sequence <= group.sequence]
                await self._write_one_by_one(part)

    async def _write(self, group: Group) -> None:
        changes = await self.writer.write_group(self.stream, self.position, group)
        self.progress.events += group.events
        self.progress.repeated += group.repeated
        self.progress.throughput.add(time.monotonic(), group.events)
        if group.oldest is not None:
            self.progress.lag_at = time.time()
            self.progress.lag = max(self.progress.lag_at - group.oldest, 0.0)
        for sequence, reason in group.invalid:
            self._skipped(sequence, reason)
        await self.advanced(group.sequence, changes)

    async def _write_one_by_one(self, messages: Sequence[StreamMessage]) -> None:
        """One message of a group cannot be stored: the others can."""
        for message in messages:
            group = next(groups([message], self.writer.digests))
            try:
                await self._write(group)
            except StoreRejected as exc:
                self.progress.rejected += 1
                log.warning(
                    "Message %d of %s was skipped: %s",
                    message.sequence,
                    self.stream,
                    exc,
                    extra={"action": "store.rejected", "stream": self.stream},
                )
                await self._write(Group(sequence=message.sequence))

    def _skipped(self, sequence: int, reason: str) -> None:
        self.progress.invalid += 1
        log.warning(
            "Message %d of %s was skipped: %s",
            sequence,
            self.stream,
            reason[:500],
            extra={"action": "store.invalid", "stream": self.stream},
        )


class AuditFollower(Follower):
    """Follows the audit records."""

    async def consume(self, messages: Sequence[StreamMessage]) -> None:
        try:
            await self._write(messages)
        except StoreRejected:  # one of them cannot be stored: the others can
            for message in messages:
                await self._write_alone(message)

    async def _write(self, messages: Sequence[StreamMessage]) -> None:
        records: list[AnyAuditRecord] = []
        for message in messages:
            try:
                records.append(_audit_record(message.data))
            except InvalidMessage as exc:
                self._skipped(message, exc)
        last = messages[-1].sequence
        changes = await self.writer.write_audit(self.stream, self.position, last, records)
        self.progress.events += len(records)
        await self.advanced(last, changes)

    async def _write_alone(self, message: StreamMessage) -> None:
        try:
            await self._write([message])
        except StoreRejected as exc:
            self.progress.rejected += 1
            log.error("Audit record %d was skipped: %s", message.sequence, exc, extra={"action": "store.rejected"})
            changes = await self.writer.write_audit(self.stream, self.position, message.sequence, [])
            await self.advanced(message.sequence, changes)

    def _skipped(self, message: StreamMessage, exc: InvalidMessage) -> None:
        self.progress.invalid += 1
        log.warning("Audit record %d was skipped: %s", message.sequence, exc, extra={"action": "store.invalid"})


def _audit_record(data: bytes) -> AnyAuditRecord:
    record: AnyAuditRecord = decode(data, AnyAuditRecord)  # type: ignore[arg-type]
    if subjects.CLUSTER_NAME.fullmatch(record.cluster) is None:
        raise InvalidMessage(f"{record.cluster[:100]!r} is not the name of a cluster.")
    return record
