"""What happened to a task, in order: its attempts, and every moment that is known."""

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct, structs

from meadow.queries import AttemptRow
from meadow_api.shapes import Presenter, Task


class Moment(Struct, frozen=True, kw_only=True):
    """Something that happened at `at`: sent, received, started, succeeded, failed, retried, revoked, rejected, lost.

    `retries` says in which attempt, where that is known.
    """

    at: float
    what: str
    worker: str | None = None
    retries: int | None = None


def presented(attempts: Sequence[AttemptRow], task: Task, present: Presenter) -> list[AttemptRow]:
    """The attempts as they may be shown: what is hidden in the task is hidden in each of them."""
    if not present.changes:
        return list(attempts)
    shown = [present({**task, "exception": row.exception, "traceback": row.traceback}) for row in attempts]
    return [
        structs.replace(row, exception=one["exception"], traceback=one["traceback"])
        for row, one in zip(attempts, shown, strict=True)
    ]


def moments_of(task: Task, attempts: Iterable[AttemptRow]) -> list[Moment]:
    """Every moment that is known, in the order of time; those of one time as a task goes through them."""
    found: list[tuple[float, int, Moment]] = []

    def add(at: Any, order: int, what: str, worker: str | None, retries: int | None) -> None:
        if isinstance(at, int | float):
            found.append((float(at), order, Moment(at=float(at), what=what, worker=worker, retries=retries)))

    add(task["sent"], 0, "sent", task["client"], None)
    for attempt in attempts:
        add(attempt.sent, 0, "sent", task["client"], attempt.retries)
        add(attempt.received, 1, "received", attempt.worker, attempt.retries)
        add(attempt.started, 2, "started", attempt.worker, attempt.retries)
        if attempt.state == "RETRY":
            add(attempt.ended, 3, "retried", attempt.worker, attempt.retries)
    for order, key in enumerate(("retried", "failed", "rejected", "revoked", "succeeded"), 3):
        add(task[key], order, key, task["worker"], task["retries"])
    add(task.get("lost_since"), 9, "lost", task["worker"], task["retries"])
    once = {(at, moment.what): (at, order, moment) for at, order, moment in found}
    return [moment for _, _, moment in sorted(once.values(), key=lambda one: one[:2])]
