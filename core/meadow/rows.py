"""What answers are made of: rows of tasks, workers, queues and audit records, and the state of the pipeline.

Times are UTC epoch seconds.
"""

from typing import Any

from msgspec import Struct


class TaskRow(Struct, frozen=True, kw_only=True):
    """One line of a task list. `lost_since` is set when its worker went away and nothing was heard of it since."""

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
    lost_since: float | None = None


class AttemptRow(Struct, kw_only=True):
    """One attempt to run a task: its first run, a retry, or a delivery again after a worker was lost.

    `number` counts from 1; `retries` is 0 for the first, and stays the same when a message is delivered again. `state`
    is the last that this attempt showed.
    """

    number: int = 1
    retries: int | None = None
    worker: str | None = None
    pid: int | None = None
    queue: str | None = None
    sent: float | None = None
    received: float | None = None
    started: float | None = None
    ended: float | None = None
    state: str = "PENDING"
    runtime: float | None = None
    exception: str | None = None
    traceback: str | None = None


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
    """The collector's last report; `reported` is when it came. `None` fields: it never reported.

    `lag` is the seconds from event to publication, `loop_lag` those by which its event loop was late at most, lately.
    `buffered` events waited to be stored, `spilled_bytes` of them in a file.

    Where several collectors read one broker, `collector` is the one that publishes, `standbys` are those that would
    take over, and `takeovers` counts how often one has followed another.
    """

    reported: float | None = None
    connected: bool = False
    broker: str = ""
    since: float | None = None
    error: str | None = None
    received: int = 0
    published: int = 0
    dropped: int = 0
    lag: float | None = None
    loop_lag: float | None = None
    buffered: int = 0
    spilled_bytes: int = 0
    discarded: dict[str, int] = {}
    collector: str = ""
    standbys: tuple[str, ...] = ()
    takeovers: int = 0


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
