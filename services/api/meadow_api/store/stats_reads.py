"""Statistics for people: how many events there were over time, and how long tasks waited and ran.

Read from what is added up by the minute or by the hour, and from the journal of what is not added up yet.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, select

from meadow_api.errors import InvalidQuestion
from meadow_api.sketches import Sketch, quantiles, size
from meadow_api.store.schema import stats
from meadow_api.store.stats_writes import HOUR, MINUTE, VALUES, read_journal, slices_of, total_of
from meadow_api.store.task_reads import find_cluster
from meadow_api.tallies import DIMENSIONS, EVENTS, Total

MINUTES_KEPT = 2 * 86400.0
"""How long the store keeps single minutes, at least; older times are known by the hour."""
MOST_POINTS = 1500
MOST_MINUTES = 180
MOST_ROWS = 200_000
SHARES = (0.5, 0.9, 0.95, 0.99, 1.0)


class Spread(Struct, frozen=True, kw_only=True):
    """How values are spread, in seconds, each within 2 %; `None` without values."""

    count: int = 0
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None


class Point(Struct, frozen=True, kw_only=True):
    """What happened from `at` on, for the length of a step. `events` counts by Celery's names without `task-`."""

    at: float
    events: dict[str, int]
    queue_wait: Spread
    prefetch_wait: Spread
    run_time: Spread


class Series(Struct, frozen=True, kw_only=True):
    """Points in order of time, every `step` seconds; times at which nothing happened are left out."""

    dimension: str
    label: str
    step: float
    points: list[Point]
    total: Point


class Labelled(Struct, frozen=True, kw_only=True):
    """What happened under one label in all."""

    label: str
    total: Point


def read_series(
    connection: Connection,
    cluster_name: str,
    dimension: str,
    label: str | None,
    since: float,
    until: float,
    step: float,
    now: float | None = None,
) -> Series:
    """One label of a dimension (`name`, `queue`, `worker`) over time, without a label all together; raises
    `InvalidQuestion`.

    `step` becomes whole minutes, or whole hours for times of which no minutes are kept (`now` tells: default `until`),
    and at most `MOST_POINTS` of them are given.
    """
    base, length = _steps(dimension, since, until, step, until if now is None else now)
    dimension, wanted = ("all", "") if label is None else (dimension, label)
    slices = _read(connection, cluster_name, base, dimension, wanted, since, until)
    points: dict[int, Total] = {}
    total = Total()
    for (at, _), found in slices.items():
        points.setdefault(at // length * length, Total()).add(found)
        total.add(found)
    return Series(
        dimension=dimension,
        label=wanted,
        step=float(length),
        points=[_point(at, points[at]) for at in sorted(points)],
        total=_point(since, total),
    )


def read_labels(
    connection: Connection,
    cluster_name: str,
    dimension: str,
    since: float,
    until: float,
    limit: int = 100,
    now: float | None = None,
) -> list[Labelled]:
    """The labels of a dimension under which most happened; raises `InvalidQuestion`.

    For more than `MOST_MINUTES` at once whole hours are read.
    """
    base, _ = _steps(dimension, since, until, 0.0, until if now is None else now)
    base = base if until - since <= MOST_MINUTES * MINUTE else HOUR
    totals: dict[str, Total] = {}
    for (_, label), found in _read(connection, cluster_name, base, dimension, None, since, until).items():
        totals.setdefault(label, Total()).add(found)
    most = sorted(totals, key=lambda label: (-sum(totals[label].counts), label))[: max(limit, 0)]
    return [Labelled(label=label, total=_point(since, totals[label])) for label in most]


def _steps(dimension: str, since: float, until: float, step: float, now: float) -> tuple[int, int]:
    """The kept step to read, and the seconds of one point."""
    if dimension not in DIMENSIONS:
        raise InvalidQuestion(f"There are no statistics by {dimension[:50]!r}, but by {', '.join(DIMENSIONS)}.")
    if not 0 <= since <= until < 1e11:
        raise InvalidQuestion("The statistics end before they begin; give 'since' and 'until' as seconds since 1970.")
    base = MINUTE if since >= now - MINUTES_KEPT and until - since <= MINUTES_KEPT else HOUR
    least = max(min(step, 1e10), (until - since) / MOST_POINTS, base)
    return base, int(-(-least // base) * base)


def _read(
    connection: Connection,
    cluster_name: str,
    step: int,
    dimension: str,
    label: str | None,
    since: float,
    until: float,
) -> dict[tuple[int, str], Total]:
    cluster = find_cluster(connection, cluster_name)
    if cluster is None:
        return {}
    first = int(since) // step * step
    found: dict[tuple[int, str], Total] = {}
    for at, its_label, *values in _rows(connection, cluster, step, dimension, label, first, until):
        found[at, its_label] = total_of(values)
    for (_, at), totals in slices_of(read_journal(connection, cluster), (step,)).items():
        if first <= at < until:
            _add_journal(found, at, dimension, label, totals)
    return found


def _rows(
    connection: Connection, cluster: int, step: int, dimension: str, label: str | None, first: int, until: float
) -> Iterable[Any]:
    key = [stats.c.cluster == cluster, stats.c.step == step, stats.c.dimension == dimension]
    if label is not None:
        key.append(stats.c.label == label)
    statement = select(stats.c.at, stats.c.label, *(stats.c[name] for name in VALUES))
    of_time = statement.where(*key, stats.c.at >= first, stats.c.at < until).order_by(stats.c.at)
    return connection.execute(of_time.limit(MOST_ROWS))


def _add_journal(
    found: dict[tuple[int, str], Total],
    at: int,
    dimension: str,
    label: str | None,
    totals: Mapping[tuple[str, str], Total],
) -> None:
    for (its_dimension, its_label), total in totals.items():
        if its_dimension == dimension and label in (None, its_label):
            found.setdefault((at, its_label), Total()).add(total)


def _point(at: float, total: Total) -> Point:
    return Point(
        at=float(at),
        events=dict(zip(EVENTS, total.counts, strict=True)),
        queue_wait=_spread(total.queue_wait),
        prefetch_wait=_spread(total.prefetch_wait),
        run_time=_spread(total.run_time),
    )


def _spread(of: Sketch) -> Spread:
    values = quantiles(of, SHARES)
    return Spread(count=size(of), **dict(zip(("p50", "p90", "p95", "p99", "max"), values, strict=True)))
