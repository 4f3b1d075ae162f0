"""What is said to a worker for each command about it, and what Flower says afterwards."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from meadow.commands import (
    AddConsumer,
    Autoscale,
    CancelConsumer,
    GrowPool,
    RestartPool,
    SetRateLimit,
    SetTimeLimits,
    ShrinkPool,
    WorkerCommand,
)

UNKNOWN_REASON = "Unknown reason"
LONGEST_REASON = 2000


@dataclass(frozen=True)
class Order:
    """One remote control call.

    `done` is said on success (`None`: the worker's own words), `failed` in front of the reason, in these `quotes`.
    """

    method: str
    arguments: Mapping[str, Any]
    done: str | None
    failed: str
    quotes: str = ""

    def outcome(self, reply: Any) -> tuple[bool, str]:
        """Whether the worker did it, and the sentence about it. `reply` is `None` when it did not answer."""
        answer = reply if isinstance(reply, dict) else {}
        if "ok" in answer:
            return True, self.done if self.done is not None else str(answer["ok"])[:LONGEST_REASON]
        reason = str(answer.get("error") or UNKNOWN_REASON)[:LONGEST_REASON]
        return False, f"{self.failed}: {self.quotes}{reason}{self.quotes}"


def order_for(command: WorkerCommand) -> Order:
    """The order that fulfils this command; raises LookupError for commands that are no order to one worker."""
    return _ORDERS[type(command)](command)


def _grow(command: GrowPool) -> Order:
    worker, n = command.worker, command.n
    return Order(
        "pool_grow",
        {"n": n},
        f"Growing '{worker}' worker's pool by {n}",
        f"Failed to grow '{worker}' worker's pool",
    )


def _shrink(command: ShrinkPool) -> Order:
    worker, n = command.worker, command.n
    return Order(
        "pool_shrink",
        {"n": n},
        f"Shrinking '{worker}' worker's pool by {n}",
        f"Failed to shrink '{worker}' worker's pool",
    )


def _restart(command: RestartPool) -> Order:
    worker = command.worker
    return Order(
        "pool_restart",
        {"reload": False},
        f"Restarting '{worker}' worker's pool",
        f"Failed to restart the '{worker}' pool",
    )


def _autoscale(command: Autoscale) -> Order:
    worker = command.worker
    return Order(
        "autoscale",
        {"min": command.min, "max": command.max},
        f"Autoscaling '{worker}' worker (min={command.min}, max={command.max})",
        f"Failed to autoscale '{worker}' worker",
    )


def _add_consumer(command: AddConsumer) -> Order:
    # All four, as Celery's own client sends them: the worker makes a direct exchange of the queue's name.
    arguments = {"queue": command.queue, "exchange": None, "exchange_type": "direct", "routing_key": None}
    return Order(
        "add_consumer",
        arguments,
        None,
        f"Failed to add '{command.queue}' consumer to '{command.worker}' worker",
    )


def _cancel_consumer(command: CancelConsumer) -> Order:
    return Order(
        "cancel_consumer",
        {"queue": command.queue},
        None,
        f"Failed to cancel '{command.queue}' consumer from '{command.worker}' worker",
    )


def _rate_limit(command: SetRateLimit) -> Order:
    arguments = {"task_name": command.task, "rate_limit": command.rate}
    return Order("rate_limit", arguments, None, "Failed to set rate limit", quotes="'")


def _time_limits(command: SetTimeLimits) -> Order:
    arguments = {"task_name": command.task, "soft": command.soft, "hard": command.hard}
    return Order("time_limit", arguments, None, "Failed to set timeouts", quotes="'")


_ORDERS: dict[type, Callable[[Any], Order]] = {
    GrowPool: _grow,
    ShrinkPool: _shrink,
    RestartPool: _restart,
    Autoscale: _autoscale,
    AddConsumer: _add_consumer,
    CancelConsumer: _cancel_consumer,
    SetRateLimit: _rate_limit,
    SetTimeLimits: _time_limits,
}
