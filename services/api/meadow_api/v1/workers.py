"""Workers: all of them, and one with what it answered to inspections."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from meadow.queries import WorkerAnswer, WorkerList, WorkerListQuery, WorkerQuery, WorkerRow
from meadow_api.answers import Answers
from meadow_api.v1.endpoint import Endpoint, Example, Reading
from meadow_api.v1.parameters import Word, refused


class WorkersParameters(Struct, frozen=True, kw_only=True):
    """Which workers."""

    online: Annotated[bool | None, Meta(description="Only workers that are online, or only those that are not.")] = None
    queue: Annotated[Word | None, Meta(description="Only workers that consume this queue.")] = None


class WorkerParameters(Struct, frozen=True, kw_only=True):
    """Which worker."""

    hostname: Annotated[Word, Meta(description="The worker's node name, such as `celery@host`.")]


def endpoints(reading: Reading, answers: Answers) -> list[Endpoint]:
    """The endpoints of this resource."""

    async def list_workers(given: WorkersParameters) -> WorkerList:
        found = await answers.workers(WorkerListQuery(cluster=reading.cluster))
        return WorkerList(rows=_chosen(found.rows, given))

    async def show_worker(given: WorkerParameters) -> WorkerAnswer:
        found = await answers.worker(WorkerQuery(cluster=reading.cluster, hostname=given.hostname))
        if found.worker is None:
            raise refused(
                f"There is no worker {given.hostname[:200]!r}.",
                f"GET {reading.settings.prefix}/api/v1/workers lists those that are known.",
                status=404,
                error="not-found",
            )
        return found

    return [
        Endpoint(
            path="/workers",
            name="listWorkers",
            summary="All workers, by name",
            parameters=WorkersParameters,
            answer=WorkerList,
            load=list_workers,
            examples=(Example("Who is there", "online=true"),),
        ),
        Endpoint(
            path="/workers/{hostname}",
            name="showWorker",
            summary="One worker: what it says of itself, what it answered to inspections, its latest tasks",
            parameters=WorkerParameters,
            answer=WorkerAnswer,
            load=show_worker,
            missing=True,
        ),
    ]


def _chosen(rows: Sequence[WorkerRow], given: WorkersParameters) -> list[WorkerRow]:
    return [
        row
        for row in rows
        if (given.online is None or row.online == given.online) and (not given.queue or given.queue in row.queues)
    ]
