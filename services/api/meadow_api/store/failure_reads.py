"""The failures of a window, newest first, as many as a question may read.

They are found by the index on state and time of receipt; the window is about when they failed. So a task that was
received more than `LEAD` seconds before the window is not seen. One that no worker received is looked for by itself.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, select

from meadow_api.failures import Failure, Grouping
from meadow_api.shapes import Presenter, tasks_of
from meadow_api.store.schema import NO_TIME, tasks
from meadow_api.store.task_reads import find_cluster

MOST = 10_000
SECONDS = 2.0
LEAD = 86400.0
AT_ONCE = 200

_SHOWN = (tasks.c.uuid, tasks.c.failed, tasks.c.name, tasks.c.worker, tasks.c.exception, tasks.c.traceback)


@dataclass(frozen=True)
class FailureFilter:
    """Whole values that narrow the failures."""

    name: str | None = None
    worker: str | None = None
    queue: str | None = None


@dataclass(frozen=True)
class Examined:
    """How many failures were read, whether those were all, and the oldest time of receipt among them."""

    failures: int = 0
    complete: bool = True
    back_to: float | None = None


def group_failures(
    connection: Connection, cluster_name: str, wanted: FailureFilter, grouping: Grouping, present: Presenter
) -> Examined:
    """Read failures into `grouping` until there are no more, or `MOST` of them or `SECONDS` are reached."""
    cluster = find_cluster(connection, cluster_name)
    if cluster is None:
        return Examined()
    end = time.monotonic() + SECONDS
    count, back_to = 0, None
    for statement in _statements(cluster, wanted, grouping, whole=present.changes):
        with connection.execution_options(yield_per=AT_ONCE).execute(statement.limit(MOST + 1)) as result:
            for rows in result.partitions(AT_ONCE):
                taken = rows[: MOST - count]
                if not taken or time.monotonic() > end:
                    return Examined(count, complete=False, back_to=back_to)
                for failure in _failures(taken, present):
                    grouping.add(failure)
                count += len(taken)
                received = taken[-1].received
                back_to = back_to if received == NO_TIME else received
                if len(taken) < len(rows):
                    return Examined(count, complete=False, back_to=back_to)
    return Examined(count, back_to=back_to)


def _failures(rows: Sequence[Any], present: Presenter) -> list[Failure]:
    """The failures in rows of `_SHOWN`, or of whole tasks where these may be shown otherwise than they are."""
    if not present.changes:
        return [Failure(*row[1:]) for row in rows if row.failed is not None]
    return [
        Failure(row.uuid, row.failed, shown["name"], shown["worker"], shown["exception"], shown["traceback"])
        for row, shown in zip(rows, map(present, tasks_of(rows)), strict=True)
        if row.failed is not None and shown["failed"] is not None
    ]


def _statements(
    cluster: int, wanted: FailureFilter, grouping: Grouping, *, whole: bool
) -> Iterator[Select[tuple[Any, ...]]]:
    failed = (select(tasks) if whole else select(tasks.c.received, *_SHOWN)).where(*_conditions(cluster, wanted))
    newest = failed.order_by(tasks.c.received.desc(), tasks.c.id.desc())
    yield newest.where(tasks.c.received >= grouping.since - LEAD, tasks.c.received <= grouping.until)
    yield newest.where(tasks.c.received == NO_TIME)


def _conditions(cluster: int, wanted: FailureFilter) -> Iterator[ColumnElement[bool]]:
    yield tasks.c.cluster == cluster
    yield tasks.c.state == "FAILURE"
    for column, value in ((tasks.c.name, wanted.name), (tasks.c.worker, wanted.worker), (tasks.c.queue, wanted.queue)):
        if value:
            yield column == value
