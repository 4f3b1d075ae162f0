"""Answers to the questions of `meadow.queries`, from the store."""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Connection

from meadow import queries, subjects
from meadow.bus import Handler
from meadow.codec import decode, encode
from meadow.errors import InvalidMessage, MeadowError
from meadow.queries import (
    AuditList,
    AuditListQuery,
    Failure,
    FlowerTasks,
    FlowerTasksQuery,
    Names,
    NamesQuery,
    Overview,
    OverviewQuery,
    Pipeline,
    PipelineQuery,
    Query,
    QueueList,
    QueueListQuery,
    StreamProgress,
    Suggestions,
    SuggestQuery,
    TaskAnswer,
    TaskList,
    TaskListQuery,
    TaskQuery,
    WorkerAnswer,
    WorkerList,
    WorkerListQuery,
    WorkerQuery,
)
from meadow.settings import Settings
from meadow_api.errors import InvalidQuestion, SearchError
from meadow_api.search.suggest import suggest
from meadow_api.shapes import TEXTS, Presenter, flower_task, shortened
from meadow_api.store import (
    attempt_reads,
    audit_reads,
    flower_reads,
    overview_reads,
    pipeline_reads,
    queue_reads,
    task_reads,
    worker_reads,
)
from meadow_api.store.database import Database
from meadow_api.store.flower_reads import FlowerFilter
from meadow_api.store.schema import tasks
from meadow_api.timeline import presented

log = logging.getLogger(__name__)

RECENT = 20
MOST_FLOWER_ROWS = 1000
TEXT_OF_A_PAGE = 700_000

T = TypeVar("T")
Q = TypeVar("Q", bound=Query)


