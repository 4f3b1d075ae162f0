"""What makes an event itself, whichever collector heard it. Pure."""

from collections import Counter

import msgspec
from msgspec import Struct

from meadow_collector.outbox import Entry


class Identity(Struct, frozen=True, omit_defaults=True, gc=False):
    """An event, as far as it differs from all others: Celery's logical clock never gives one process a number twice."""

    type: str
    hostname: str = ""
    pid: int | None = None
    clock: int = 0
    timestamp: float = 0.0
    uuid: str | None = None
    event: str | None = None


class Heard(Identity, frozen=True):
    """The same, and when it was seen."""

    seen: float = 0.0

    @property
    def mark(self) -> int:
        """The same number for the same event, whoever heard it; 0 for facts of Meadow's own."""
        if not self.hostname:
            return 0
        return hash((self.type, self.hostname, self.pid, self.clock, self.timestamp, self.uuid, self.event)) or 1


_heard = msgspec.json.Decoder(list[Heard])


def heard_in(entry: Entry) -> list[Heard]:
    """The events of an entry."""
    return _heard.decode(b"[" + entry.data + b"]")


def missing(entry: Entry, told: "Counter[int]") -> list[Entry]:
    """The entry, or as much of it as is not among `told`, the marks of what is stored; each mark told is used up."""
    marks = [heard.mark for heard in heard_in(entry)]
    if not any(told[mark] > 0 for mark in marks):
        return [entry]
    lacking = []
    for mark, single in zip(marks, entry.singles(), strict=True):
        if told[mark] > 0:
            told[mark] -= 1
        else:
            lacking.append(single)
    return lacking
