"""What the stream holds, read back by a collector that takes over."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

from meadow import subjects
from meadow.bus import Bus, Fence
from meadow.errors import Superseded
from meadow_collector.heard import Heard


@dataclass
class Told:
    """The marks of the events that are stored, and when the newest of them was seen."""

    marks: Counter[int] = field(default_factory=Counter)
    newest: float = 0.0

    def add(self, batches: Iterable[bytes]) -> None:
        """Note the events of these batches."""
        for data in batches:
            try:
                events = _batch.decode(data).events
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                continue  # not a batch of this Meadow's, so not what is looked for
            for event in events:
                mark = event.mark
                if mark:
                    self.marks[mark] += 1
                    self.newest = max(self.newest, event.seen)


class _Batch(Struct, frozen=True):
    events: list[Heard]


_batch = msgspec.json.Decoder(_Batch)


async def told_between(bus: Bus, cluster: str, after: int, last: Fence) -> Told:
    """All events of the cluster behind sequence `after`, up to the fence.

    Goes on when the connection to NATS is lost and comes back. Raises `BusUnavailable` when the fence is not there any
    more, because the stream was emptied or another collector has put up one.
    """
    told = Told()
    async with aclosing(
        bus.read(subjects.EVENTS_STREAM, after=after, subject=subjects.events(cluster, "*"))
    ) as reading:
        async for messages in reading:
            await asyncio.to_thread(told.add, [each.data for each in messages if each.sequence < last.sequence])
            if messages and messages[-1].sequence >= last.sequence:
                break
            if not messages:
                await _check(bus, last)
    return told


async def _check(bus: Bus, fence: Fence) -> None:
    found = await bus.last_on(subjects.EVENTS_STREAM, fence.subject)
    if found is None or found.sequence != fence.sequence:
        raise Superseded("The fence is not the newest one any more.")
