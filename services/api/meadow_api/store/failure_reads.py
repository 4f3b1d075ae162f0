"""The failures of a window, newest first, as many as a question may read.

They are found by the index on state and time of receipt; the window is about when they failed. So a task that was
received more than `LEAD` seconds before the window is not seen. One that no worker received is looked for by itself.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Select, select

from meadow_api.failures import Failure, Grouping
from meadow_api.shapes import task_of
from meadow_api.store.schema import NO_TIME, tasks
from meadow_api.store.task_reads import Present, find_cluster

MOST = 10_000
SECONDS = 2.0
LEAD = 86400.0
AT_ONCE = 200


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
    connection: Connection, cluster_name: str, wanted: FailureFilter, grouping: Grouping, present: Present
) -> Examined:
    """Read failures into `grouping` until there are no more, or `MOST` of them or `SECONDS` are reached."""
    cluster = find_cluster(connection, cluster_name)
    if cluster is None:
        return Examined()
    end = time.monotonic() + SECONDS
    count, back_to = 0, None
    for statement in _statements(cluster, wanted, grouping):
        result = connection.execution_options(yield_per=AT_ONCE).execute(statement.limit(MOST + 1))
        for row in result:
            if count >= MOST or (count % AT_ONCE == 0 and time.monotonic() > end):
                result.close()
                return Examined(count, complete=False, back_to=back_to)
            task = task_of(row)
            received = task["received"]
            back_to = received if received is not None else back_to
            shown = present(task)
            if shown["failed"] is not None:
                grouping.add(
                    Failure(
                        uuid=task["uuid"],
                        at=float(task["failed"]),
                        name=shown["name"],
                        worker=shown["worker"],
                        exception=shown["exception"],
                        traceback=shown["traceback"],
                    )
                )
            count += 1
    return Examined(count, back_to=back_to)


def _statements(cluster: int, wanted: FailureFilter, grouping: Grouping) -> Iterator[Select[tuple[object, ...]]]:
    failed = select(tasks).where(*_conditions(cluster, wanted))
    newest = failed.order_by(tasks.c.received.desc(), tasks.c.id.desc())
    yield newest.where(tasks.c.received >= grouping.since - LEAD, tasks.c.received <= grouping.until)
    yield newest.where(tasks.c.received == NO_TIME)


def _conditions(cluster: int, wanted: FailureFilter) -> Iterator[ColumnElement[bool]]:
    yield tasks.c.cluster == cluster
    yield tasks.c.state == "FAILURE"
    for column, value in ((tasks.c.name, wanted.name), (tasks.c.worker, wanted.worker), (tasks.c.queue, wanted.queue)):
        if value:
            yield column == value
