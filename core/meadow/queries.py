"""Questions to the api and its answers, sent as JSON over `meadow.query.<name>`.

`QUERIES` names each question; a question's answer type stands beside it. What answers are made of is in `meadow.rows`,
and can be had from here. Times are UTC epoch seconds.
"""

from typing import Any

from msgspec import Struct

from meadow.rows import (
    AttemptRow,
    AuditRow,
    CollectorState,
    Completeness,
    GapRow,
    QueueRow,
    RatePoint,
    StreamProgress,
    TaskRow,
    TaskTypeRow,
    WorkerCompleteness,
    WorkerRow,
)

__all__ = [
    "QUERIES",
    "AttemptRow",
    "AuditList",
    "AuditListQuery",
    "AuditRow",
    "Changed",
    "CollectorState",
    "Completeness",
    "Failure",
    "FlowerTasks",
    "FlowerTasksQuery",
    "GapRow",
    "Names",
    "NamesQuery",
    "Overview",
    "OverviewQuery",
    "Pipeline",
    "PipelineQuery",
    "Query",
    "QueueList",
    "QueueListQuery",
    "QueueRow",
    "RatePoint",
    "StreamProgress",
    "SuggestQuery",
    "Suggestion",
    "Suggestions",
    "TaskAnswer",
    "TaskList",
    "TaskListQuery",
    "TaskQuery",
    "TaskRow",
    "TaskTypeRow",
    "WorkerAnswer",
    "WorkerCompleteness",
    "WorkerList",
    "WorkerListQuery",
    "WorkerQuery",
    "WorkerRow",
]


class Query(Struct, frozen=True, kw_only=True):
    """Base of all questions. `cluster` is the cluster's name."""

    cluster: str


class TaskListQuery(Query, frozen=True, kw_only=True):
    """A page of tasks.

    `search` is in the search language; `state`, `name`, `worker` and `queue` are whole values that narrow it further.
    `sort` is one of name, state, received, started, runtime, worker, timestamp; a leading `-` means descending.
    `cursor` comes from a former answer's `next` or `previous`.
    """

    search: str = ""
    state: str | None = None
    name: str | None = None
    worker: str | None = None
    queue: str | None = None
    sort: str = "-received"
    limit: int = 50
    cursor: str | None = None


class TaskList(Struct, frozen=True, kw_only=True):
    """`next`/`previous` are cursors, `None` at the ends. `error` is a fault in the search text, at `error_position`.

    `partial` says that time was up: these are the rows found until then, and `next` goes on from there.
    """

    rows: list[TaskRow] = []
    next: str | None = None
    previous: str | None = None
    error: str | None = None
    error_position: int | None = None
    partial: bool = False


class TaskQuery(Query, frozen=True, kw_only=True):
    """One task by its id."""

    uuid: str


class TaskAnswer(Struct, frozen=True, kw_only=True):
    """`task` has Flower's 31 keys plus `queue`, `pid`, `lost_since`, `lost_reason`; `None` when the task is unknown.

    `attempts` are its runs, the first one first; `relatives` the known tasks of the same root (at most 200), `audit`
    what people did to this task.
    """

    task: dict[str, Any] | None = None
    attempts: list[AttemptRow] = []
    relatives: list[TaskRow] = []
    audit: list[AuditRow] = []


class WorkerListQuery(Query, frozen=True, kw_only=True):
    """All workers."""


class WorkerList(Struct, frozen=True, kw_only=True):
    """The workers, by name. `collector` says whether what is shown is current."""

    rows: list[WorkerRow] = []


class WorkerQuery(Query, frozen=True, kw_only=True):
    """One worker by its node name."""

    hostname: str


class WorkerAnswer(Struct, frozen=True, kw_only=True):
    """`worker` is `None` when neither events nor inspections know it.

    `inspection` maps an inspection's name (`stats`, …) to the worker's answer, `inspected` to when it was given.
    """

    worker: WorkerRow | None = None
    inspection: dict[str, Any] = {}
    inspected: dict[str, float] = {}
    recent: list[TaskRow] = []
    audit: list[AuditRow] = []


class QueueListQuery(Query, frozen=True, kw_only=True):
    """All queues; `history` is how many seconds of depth samples to send along."""

    history: float = 3600.0


class QueueList(Struct, frozen=True, kw_only=True):
    """`observed` is when the depths were read, `error` why they could not be; `supported` is false for brokers
    that do not tell."""

    rows: list[QueueRow] = []
    broker: str = ""
    observed: float | None = None
    error: str | None = None
    supported: bool = True


class OverviewQuery(Query, frozen=True, kw_only=True):
    """The first screen: `seconds` of history."""

    seconds: float = 3600.0


