"""Statistics by the minute and by the hour: each group notes in the journal what it adds, and now and then what stands
there is added together.

The journal is written in the group's transaction, so every event counts exactly once. Adding up takes a while, since
many rows change; it happens once for many groups.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection

from meadow_api.sketches import pack, unpack
from meadow_api.store.raw import Statement
from meadow_api.tallies import (
    EVENTS,
    HOUR,
    MINUTE,
    STEPS,
    Entry,
    Tallies,
    Total,
    by_minute,
    from_bytes,
    joined,
    labels_of,
    to_bytes,
)

ADD_UP_EVERY = 5.0
"""Seconds of the stream."""
MOST_LABELS = 300
OTHER = "(other)"
"""What stands for all further labels of a slice that has `MOST_LABELS` already."""

Slice = tuple[int, int]
"""Step and start."""
Key = tuple[str, str]
"""Dimension and label."""


def note(connection: Connection, cluster: int, tallies: Tallies) -> None:
    """Write into the journal what a group adds."""
    if tallies:
        _NOTE.many(connection, [(cluster, to_bytes(by_minute(tallies)))])


def read_journal(connection: Connection, cluster: int) -> list[Entry]:
    """What was not added up yet."""
    return joined(e for _, data in _JOURNAL.all(connection, (cluster,)) for e in from_bytes(data))


def add_up(connection: Connection, cluster: int) -> None:
    """Add what stands in the journal to the statistics, and empty it."""
    rows = _JOURNAL.all(connection, (cluster,))
    if not rows:
        return
    entries = joined(entry for _, data in rows for entry in from_bytes(data))
    for (step, at), totals in slices_of(entries, STEPS).items():
        _add_slice(connection, cluster, step, at, totals)
    _FORGET.one(connection, (cluster, rows[-1][0]))


def slices_of(entries: Iterable[Entry], steps: Iterable[int]) -> dict[Slice, dict[Key, Total]]:
    """The entries by slice, dimension and label."""
    found: dict[Slice, dict[Key, Total]] = {}
    for entry in entries:
        for step in steps:
            totals = found.setdefault((step, entry.at // step * step), {})
            for key in labels_of(entry):
                total = totals.get(key)
                if total is None:
                    total = totals[key] = Total()
                total.add(entry)
    return found


def bounded(totals: Mapping[Key, Total], known: Iterable[Key]) -> dict[Key, Total]:
    """The totals, those of too many labels together under `OTHER`. Labels that are `known` stay what they are."""
    kept = set(known)
    room = {dimension: MOST_LABELS for dimension, _ in totals}
    for dimension, _ in kept:
        room[dimension] = room.get(dimension, MOST_LABELS) - 1
    found: dict[Key, Total] = {}
    for (dimension, label), total in sorted(totals.items(), key=lambda item: -sum(item[1].counts)):
        key = (dimension, label)
        if key not in kept:
            if room[dimension] > 0:
                room[dimension] -= 1
            else:
                key = (dimension, OTHER)
        if key in found:
            found[key].add(total)
        else:
            found[key] = total
    return found


def _add_slice(connection: Connection, cluster: int, step: int, at: int, totals: Mapping[Key, Total]) -> None:
    stored = {(row[0], row[1]): row for row in _SLICE.all(connection, (cluster, step, at))}
    rows: list[tuple[Any, ...]] = []
    for (dimension, label), total in bounded(totals, stored).items():
        row = stored.get((dimension, label))
        if row is not None:
            total.add(total_of(row[2:]))
        sketches = (pack(total.queue_wait), pack(total.prefetch_wait), pack(total.run_time))
        rows.append((cluster, step, dimension, label, at, *total.counts, *sketches))
    _WRITE.many(connection, rows)


def total_of(values: Any) -> Total:
    """Of a row's counts and sketches."""
    *counts, queue_wait, prefetch_wait, run_time = values
    return Total(list(counts), unpack(queue_wait), unpack(prefetch_wait), unpack(run_time))


VALUES = (*EVENTS, "queue_wait", "prefetch_wait", "run_time")
_KEY = ("cluster", "step", "dimension", "label", "at")

# The names are those of the schema; every value is bound.
_NOTE = Statement("INSERT INTO stats_journal (cluster, facts) VALUES (?, ?)")
_JOURNAL = Statement("SELECT id, facts FROM stats_journal WHERE cluster = ? ORDER BY id")
_FORGET = Statement("DELETE FROM stats_journal WHERE cluster = ? AND id <= ?")
_SLICE = Statement(
    f"SELECT dimension, label, {', '.join(VALUES)} FROM stats {{index}} "  # noqa: S608
    "WHERE cluster = ? AND step = ? AND at = ?",
    index="stats_at",
)
_WRITE = Statement(
    f"INSERT INTO stats ({', '.join((*_KEY, *VALUES))}) VALUES ({', '.join('?' * (len(_KEY) + len(VALUES)))}) "  # noqa: S608
    f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in VALUES)}"
)
__all__ = ["ADD_UP_EVERY", "HOUR", "MINUTE", "OTHER", "add_up", "note", "read_journal", "slices_of", "total_of"]
