"""Counts by task name in slices of 10 s and of a minute, for the charts of the last hours: right with every commit."""

from sqlalchemy import Connection

from meadow_api.store.raw import Statement
from meadow_api.tallies import EVENTS, SLICE, Tallies, Tally

COARSE_SLICE = 60


def write_rollups(connection: Connection, cluster: int, tallies: Tallies) -> None:
    """Add the tallies to their slices."""
    slices: dict[tuple[int, int, str], list[float]] = {}
    for (at, name, _, _), tally in tallies.items():
        for step in (SLICE, COARSE_SLICE):
            counters = slices.setdefault((step, at // step * step, name), [0] * len(_COUNTERS))
            _count(counters, tally)
    if slices:
        _ADD_ROLLUPS.many(connection, [(cluster, *key, *counters) for key, counters in slices.items()])


def _count(counters: list[float], tally: Tally) -> None:
    for place in range(len(_COUNTED)):
        counters[place] += tally.counts[place]
    counters[-2] += sum(tally.run_times)
    counters[-1] += len(tally.run_times)


_COUNTED = EVENTS[:8]
_COUNTERS = (*_COUNTED, "runtime_sum", "runtime_count")
_ADD_ROLLUPS = Statement(
    f"INSERT INTO rollups (cluster, step, at, name, {', '.join(_COUNTERS)}) "  # noqa: S608
    f"VALUES ({', '.join('?' * (4 + len(_COUNTERS)))}) ON CONFLICT (cluster, step, at, name) DO UPDATE SET "
    + ", ".join(f"{name} = rollups.{name} + excluded.{name}" for name in _COUNTERS)
)