class Overview(Struct, frozen=True, kw_only=True):
    """What is going on: series, workers, queues, the latest failures, the collector.

    `completeness` is that of the last hour, `gaps` are those in the time asked for, and at least in the last hour.
    `streams` tell how reading them into the store goes.
    """

    now: float
    step: float = 10.0
    points: list[RatePoint] = []
    types: list[TaskTypeRow] = []
    workers: list[WorkerRow] = []
    queues: QueueList
    failures: list[TaskRow] = []
    running: list[TaskRow] = []
    collector: CollectorState
    tasks_stored: int | None = None
    completeness: Completeness = Completeness()
    gaps: list[GapRow] = []
    streams: list[StreamProgress] = []


class PipelineQuery(Query, frozen=True, kw_only=True):
    """How well events arrive; `seconds` is how far back to count starts and list gaps."""

    seconds: float = 3600.0


class Pipeline(Struct, frozen=True, kw_only=True):
    """How complete the picture is, and how fast it is: workers with the most missing first, newest gaps first.

    `workers` and `gaps` may be cut; `workers_known` and `total` are not.
    """

    now: float
    seconds: float
    total: Completeness
    workers: list[WorkerCompleteness] = []
    workers_known: int = 0
    gaps: list[GapRow] = []
    collector: CollectorState
    streams: list[StreamProgress] = []


class AuditListQuery(Query, frozen=True, kw_only=True):
    """The newest audit records first; `target` and `actor` are whole values; `cursor` comes from `next`."""

    target: str | None = None
    actor: str | None = None
    limit: int = 50
    cursor: str | None = None


class AuditList(Struct, frozen=True, kw_only=True):
    """A page of audit records."""

    rows: list[AuditRow] = []
    next: str | None = None


class NamesQuery(Query, frozen=True, kw_only=True):
    """What there is to filter by."""


class Names(Struct, frozen=True, kw_only=True):
    """Known task names, workers and states."""

    tasks: list[str] = []
    workers: list[str] = []
    states: list[str] = []


class SuggestQuery(Query, frozen=True, kw_only=True):
    """What may come next in a search; `position` is where the cursor is, counted in characters."""

    search: str = ""
    position: int = 0


class Suggestion(Struct, frozen=True, kw_only=True):
    """A text to put in place of what is written, and what it means."""

    text: str
    kind: str
    help: str = ""


class Suggestions(Struct, frozen=True, kw_only=True):
    """Each replaces the characters from `start` up to `end`."""

    start: int
    end: int
    suggestions: list[Suggestion] = []


class FlowerTasksQuery(Query, frozen=True, kw_only=True):
    """Tasks as Flower's own list endpoints give them: by offset, sorted by any of Flower's task fields.

    `search` is in Flower's search language; a fault in it comes back as `error`.
    """

    search: str = ""
    sort: str | None = None
    descending: bool = False
    offset: int = 0
    limit: int = 0


class FlowerTasks(Struct, frozen=True, kw_only=True):
    """`tasks` have Flower's 31 keys; `total` is all tasks, `filtered` those that match (both may stop at 100,000)."""

    tasks: list[dict[str, Any]] = []
    total: int = 0
    filtered: int = 0
    error: str | None = None


class Failure(Struct, frozen=True, kw_only=True):
    """The api could not answer; `invalid` says that the question was at fault."""

    error: str
    invalid: bool = False


QUERIES: dict[str, tuple[type[Query], type[Struct]]] = {
    "tasks": (TaskListQuery, TaskList),
    "task": (TaskQuery, TaskAnswer),
    "workers": (WorkerListQuery, WorkerList),
    "worker": (WorkerQuery, WorkerAnswer),
    "queues": (QueueListQuery, QueueList),
    "overview": (OverviewQuery, Overview),
    "pipeline": (PipelineQuery, Pipeline),
    "audit": (AuditListQuery, AuditList),
    "names": (NamesQuery, Names),
    "suggest": (SuggestQuery, Suggestions),
    "flower-tasks": (FlowerTasksQuery, FlowerTasks),
}
"""Each question's name on the bus, its type and its answer's type."""


class Changed(Struct, frozen=True, kw_only=True):
    """The store of `cluster` holds everything up to stream sequence `sequence`, and this is new.

    `topics` are any of tasks, workers, queues, audit, collector, pipeline. `tasks` are the ids of the tasks that
    changed, or `None` when there were too many to name; `workers` likewise.
    """

    cluster: str
    sequence: int
    topics: tuple[str, ...] = ()
    tasks: tuple[str, ...] | None = ()
    workers: tuple[str, ...] | None = ()
