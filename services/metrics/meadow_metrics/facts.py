"""The facts as far as the series need them: of each event the few fields that are counted, nothing else is decoded.

Names, tags and meanings are those of `meadow.events`.
"""

from typing import Any, Union

from msgspec import Struct

from meadow.codec import BatchReader
from meadow.events import CollectorReported


class Fact(Struct, frozen=True, kw_only=True, tag_field="type", gc=False):
    """Base of all."""

    seen: float


class TaskEvent(Fact, frozen=True, kw_only=True, gc=False):
    """An event about one task."""

    hostname: str
    timestamp: float
    uuid: str


class TaskDetails(TaskEvent, frozen=True, kw_only=True, gc=False):
    """The events that name a task."""

    name: str | None = None
    eta: str | None = None


class TaskSent(TaskDetails, frozen=True, kw_only=True, gc=False, tag="task-sent"):
    """A client published the task."""


class TaskReceived(TaskDetails, frozen=True, kw_only=True, gc=False, tag="task-received"):
    """A worker took the message."""


class TaskStarted(TaskEvent, frozen=True, kw_only=True, gc=False, tag="task-started"):
    """The task's function is about to run."""


class TaskSucceeded(TaskEvent, frozen=True, kw_only=True, gc=False, tag="task-succeeded"):
    """`runtime` is in seconds."""

    runtime: float | None = None


class TaskFailed(TaskEvent, frozen=True, kw_only=True, gc=False, tag="task-failed"):
    """The task raised."""


class TaskRetried(TaskEvent, frozen=True, kw_only=True, gc=False, tag="task-retried"):
    """The task asked to be run again."""


class TaskRevoked(TaskEvent, frozen=True, kw_only=True, gc=False, tag="task-revoked"):
    """The task was revoked."""


class TaskRejected(TaskEvent, frozen=True, kw_only=True, gc=False, tag="task-rejected"):
    """The task raised `Reject`."""


class TaskCancelled(TaskEvent, frozen=True, kw_only=True, gc=False, tag="task-cancelled"):
    """The worker cancelled the task."""


class CustomEvent(Fact, frozen=True, kw_only=True, tag="custom"):
    """An event type that Celery does not define."""

    hostname: str
    event: str
    uuid: str | None = None
    fields: dict[str, Any] = {}


class WorkerEvent(Fact, frozen=True, kw_only=True, gc=False):
    """What workers say about themselves."""

    hostname: str
    pid: int | None = None
    freq: float = 2.0
    active: int | None = None


class WorkerOnline(WorkerEvent, frozen=True, kw_only=True, gc=False, tag="worker-online"):
    """The worker is ready."""


class WorkerHeartbeat(WorkerEvent, frozen=True, kw_only=True, gc=False, tag="worker-heartbeat"):
    """The worker is alive."""


class WorkerOffline(WorkerEvent, frozen=True, kw_only=True, gc=False, tag="worker-offline"):
    """The worker is shutting down in good order."""


class QueueDepth(Struct, frozen=True, gc=False):
    """One queue as the broker shows it."""

    name: str
    messages: int | None = None


class QueuesObserved(Fact, frozen=True, kw_only=True, tag="queues-observed"):
    """Depth of the queues."""

    queues: tuple[QueueDepth, ...] = ()


class WorkerInspected(Fact, frozen=True, kw_only=True, gc=False, tag="worker-inspected"):
    """Not counted."""


class CollectorGap(Fact, frozen=True, kw_only=True, gc=False, tag="collector-gap"):
    """Not counted."""


AnyFact = Union[
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
    WorkerOnline,
    WorkerHeartbeat,
    WorkerOffline,
    WorkerInspected,
    QueuesObserved,
    CollectorReported,
    CollectorGap,
]


def reader() -> BatchReader[AnyFact]:
    """Reads batches as they come on the bus."""
    return BatchReader(AnyFact)


def type_of(kind: type[TaskEvent]) -> str:
    """The event type of facts of that kind."""
    return str(kind.__struct_config__.tag)
