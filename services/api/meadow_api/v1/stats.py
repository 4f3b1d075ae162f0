"""Statistics: counts of events over time, and how long tasks waited and ran."""

from typing import Annotated, Literal

from msgspec import Meta, Struct
from sqlalchemy import Connection

from meadow_api.store.stats_reads import Labelled, Series, read_labels, read_series
from meadow_api.v1.endpoint import Endpoint, Example, Reading
from meadow_api.v1.failures import DAY, Until
from meadow_api.v1.parameters import Word, refused

Seconds = Annotated[float, Meta(ge=60, le=90 * DAY, description="How long the window is.")]


class StatsParameters(Struct, frozen=True, kw_only=True):
    """The window, and one of the three that narrow it."""

    seconds: Seconds = 3600.0
    until: Until = None
    step: Annotated[
        float, Meta(ge=60, le=90 * DAY, description="Seconds of one point; more where that would be too many points.")
    ] = 60.0
    name: Annotated[
        Word | None, Meta(description="Only of this task name. One of name, queue and worker at a time.")
    ] = None
    queue: Annotated[Word | None, Meta(description="Only of this queue.")] = None
    worker: Annotated[Word | None, Meta(description="Only of this worker.")] = None


class LabelsParameters(Struct, frozen=True, kw_only=True):
    """The window, and what to compare."""

    by: Annotated[Literal["name", "queue", "worker"], Meta(description="What to compare.")] = "name"
    seconds: Seconds = 3600.0
    until: Until = None
    limit: Annotated[int, Meta(ge=1, le=1000, description="How many, those with the most events first.")] = 100


class Labels(Struct, frozen=True, kw_only=True):
    """Task names, queues or workers side by side. What was too many to keep apart is under `(other)`."""

    by: str
    since: float
    until: float
    labels: list[Labelled]


def endpoints(reading: Reading) -> list[Endpoint]:
    """The endpoints of this resource."""

    def show_stats(connection: Connection, given: StatsParameters) -> Series:
        dimension, label = _chosen(given)
        since, until, now = _window(reading, given.seconds, given.until)
        return read_series(connection, reading.cluster, dimension, label, since, until, given.step, now)

    def list_labels(connection: Connection, given: LabelsParameters) -> Labels:
        since, until, now = _window(reading, given.seconds, given.until)
        found = read_labels(connection, reading.cluster, given.by, since, until, given.limit, now)
        return Labels(by=given.by, since=since, until=until, labels=found)

    return [
        Endpoint(
            path="/stats",
            name="showStats",
            summary="Counts of events over time, and percentiles of queue wait, prefetch wait and run time",
            parameters=StatsParameters,
            answer=Series,
            find=show_stats,
            also={422: "Two of name, queue and worker are given."},
            examples=(Example("A day of one task by the hour", "name=proj.add&seconds=86400&step=3600"),),
        ),
        Endpoint(
            path="/stats/labels",
            name="listStats",
            summary="The same as one total for each task name, queue or worker",
            parameters=LabelsParameters,
            answer=Labels,
            find=list_labels,
            examples=(Example("Which queue waits longest", "by=queue&seconds=3600"),),
        ),
    ]


def _chosen(given: StatsParameters) -> tuple[str, str | None]:
    chosen = [(name, getattr(given, name)) for name in ("name", "queue", "worker") if getattr(given, name) is not None]
    if len(chosen) > 1:
        raise refused(
            "Statistics are kept by name, by queue and by worker, not by two of them.", "Give one.", status=422
        )
    return chosen[0] if chosen else ("all", None)


def _window(reading: Reading, seconds: float, until: float | None) -> tuple[float, float, float]:
    now = reading.clock()
    end = now if until is None else until
    return max(end - seconds, 0.0), end, now
