"""What a wish will do, in words with names and numbers, before anybody confirms it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from meadow.commands import (
    AddConsumer,
    AnyCommand,
    Autoscale,
    CancelConsumer,
    GrowPool,
    RestartPool,
    RevokeTask,
    SendTask,
    SetRateLimit,
    SetTimeLimits,
    ShrinkPool,
    ShutdownWorker,
)
from meadow.queries import WorkerRow
from meadow_web.formats import duration, plural, short

UNTIL_RESTART = "This holds until the worker restarts."


@dataclass(frozen=True)
class Facts:
    """What is known of the thing that a wish is about."""

    now: float
    task: Mapping[str, Any] | None = None
    worker: WorkerRow | None = None
    workers: list[WorkerRow] = field(default_factory=list)
    pool_size: int | None = None


def explain(command: AnyCommand, facts: Facts) -> list[str]:
    """Sentences: what will happen, what will not, what cannot be taken back."""
    for kind, teller in _TELLERS.items():
        if isinstance(command, kind):
            sentences: list[str] = teller(command, facts)
            return sentences
    return []


def _revoke(command: RevokeTask, facts: Facts) -> list[str]:
    name = _task_name(command, facts)
    worker = facts.task.get("worker") if facts.task else None
    where = f" on {worker}" if worker else ""
    if command.terminate:
        running = _running_for(facts)
        return [
            f"{name} runs{where}{running}. Its process gets {command.signal} and stops in the middle of what it does.",
            "What it has done so far is not undone. The pool starts a new process in its place.",
        ]
    if facts.task is None:
        waits = " No such task is known here."
    else:
        waits = f" It waits{' in ' + str(worker) if worker else ''}."
    return [
        f"{name} will not be run.{waits}",
        "All workers are told to skip it. They keep that in memory: a worker that starts later does not know it.",
    ]


def _send(command: SendTask, facts: Facts) -> list[str]:
    queue = command.options.get("queue")
    where = f"queue {queue}" if queue else "the queue that the app chooses for it"
    return [
        f"{command.task} is sent to {where} as a new task with a new id. The old one stays as it is.",
        "The arguments were taken from what the worker reported. They can be changed here.",
    ]


def _shutdown(command: ShutdownWorker, facts: Facts) -> list[str]:
    worker = facts.worker
    active = worker.active if worker is not None else None
    running = f"finishes its {plural(active, 'running task')}" if active else "has nothing running"
    sentences = [f"{command.worker} {running}, then stops. Nothing here can start it again."]
    others = [row for row in facts.workers if row.online and row.hostname != command.worker]
    orphans = sorted(set(worker.queues if worker else ()) - {queue for row in others for queue in row.queues})
    if orphans:
        sentences.append(f"No other worker takes tasks from {_listed(orphans)}; they would pile up there.")
    elif others:
        sentences.append(f"{plural(len(others), 'other worker')} stay{'s' * (len(others) == 1)} online for its queues.")
    else:
        sentences.append("It is the only worker online: no task will run until another is started.")
    return sentences


def _restart(command: RestartPool, facts: Facts) -> list[str]:
    active = facts.worker.active if facts.worker else None
    lost = f" {plural(active, 'task')} running now will be lost or run again." if active else ""
    size = f"all {facts.pool_size} processes" if facts.pool_size else "all processes"
    return [f"{command.worker} ends {size} of its pool and starts new ones.{lost}"]


def _grow(command: GrowPool, facts: Facts) -> list[str]:
    if facts.pool_size is None:
        return [f"The pool of {command.worker} grows by {plural(command.n, 'process', 'processes')}.", UNTIL_RESTART]
    after = facts.pool_size + command.n
    return [f"The pool of {command.worker} grows by {command.n}, from {facts.pool_size} to {after}.", UNTIL_RESTART]


def _shrink(command: ShrinkPool, facts: Facts) -> list[str]:
    size, busy = facts.pool_size, facts.worker.active if facts.worker else None
    if size is None:
        return [f"The pool of {command.worker} shrinks by {plural(command.n, 'process', 'processes')}.", UNTIL_RESTART]
    sentences = [f"The pool of {command.worker} shrinks by {command.n}, from {size} to {max(size - command.n, 0)}."]
    if command.n >= size:
        sentences.append("That leaves no process at all: the worker would take tasks and never run them.")
    elif busy is not None and command.n > size - busy:
        sentences.append(
            f"Only {plural(max(size - busy, 0), 'process', 'processes')} of {size} are idle. Celery ends those, "
            "then refuses the rest."
        )
    return [*sentences, UNTIL_RESTART]


def _autoscale(command: Autoscale, facts: Facts) -> list[str]:
    return [
        f"{command.worker} keeps {command.min} to {plural(command.max, 'process', 'processes')}, as work comes.",
        UNTIL_RESTART,
    ]


def _add_consumer(command: AddConsumer, facts: Facts) -> list[str]:
    others = [row.hostname for row in facts.workers if row.online and command.queue in row.queues]
    known = f" So far {_listed(others)} {'does' if len(others) == 1 else 'do'}." if others else ""
    return [f"{command.worker} also takes tasks from {command.queue}.{known}", UNTIL_RESTART]


def _cancel_consumer(command: CancelConsumer, facts: Facts) -> list[str]:
    others = [
        row.hostname
        for row in facts.workers
        if row.online and command.queue in row.queues and row.hostname != command.worker
    ]
    rest = (
        f"{_listed(others)} still {'takes' if len(others) == 1 else 'take'} tasks from it."
        if others
        else "No other worker takes tasks from it; they would pile up there."
    )
    return [f"{command.worker} takes no more tasks from {command.queue}.", rest, UNTIL_RESTART]


def _rate_limit(command: SetRateLimit, facts: Facts) -> list[str]:
    if command.rate.strip() in ("0", "0/s", "0/m", "0/h"):
        return [f"{command.worker} runs {command.task} without a rate limit.", UNTIL_RESTART]
    rate = command.rate if "/" in command.rate else f"{command.rate}/s"
    return [f"{command.worker} starts at most {rate} of {command.task}; the others wait in it.", UNTIL_RESTART]


def _time_limit(command: SetTimeLimits, facts: Facts) -> list[str]:
    if command.soft is None and command.hard is None:
        return [f"{command.task} may run for any length of time on {command.worker}.", UNTIL_RESTART]
    sentences = []
    if command.soft is not None:
        sentences.append(f"After {duration(command.soft)}, {command.task} gets a SoftTimeLimitExceeded to clean up.")
    if command.hard is not None:
        sentences.append(f"After {duration(command.hard)}, the process of {command.task} is killed.")
    return [*sentences, f"{UNTIL_RESTART} It concerns {command.worker} only."]


_TELLERS: dict[type, Any] = {
    RevokeTask: _revoke,
    SendTask: _send,
    ShutdownWorker: _shutdown,
    RestartPool: _restart,
    GrowPool: _grow,
    ShrinkPool: _shrink,
    Autoscale: _autoscale,
    AddConsumer: _add_consumer,
    CancelConsumer: _cancel_consumer,
    SetRateLimit: _rate_limit,
    SetTimeLimits: _time_limit,
}


def _task_name(command: RevokeTask, facts: Facts) -> str:
    name = facts.task.get("name") if facts.task else None
    return f"{name or 'The task'} ({short(command.task_id)})"


def _running_for(facts: Facts) -> str:
    started = facts.task.get("started") if facts.task else None
    return f", for {duration(max(facts.now - started, 0.0))} so far" if isinstance(started, int | float) else ""


def _listed(names: list[str], most: int = 3) -> str:
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
