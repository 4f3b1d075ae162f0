"""What a group of events adds to the statistics: counts of events, and how long tasks waited and ran.

    queue wait      received - sent        the message was in the queue; only where clients send `task-sent`
    prefetch wait   started - received     a worker held it; not for tasks with an `eta`, which wait on purpose
    run time        the `runtime` of `task-succeeded`

Counted by the time when the collector saw an event (`seen`), waits by the clocks of those who sent them. A wait is
taken when its later event arrives. Pure.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from meadow import events
from meadow.events import TaskFact
from meadow_api.record import Record
from meadow_api.sketches import Sketch, add, sketch

EVENTS = ("sent", "received", "started", "succeeded", "failed", "retried", "revoked", "rejected", "cancelled")
SLICE = 10
MINUTE = 60
HOUR = 3600
STEPS = (MINUTE, HOUR)
DIMENSIONS = ("all", "name", "queue", "worker")

_COUNTED: dict[type[Any], int] = {
    events.TaskSent: 0,
    events.TaskReceived: 1,
    events.TaskStarted: 2,
    events.TaskSucceeded: 3,
    events.TaskFailed: 4,
    events.TaskRetried: 5,
    events.TaskRevoked: 6,
    events.TaskRejected: 7,
    events.TaskCancelled: 8,
}
_SENT, _RECEIVED, _STARTED, _SUCCEEDED = range(4)

Labels = tuple[int, str, str, str]
"""The slice's start, task name, queue, worker; what is unknown is empty."""


class Tally:
    """Counts in the order of `EVENTS`, and the values in seconds."""

    __slots__ = ("counts", "prefetch_waits", "queue_waits", "run_times")

    def __init__(self) -> None:
        self.counts = [0] * len(EVENTS)
        self.queue_waits: list[float] = []
        self.prefetch_waits: list[float] = []
        self.run_times: list[float] = []


Tallies = dict[Labels, Tally]


def count(tallies: Tallies, record: Record, history: Iterable[TaskFact]) -> None:
    """Add the events of a task to the tallies of their slices; `record` knows of them already."""
    name, queue = record.name or "", record.queue or ""
    begun, sender = -1, ""
    tally: Tally | None = None
    for fact in history:
        kind = _COUNTED.get(type(fact))
        if kind is None:
            continue
        at, hostname = int(fact.seen) // SLICE * SLICE, fact.hostname if kind else ""
        if tally is None or at != begun or hostname != sender:  # most events of a task count together
            begun, sender, labels = at, hostname, (at, name, queue, hostname)
            tally = tallies.get(labels) or tallies.setdefault(labels, Tally())
        tally.counts[kind] += 1
        if _RECEIVED <= kind <= _SUCCEEDED:
            _take_time(tally, record, kind, fact)


def _take_time(tally: Tally, record: Record, kind: int, fact: Any) -> None:
    if kind == _SUCCEEDED:
        if fact.runtime is not None:
            tally.run_times.append(fact.runtime)
        return
    before = record.sent if kind == _RECEIVED else record.received
    if before is None or (kind == _STARTED and record.eta is not None):
        return
    wait = fact.timestamp - before
    if wait >= 0:
        (tally.queue_waits if kind == _RECEIVED else tally.prefetch_waits).append(wait)
    elif record.attempts is None:  # clocks that differ; else the time before belongs to the next attempt
        (tally.queue_waits if kind == _RECEIVED else tally.prefetch_waits).append(0.0)


class Entry(NamedTuple):
    """What happened in one minute under one combination of labels. The sketches are of seconds."""

    at: int
    name: str
    queue: str
    worker: str
    counts: list[int]
    queue_wait: Sketch
    prefetch_wait: Sketch
    run_time: Sketch


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Entry]).decode


def to_bytes(entries: Sequence[Entry]) -> bytes:
    """Entries for the journal; raises `OverflowError` for times that no clock shows."""
    return _encode(entries)


def from_bytes(data: bytes) -> list[Entry]:
    """What `to_bytes` made."""
    return _decode(data)


def by_minute(tallies: Tallies) -> list[Entry]:
    """The tallies of the slices as entries of their minutes."""
    return joined(
        Entry(
            at // MINUTE * MINUTE,
            name,
            queue,
            worker,
            list(tally.counts),
            sketch(tally.queue_waits),
            sketch(tally.prefetch_waits),
            sketch(tally.run_times),
        )
        for (at, name, queue, worker), tally in tallies.items()
    )


def joined(entries: Iterable[Entry]) -> list[Entry]:
    """The entries with equal minute and labels as one. Changes the entries that it is given."""
    found: dict[Labels, Entry] = {}
    for entry in entries:
        known = found.setdefault(entry[:4], entry)
        if known is not entry:
            _add(known.counts, entry.counts)
            for mine, other in zip(known[5:], entry[5:], strict=True):
                add(mine, other)
    return list(found.values())


def _add(into: list[int], other: Sequence[int]) -> None:
    for place, number in enumerate(other):
        into[place] += number


@dataclass
class Total:
    """Counts in the order of `EVENTS` and sketches of one label in one slice of time."""

    counts: list[int] = field(default_factory=lambda: [0] * len(EVENTS))
    queue_wait: Sketch = field(default_factory=dict)
    prefetch_wait: Sketch = field(default_factory=dict)
    run_time: Sketch = field(default_factory=dict)

    def add(self, other: "Entry | Total") -> None:
        """Add the other's counts and values."""
        _add(self.counts, other.counts)
        add(self.queue_wait, other.queue_wait)
        add(self.prefetch_wait, other.prefetch_wait)
        add(self.run_time, other.run_time)


def labels_of(entry: Entry) -> list[tuple[str, str]]:
    """Dimension and label of all statistics that the entry belongs to. What clients sent has no worker."""
    found = [("all", ""), ("name", entry.name), ("queue", entry.queue)]
    return [*found, ("worker", entry.worker)] if entry.worker else found
