"""Failures, grouped by what they have in common."""

from collections import Counter
from typing import Annotated, Literal

from msgspec import Meta, Struct
from sqlalchemy import Connection

from meadow_api.failures import Group, Grouping
from meadow_api.shapes import shortened
from meadow_api.store.failure_reads import Examined, FailureFilter, group_failures
from meadow_api.v1.endpoint import Endpoint, Example, Reading
from meadow_api.v1.tasks import Name, Queue, Worker

DAY = 86400.0
PARTS = 24
MOST_NAMED = 10
LONGEST_TRACEBACK = 8000


Until = Annotated[
    Annotated[float, Meta(ge=0, le=9e10)] | None,
    Meta(description="When the window ends, in epoch seconds; now unless given."),
]


class FailuresParameters(Struct, frozen=True, kw_only=True):
    """The window, and what narrows it."""

    seconds: Annotated[float, Meta(ge=60, le=90 * DAY, description="How long the window is.")] = DAY
    until: Until = None
    name: Name = None
    worker: Worker = None
    queue: Queue = None
    sort: Annotated[Literal["count", "last_seen", "first_seen"], Meta(description="Greatest or newest first.")] = (
        "count"
    )
    limit: Annotated[int, Meta(ge=1, le=200, description="Groups to show.")] = 50


class Share(Struct, frozen=True, kw_only=True):
    """How many of the failures are of this task name or worker; an empty name is one that is not known."""

    name: str
    count: int


class FailureGroup(Struct, frozen=True, kw_only=True):
    """Failures of one kind: same class of exception, same innermost `frames` (the innermost last), whatever the line.

    `message` stands for those without a traceback. `trend` counts failures by equal parts of the window, oldest first.
    `names` and `workers` are the ten with the most. The example is the newest failure.
    """

    id: str
    exception: str
    message: str
    frames: list[str]
    count: int
    first_seen: float
    last_seen: float
    trend: list[int]
    names: list[Share]
    workers: list[Share]
    example: str
    example_exception: str | None = None
    example_traceback: str | None = None


class Failures(Struct, frozen=True, kw_only=True):
    """The groups between `since` and `until`. `step` is the width in seconds of a part of each `trend`.

    `examined` failures were read, newest first, at most 10,000 and for at most two seconds; `complete` says that those
    were all. Where they were not, counts are too low and older failures are missing: those of tasks received before
    `back_to`. A task received more than a day before the window is not looked at.
    """

    since: float
    until: float
    step: float
    groups: list[FailureGroup]
    groups_known: int
    examined: int
    complete: bool
    back_to: float | None = None


def endpoints(reading: Reading) -> list[Endpoint]:
    """The endpoints of this resource."""

    def list_failures(connection: Connection, given: FailuresParameters) -> Failures:
        until = reading.clock() if given.until is None else given.until
        return read_failures(connection, reading, given, until)

    return [
        Endpoint(
            path="/failures",
            name="listFailures",
            summary="Failures grouped by exception and place: how many, since when, on which workers",
            parameters=FailuresParameters,
            answer=Failures,
            find=list_failures,
            examples=(Example("The last hour", "seconds=3600"), Example("What is new", "sort=first_seen&limit=5")),
        )
    ]


def read_failures(connection: Connection, reading: Reading, given: FailuresParameters, until: float) -> Failures:
    """The groups of the window that ends at `until`."""
    grouping = Grouping(until - given.seconds, until, PARTS)
    wanted = FailureFilter(given.name, given.worker, given.queue)
    examined: Examined = group_failures(connection, reading.cluster, wanted, grouping, reading.present)
    groups = sorted(grouping.groups(), key=lambda group: _rank(group, given.sort))
    return Failures(
        since=grouping.since,
        until=until,
        step=grouping.step,
        groups=[_shown(group) for group in groups[: given.limit]],
        groups_known=len(groups),
        examined=examined.failures,
        complete=examined.complete,
        back_to=examined.back_to,
    )


def _rank(group: Group, sort: str) -> tuple[float, float, str]:
    first = {"count": group.count, "last_seen": group.last_seen, "first_seen": group.first_seen}[sort]
    return (-first, -group.last_seen, group.kind.id)


def _shown(group: Group) -> FailureGroup:
    return FailureGroup(
        id=group.kind.id,
        exception=group.kind.exception,
        message=group.kind.message,
        frames=list(group.kind.frames),
        count=group.count,
        first_seen=group.first_seen,
        last_seen=group.last_seen,
        trend=group.trend,
        names=_shares(group.names),
        workers=_shares(group.workers),
        example=group.example.uuid,
        example_exception=shortened(group.example.exception, LONGEST_TRACEBACK),
        example_traceback=_end(group.example.traceback),
    )


def _shares(counted: Counter[str]) -> list[Share]:
    return [Share(name=name, count=count) for name, count in counted.most_common(MOST_NAMED)]


def _end(text: str | None) -> str | None:
    """The end of a traceback says more than its beginning."""
    return text if text is None or len(text) <= LONGEST_TRACEBACK else "…" + text[-LONGEST_TRACEBACK:]
