"""Wishes: what a person or a script wants a cluster to do. Only the controller fulfils them.

A wish travels as a `CommandRequest` to `meadow.command.<cluster>` and comes back as a `CommandReply`. Two of them are
questions (`InspectWorkers`, `GetResult`): they change nothing and are not audited.
"""

from typing import Any, ClassVar, Union

from msgspec import Struct

CODES = {
    "ok": "done, or broadcast where nobody answers",
    "invalid": "the wish makes no sense; the message says why",
    "unknown-worker": "no such worker was ever seen",
    "unknown-task": "the app has no task of that name",
    "refused-by-worker": "a worker said no, or did not answer in time",
    "unavailable": "the broker or the result backend cannot be reached",
    "no-backend": "the app has no result backend",
    "read-only": "Meadow runs with --read-only",
    "forbidden": "this actor may not do that",
    "failed": "an unexpected error; the audit record has it",
}
"""What a reply's `code` can be."""

DEFAULT_METHODS = ("stats", "active_queues", "registered", "conf")
DETAIL_METHODS = ("scheduled", "active", "reserved", "revoked")
INSPECT_METHODS = DEFAULT_METHODS + DETAIL_METHODS
"""The inspections that Meadow asks of workers, by Celery's names. The first four are cheap enough to ask everybody."""


class Command(Struct, frozen=True, kw_only=True, tag_field="command"):
    """Base of all wishes."""

    audited: ClassVar[bool] = True

    @property
    def target(self) -> str:
        """What the wish is about: a task id, a task name or a worker."""
        raise NotImplementedError

    @property
    def verb(self) -> str:
        """The wish's name, as in access rules and audit records."""
        return str(self.__struct_config__.tag)


class TaskCommand(Command, frozen=True, kw_only=True):
    """About one task by its id."""

    task_id: str

    @property
    def target(self) -> str:
        return self.task_id


class WorkerCommand(Command, frozen=True, kw_only=True):
    """About one worker by its full node name (`celery@host`)."""

    worker: str

    @property
    def target(self) -> str:
        return self.worker


class CallCommand(Command, frozen=True, kw_only=True):
    """Start a task. `options` are those of Celery's `apply_async`."""

    task: str
    args: list[Any] = []
    kwargs: Any = {}
    options: dict[str, Any] = {}

    @property
    def target(self) -> str:
        return self.task


class RevokeTask(TaskCommand, frozen=True, kw_only=True, tag="revoke"):
    """Do not run the task; with `terminate`, stop it with `signal` if it runs."""

    terminate: bool = False
    signal: str = "SIGTERM"


class AbortTask(TaskCommand, frozen=True, kw_only=True, tag="abort"):
    """Mark an `AbortableTask` as aborted in the result backend."""


class SetRateLimit(WorkerCommand, frozen=True, kw_only=True, tag="rate-limit"):
    """`rate` is Celery's: `5`, `100/m`, `0` for none."""

    task: str
    rate: str


class SetTimeLimits(WorkerCommand, frozen=True, kw_only=True, tag="time-limit"):
    """Seconds; `None` lifts the limit."""

    task: str
    soft: float | None = None
    hard: float | None = None


class GrowPool(WorkerCommand, frozen=True, kw_only=True, tag="pool-grow"):
    """`n` more pool processes."""

    n: int = 1


class ShrinkPool(WorkerCommand, frozen=True, kw_only=True, tag="pool-shrink"):
    """`n` fewer pool processes."""

    n: int = 1


class RestartPool(WorkerCommand, frozen=True, kw_only=True, tag="pool-restart"):
    """Needs `worker_pool_restarts`."""


class Autoscale(WorkerCommand, frozen=True, kw_only=True, tag="autoscale"):
    """Needs a worker started with `--autoscale`."""

    min: int
    max: int


class AddConsumer(WorkerCommand, frozen=True, kw_only=True, tag="add-consumer"):
    """The worker also takes tasks from `queue`, until it restarts."""

    queue: str


class CancelConsumer(WorkerCommand, frozen=True, kw_only=True, tag="cancel-consumer"):
    """The worker takes no more tasks from `queue`, until it restarts."""

    queue: str


class ShutdownWorker(WorkerCommand, frozen=True, kw_only=True, tag="shutdown"):
    """Warm shutdown: running tasks end first."""


class ApplyTask(CallCommand, frozen=True, kw_only=True, tag="apply"):
    """Call a registered task and wait up to `timeout` seconds for its result (`None`: the controller's limit)."""

    timeout: float | None = None


class AsyncApplyTask(CallCommand, frozen=True, kw_only=True, tag="async-apply"):
    """Call a registered task."""


class SendTask(CallCommand, frozen=True, kw_only=True, tag="send-task"):
    """Send a task by name; nobody checks that it exists."""


class InspectWorkers(Command, frozen=True, kw_only=True, tag="inspect"):
    """Ask workers (`None`: all) what they are doing. The reply's `value` is worker → method → answer.

    Answers younger than `max_age` seconds are served again instead of asking the workers once more.
    """

    audited: ClassVar[bool] = False
    workers: tuple[str, ...] | None = None
    methods: tuple[str, ...] = DEFAULT_METHODS
    max_age: float = 0.0
    timeout: float | None = None

    @property
    def target(self) -> str:
        return ", ".join(self.workers or ("all workers",))


class GetResult(TaskCommand, frozen=True, kw_only=True, tag="result"):
    """State and result from the result backend; with `timeout`, wait up to that many seconds for it."""

    audited: ClassVar[bool] = False
    timeout: float | None = None


AnyCommand = Union[
    RevokeTask,
    AbortTask,
    SetRateLimit,
    SetTimeLimits,
    GrowPool,
    ShrinkPool,
    RestartPool,
    Autoscale,
    AddConsumer,
    CancelConsumer,
    ShutdownWorker,
    ApplyTask,
    AsyncApplyTask,
    SendTask,
    InspectWorkers,
    GetResult,
]


class CommandRequest(Struct, frozen=True, kw_only=True):
    """A wish with who wishes it. `claim` is a signed actor (`meadow.access.claims`), `source` their address."""

    cluster: str
    command: AnyCommand
    claim: str
    source: str = ""
    reason: str = ""


class CommandReply(Struct, frozen=True, kw_only=True):
    """What became of a wish.

    `code` is one of `CODES`, `message` a sentence, `value` what Flower's endpoint of that name answers in its JSON
    (`{"task-id": …, "state": …}`), `replies` each worker's own answer, `audit_id` the record that was written.
    """

    code: str = "ok"
    message: str = ""
    value: Any = None
    replies: dict[str, Any] = {}
    audit_id: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the wish was fulfilled."""
        return self.code == "ok"
