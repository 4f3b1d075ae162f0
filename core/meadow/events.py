"""Facts: what has happened. They are all that the collector and the controller tell the rest of Meadow.

The tags (`type`) of facts about tasks and workers are Celery's own event names; Meadow's own facts have names of
their own. Times are UTC epoch seconds. `timestamp` is the sender's clock, `seen` the clock of the collector when the
event arrived; their difference is the sender's clock skew.
"""

from typing import Any, Union

from msgspec import Struct


class Fact(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", gc=False):
    """Base of all facts. They come from JSON and never change, so there are no cycles for the collector of garbage."""


class CeleryEvent(Fact, frozen=True, kw_only=True):
    """What all events of Celery carry."""

    hostname: str
    timestamp: float
    seen: float
    clock: int = 0
    pid: int | None = None


class TaskEvent(CeleryEvent, frozen=True, kw_only=True):
    """An event about one task. `hostname` is the worker's node name, for `task-sent` the publisher's."""

    uuid: str


class TaskDetails(TaskEvent, frozen=True, kw_only=True):
    """The events that describe a task: sent and received. `args` and `kwargs` are reprs, cut by Celery itself."""

    name: str | None = None
    args: str | None = None
    kwargs: str | None = None
    root_id: str | None = None
    parent_id: str | None = None
    retries: int = 0
    eta: str | None = None
    expires: str | None = None


class TaskSent(TaskDetails, frozen=True, kw_only=True, tag="task-sent"):
    """A client published the task. Only clients with `task_send_sent_event` say so."""

    queue: str | None = None
    exchange: str | None = None
    routing_key: str | None = None


class TaskReceived(TaskDetails, frozen=True, kw_only=True, tag="task-received"):
    """A worker took the message."""


class TaskStarted(TaskEvent, frozen=True, kw_only=True, tag="task-started"):
    """The task's function is about to run."""


class TaskSucceeded(TaskEvent, frozen=True, kw_only=True, tag="task-succeeded"):
    """`result` is a repr, `runtime` is in seconds."""

    result: str | None = None
    runtime: float | None = None


class TaskFailed(TaskEvent, frozen=True, kw_only=True, tag="task-failed"):
    """The task raised, or could not be run at all."""

    exception: str | None = None
    traceback: str | None = None


class TaskRetried(TaskEvent, frozen=True, kw_only=True, tag="task-retried"):
    """The task asked to be run again."""

    exception: str | None = None
    traceback: str | None = None


class TaskRevoked(TaskEvent, frozen=True, kw_only=True, tag="task-revoked"):
    """The task was revoked before or while it ran, or had expired."""

    terminated: bool = False
    signum: str | None = None
    expired: bool = False


class TaskRejected(TaskEvent, frozen=True, kw_only=True, tag="task-rejected"):
    """The task raised `Reject`."""

    requeue: bool = False


class TaskCancelled(TaskEvent, frozen=True, kw_only=True, tag="task-cancelled"):
    """The worker lost its broker connection and cancelled the running task (Celery 5.7)."""


class CustomEvent(CeleryEvent, frozen=True, kw_only=True, tag="custom"):
    """An event type that Celery does not define, kept as it came.

    `event` is the type as sent (`task-progress`), `uuid` the task's id where the event has one, `fields` the rest.
    """

    event: str
    uuid: str | None = None
    fields: dict[str, Any] = {}


class WorkerEvent(CeleryEvent, frozen=True, kw_only=True):
    """What workers say about themselves. `freq` is the seconds between two heartbeats."""

    freq: float = 2.0
    active: int | None = None
    processed: int | None = None
    loadavg: tuple[float, ...] = ()
    sw_ident: str | None = None
    sw_ver: str | None = None
    sw_sys: str | None = None


class WorkerOnline(WorkerEvent, frozen=True, kw_only=True, tag="worker-online"):
    """The worker is ready."""


class WorkerHeartbeat(WorkerEvent, frozen=True, kw_only=True, tag="worker-heartbeat"):
    """The worker is alive."""


class WorkerOffline(WorkerEvent, frozen=True, kw_only=True, tag="worker-offline"):
    """The worker is shutting down in good order. A killed worker never says so."""


class QueueDepth(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One queue as the broker shows it; `None` where this broker does not tell.

    `raw` is what the broker's management API answered, for those who want all of it.
    """

    name: str
    messages: int | None = None
    ready: int | None = None
    unacked: int | None = None
    consumers: int | None = None
    raw: dict[str, Any] | None = None


class QueuesObserved(Fact, frozen=True, kw_only=True, tag="queues-observed"):
    """Depth of the queues at `seen`. `error` says why nothing could be read."""

    seen: float
    queues: tuple[QueueDepth, ...] = ()
    error: str | None = None
    supported: bool = True


class WorkerInspected(Fact, frozen=True, kw_only=True, tag="worker-inspected"):
    """What one worker answered to inspections at `seen`: method name (`stats`, `active`, …) to its answer."""

    hostname: str
    seen: float
    replies: dict[str, Any]


class CollectorReported(Fact, frozen=True, kw_only=True, tag="collector-reported"):
    """The collector's own state: said when it changes, and every few seconds.

    `broker` is the broker's URL without its password. `discarded` counts invalid events by reason since the start,
    `dropped` the events given up because the buffer was full, `lag` the seconds from event to publication, `loop_lag`
    those by which the collector's event loop was late at most, in the last 15 to 30 seconds. `buffered` events wait to
    be stored, `spilled_bytes` of them in a file.
    Where one collector of several publishes, it is this one, `standbys` names those that would take over, and
    `takeovers` counts how often one collector has followed another.
    """

    seen: float
    broker: str
    connected: bool
    since: float
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


class CollectorGap(Fact, frozen=True, kw_only=True, tag="collector-gap"):
    """Events between `start` and `end` are missing: `events` of them where that is known."""

    seen: float
    start: float
    end: float
    reason: str
    events: int | None = None


TaskFact = Union[
    TaskSent,
    TaskReceived,
    TaskStarted,
    TaskSucceeded,
    TaskFailed,
    TaskRetried,
    TaskRevoked,
    TaskRejected,
    TaskCancelled,
    CustomEvent,
]
WorkerFact = Union[WorkerOnline, WorkerHeartbeat, WorkerOffline, WorkerInspected]
AnyFact = Union[TaskFact, WorkerFact, QueuesObserved, CollectorReported, CollectorGap]


def type_of(fact: AnyFact) -> str:
    """The fact's event type, for a custom event the type it was sent with.

    >>> type_of(TaskStarted(uuid="a", hostname="w@h", timestamp=1.0, seen=1.0))
    'task-started'
    """
    if isinstance(fact, CustomEvent):
        return fact.event
    return str(fact.__struct_config__.tag)