class Answers:
    """Reads the store for each question. `clock` gives UTC epoch seconds, `progress` how reading the streams goes."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        clock: Callable[[], float] = time.time,
        progress: Callable[[], list[StreamProgress]] = list,
    ) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._progress = progress
        self.present = Presenter(settings.format_task)

    def handlers(self, max_payload: int) -> dict[str, Handler]:
        """What the bus calls, by subject."""
        answering: dict[str, Callable[[Any], Awaitable[Struct]]] = {
            "tasks": self.tasks,
            "task": self.task,
            "workers": self.workers,
            "worker": self.worker,
            "queues": self.queues,
            "overview": self.overview,
            "pipeline": self.pipeline,
            "audit": self.audit,
            "names": self.names,
            "suggest": self.suggest,
            "flower-tasks": self.flower_tasks,
        }
        return {
            subjects.query(name): _handler(kind, answering[name], max_payload)
            for name, (kind, _) in queries.QUERIES.items()
        }

    async def tasks(self, query: TaskListQuery) -> TaskList:
        """A page of tasks."""
        return await self._read(lambda c: task_reads.list_tasks(c, query, self.present))

    async def task(self, query: TaskQuery) -> TaskAnswer:
        """One task, its relatives, and what people did to it."""

        def work(connection: Connection) -> TaskAnswer:
            task = task_reads.get_task(connection, query.cluster, query.uuid)
            done = audit_reads.audit_of(connection, query.cluster, query.uuid)
            if task is None:
                return TaskAnswer(audit=done)
            relatives = task_reads.relatives_of(connection, query.cluster, task, self.present)
            shown = self.present(task)
            runs = attempt_reads.attempts(connection, query.cluster, query.uuid)
            attempts = presented(runs, task, self.present)
            return TaskAnswer(task=shown, attempts=attempts, relatives=relatives, audit=done)

        return await self._read(work)

    async def workers(self, query: WorkerListQuery) -> WorkerList:
        """All workers."""
        return await self._read(
            lambda c: WorkerList(rows=worker_reads.list_workers(c, query.cluster, self._clock(), purge=self._purge))
        )

    async def worker(self, query: WorkerQuery) -> WorkerAnswer:
        """One worker with its inspections."""

        def work(connection: Connection) -> WorkerAnswer:
            rows = worker_reads.list_workers(connection, query.cluster, self._clock(), query.hostname)
            if not rows:
                return WorkerAnswer()
            inspected = worker_reads.read_inspections(connection, query.cluster, query.hostname)
            answers = inspected.get(query.hostname, {})
            return WorkerAnswer(
                worker=rows[0],
                inspection={method: worker_reads.bounded(answer) for method, (_, answer) in answers.items()},
                inspected={method: at for method, (at, _) in answers.items()},
                recent=self._recent(connection, query),
                audit=audit_reads.audit_of(connection, query.cluster, query.hostname),
            )

        return await self._read(work)

    async def queues(self, query: QueueListQuery) -> QueueList:
        """All queues."""
        return await self._read(lambda c: queue_reads.list_queues(c, query.cluster, self._clock(), query.history))

    async def overview(self, query: OverviewQuery) -> Overview:
        """The first screen."""
        progress = self._progress()
        found = await self._read(
            lambda c: overview_reads.read_overview(
                c, query.cluster, self._clock(), query.seconds, self.present, self._purge
            )
        )
        return replace(found, streams=progress)

    async def pipeline(self, query: PipelineQuery) -> Pipeline:
        """How complete the picture is, and how fast."""
        progress = self._progress()
        return await self._read(
            lambda c: pipeline_reads.read_pipeline(
                c, query.cluster, self._clock(), query.seconds, progress, self._purge
            )
        )

    async def audit(self, query: AuditListQuery) -> AuditList:
        """A page of audit records."""
        return await self._read(lambda c: audit_reads.list_audit(c, query))

    async def names(self, query: NamesQuery) -> Names:
        """What there is to filter by."""

        def work(connection: Connection) -> Names:
            cluster = task_reads.find_cluster(connection, query.cluster)
            if cluster is None:
                return Names()
            workers = worker_reads.list_workers(connection, query.cluster, self._clock(), purge=self._purge)
            return Names(
                tasks=task_reads.distinct(connection, cluster, tasks.c.name),
                workers=[worker.hostname for worker in workers],
                states=task_reads.distinct(connection, cluster, tasks.c.state),
            )

        return await self._read(work)

    async def suggest(self, query: SuggestQuery) -> Suggestions:
        """What may come next in a search."""
        return await self._read(lambda c: suggest(c, query.cluster, query.search, query.position))

    async def flower_tasks(self, query: FlowerTasksQuery) -> FlowerTasks:
        """Tasks as Flower's own table asks for them."""
        if query.sort is not None and query.sort not in flower_reads.SORTABLE:
            raise InvalidQuestion(f"Tasks cannot be sorted by {query.sort[:50]!r}.")

        def work(connection: Connection) -> FlowerTasks:
            total = min(flower_reads.count_all(connection, query.cluster), flower_reads.MOST_COUNTED)
            try:
                filtered = flower_reads.count_matching(connection, query.cluster, query.search)
                ids = flower_reads.find_ids(
                    connection,
                    query.cluster,
                    FlowerFilter(search=query.search),
                    sort=query.sort,
                    descending=query.descending,
                    offset=query.offset,
                    limit=min(query.limit, MOST_FLOWER_ROWS),
                )
            except SearchError as exc:
                return FlowerTasks(total=total, error=str(exc))
            found = [flower_task(task) for task in flower_reads.read_tasks(connection, ids, self.present)]
            return FlowerTasks(tasks=_fitting(found), total=total, filtered=min(filtered, flower_reads.MOST_COUNTED))

        return await self._read(work)

    @property
    def _purge(self) -> float | None:
        return self._settings.purge_offline_workers

    def _recent(self, connection: Connection, query: WorkerQuery) -> list[queries.TaskRow]:
        cluster = task_reads.find_cluster(connection, query.cluster)
        if cluster is None:
            return []
        of_worker = tasks.c.worker == query.hostname
        return task_reads.newest_tasks(connection, cluster, self.present, RECENT, of_worker)

    async def _read(self, work: Callable[[Connection], T]) -> T:
        return await self._database.read(work)


def _handler(kind: type[Q], answer: Callable[[Q], Awaitable[Struct]], max_payload: int) -> Handler:
    async def handle(data: bytes) -> bytes:
        try:
            encoded = encode(await answer(decode(data, kind)))
        except MeadowError as exc:
            return encode(Failure(error=str(exc), invalid=isinstance(exc, (InvalidQuestion, InvalidMessage))))
        if len(encoded) > max_payload:
            log.warning(
                "An answer of %d bytes is more than NATS takes (%d).",
                len(encoded),
                max_payload,
                extra={"action": "api.answer-too-large"},
            )
            return encode(Failure(error="The answer is larger than NATS takes. Ask for fewer rows."))
        return encoded

    return handle


def _fitting(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tasks with their texts cut where together they would not fit into one message."""
    total = sum(len(task[key]) for task in found for key in TEXTS if isinstance(task[key], str))
    if total <= TEXT_OF_A_PAGE:
        return found
    longest = TEXT_OF_A_PAGE // (len(found) * len(TEXTS))
    for task in found:
        for key in TEXTS:
            if isinstance(task[key], str):
                task[key] = shortened(task[key], longest)
    return found
