"""Questions to the api and its answers, sent as JSON over `meadow.query.<name>`.

`QUERIES` names each question; a question's answer type stands beside it. Times are UTC epoch seconds.
"""

from typing import Any

from msgspec import Struct


class Query(Struct, frozen=True, kw_only=True):
    """Base of all questions. `cluster` is the cluster's name."""

    cluster: str


class TaskRow(Struct, frozen=True, kw_only=True):
    """One line of a task list."""

    uuid: str
    name: str | None = None
    state: str
    args: str | None = None
    kwargs: str | None = None
    result: str | None = None
    exception: str | None = None
    worker: str | None = None
    queue: str | None = None
    retries: int = 0
    sent: float | None = None
    received: float | None = None
    started: float | None = None
    revoked: float | None = None
    timestamp: float
    runtime: float | None = None
    eta: str | None = None
    expires: str | None = None
    exchange: str | None = None
    routing_key: str | None = None


class TaskListQuery(Query, frozen=True, kw_only=True):
    """A page of tasks.

    `search` is in the search language; `state`, `name` and `worker` are whole values that narrow it further.
    `sort` is one of name, state, received, started, runtime, worker, timestamp; a leading `-` means descending.
    `cursor` comes from a former answer's `next` or `previous`.
    """

    search: str = ""
    state: str | None = None
    name: str | None = None
    worker: str | None = None
    sort: str = "-received"
    limit: int = 50
    cursor: str | None = None


class TaskList(Struct, frozen=True, kw_only=True):
    """`next`/`previous` are cursors, `None` at the ends. `error` is a fault in the search text, at `error_position`."""

    rows: list[TaskRow] = []
    next: str | None = None
    previous: str | None = None
    error: str | None = None
    error_position: int | None = None


class TaskQuery(Query, frozen=True, kw_only=True):
    """One task by its id."""

    uuid: str


class TaskAnswer(Struct, frozen=True, kw_only=True):
    """`task` has Flower's 31 keys plus `queue`, `pid`; `None` when the task is unknown.

    `relatives` are the known tasks of the same root (at most 200), `audit` what people did to this task.
    """

    task: dict[str, Any] | None = None
    relatives: list[TaskRow] = []
    audit: list["AuditRow"] = []


class WorkerListQuery(Query, frozen=True, kw_only=True):
    """All workers."""


class WorkerRow(Struct, frozen=True, kw_only=True):
    """One worker as its events and its last inspection show it.

    `online` is judged by Meadow's clock: a heartbeat arrived within the last two intervals (and at least 5 s).
    `counters` counts events by type (`task-received`, …) since Meadow first saw the worker. `skew` is the worker's
    clock minus Meadow's, in seconds. `concurrency` and `queues` come from the last inspection.
    """

    hostname: str
    online: bool
    since: float | None = None
    first_seen: float | None = None
    last_seen: float | None = None
    heartbeats: list[float] = []
    freq: float = 2.0
    pid: int | None = None
    clock: int | None = None
    active: int | None = None
    processed: int | None = None
    loadavg: list[float] = []
    sw_ident: str | None = None
    sw_ver: str | None = None
    sw_sys: str | None = None
    skew: float | None = None
    counters: dict[str, int] = {}
    concurrency: int | None = None
    pool: str | None = None
    queues: list[str] = []


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
    audit: list["AuditRow"] = []


class QueueListQuery(Query, frozen=True, kw_only=True):
    """All queues; `history` is how many seconds of depth samples to send along."""

    history: float = 3600.0


class QueueRow(Struct, frozen=True, kw_only=True):
    """One queue. `workers` are the online workers that consume it; `samples` are (time, messages)."""

    name: str
    messages: int | None = None
    ready: int | None = None
    unacked: int | None = None
    consumers: int | None = None
    workers: list[str] = []
    samples: list[tuple[float, int | None]] = []
    raw: dict[str, Any] | None = None


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


class RatePoint(Struct, frozen=True, kw_only=True):
    """Events of a time slice that begins at `at` and is `Overview.step` seconds wide."""

    at: float
    received: int = 0
    succeeded: int = 0
    failed: int = 0
    retried: int = 0


class TaskTypeRow(Struct, frozen=True, kw_only=True):
    """One task name in the time asked for. `runtime` is the mean in seconds."""

    name: str
    received: int = 0
    succeeded: int = 0
    failed: int = 0
    retried: int = 0
    runtime: float | None = None


class CollectorState(Struct, frozen=True, kw_only=True):
    """The collector's last report; `reported` is when it came. `None` fields: it never reported."""

    reported: float | None = None
    connected: bool = False
    broker: str = ""
    since: float | None = None
    error: str | None = None
    received: int = 0
    published: int = 0
    dropped: int = 0
    lag: float | None = None
    discarded: dict[str, int] = {}


class GapRow(Struct, frozen=True, kw_only=True):
    """Events that never arrived between `start` and `end`: `events` of them, where that is known."""

    start: float
    end: float
    reason: str
    events: int | None = None


class Completeness(Struct, frozen=True, kw_only=True):
    """Task starts that workers counted (`expected`) and those that arrived (`seen`), over some time.

    `missing` sums what each worker lacks, `surplus` what came more often than it happened; the one does not make up
    for the other. What is missing was lost between `missing_since` and `missing_until`, on `workers` workers, most of
    it on `worst`.
    """

    expected: int = 0
    seen: int = 0
    missing: int = 0
    surplus: int = 0
    missing_since: float | None = None
    missing_until: float | None = None
    workers: int = 0
    worst: str | None = None


class Overview(Struct, frozen=True, kw_only=True):
    """What is going on: series, workers, queues, the latest failures, the collector.

    `completeness` is that of the last hour, `gaps` are those in the time asked for, and at least in the last hour.
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


class PipelineQuery(Query, frozen=True, kw_only=True):
    """How well events arrive; `seconds` is how far back to count starts and list gaps."""

    seconds: float = 3600.0


class WorkerCompleteness(Struct, frozen=True, kw_only=True):
    """One worker's task starts in the time asked for.

    `since` is when its present process began to be counted (`None`: not yet), `checked` the newest heartbeat that was
    compared. `skew` is the worker's clock minus Meadow's.
    """

    hostname: str
    online: bool
    expected: int = 0
    seen: int = 0
    missing: int = 0
    surplus: int = 0
    since: float | None = None
    checked: float | None = None
    missing_since: float | None = None
    missing_until: float | None = None
    skew: float | None = None


class StreamProgress(Struct, frozen=True, kw_only=True):
    """How reading one stream into the store goes, since this api started.

    `behind` messages wait. `invalid` were no batches of facts, `repeated` were there before, `rejected` could not be
    stored. `lag` is the seconds from the collector's sight of an event to its committed row, as measured at `lag_at`;
    `rate` the events written per second in the last minute.
    """

    stream: str
    position: int = 0
    behind: int = 0
    events: int = 0
    invalid: int = 0
    repeated: int = 0
    rejected: int = 0
    error: str | None = None
    lag: float | None = None
    lag_at: float | None = None
    rate: float = 0.0


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


class AuditRow(Struct, frozen=True, kw_only=True):
    """Intent and outcome in one. `code` is `None` while (or for ever if) no outcome is known."""

    id: str
    at: float
    actor: str
    actor_kind: str
    source: str
    command: str
    target: str
    parameters: dict[str, Any] = {}
    reason: str = ""
    code: str | None = None
    message: str = ""
    replies: dict[str, Any] = {}
    seconds: float | None = None


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
