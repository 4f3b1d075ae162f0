"""What is known of one task. How it comes about from events says `meadow_api.fold`."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from meadow_api.attempts import Log

DetailsKey = tuple[int, int, float]
"""Retries, 1 for received and 0 for sent, timestamp."""

INT64_MAX = 2**63 - 1


@dataclass(slots=True, eq=True)
class Record:
    """One task. All fields but `uuid` may be unknown.

    `details_at` and `details_received` complete the key of the details, `retries` is its first part. A detail that
    the newest of these events did not carry (or only as an empty text) keeps an older key; that stands in `older`.
    `worker` is `None` until an event of a worker is known; `timestamp` and `clock` are the publisher's until then.
    `attempts` are the events that the other fields do not show; `None` when they show all (`meadow_api.attempts`).
    """

    uuid: str
    name: str | None = None
    worker: str | None = None
    timestamp: float = 0.0
    sent: float | None = None
    received: float | None = None
    started: float | None = None
    succeeded: float | None = None
    failed: float | None = None
    retried: float | None = None
    revoked: float | None = None
    rejected: float | None = None
    cancelled: float | None = None
    custom_at: float | None = None
    custom: str | None = None
    retries: int | None = None
    eta: str | None = None
    expires: str | None = None
    root_id: str | None = None
    parent_id: str | None = None
    details_at: float | None = None
    details_received: int | None = None
    older: dict[str, DetailsKey] | None = None
    runtime: float | None = None
    pid: int | None = None
    clock: int | None = None
    exchange: str | None = None
    routing_key: str | None = None
    queue: str | None = None
    client: str | None = None
    args: str | None = None
    kwargs: str | None = None
    result: str | None = None
    exception: str | None = None
    traceback: str | None = None
    attempts: Log | None = None

    @property
    def details_key(self) -> DetailsKey | None:
        """The key of the newest event that described the task."""
        if self.details_at is None:
            return None
        return (self.retries or 0, self.details_received or 0, self.details_at)


FIELDS = tuple(Record.__dataclass_fields__)
values_of: Callable[[Record], tuple[Any, ...]] = attrgetter(*FIELDS)
"""All fields of a record, in the order of `FIELDS`."""


def state_of(record: Record) -> str:
    """The state by Celery's names; a custom event `task-progress` makes the state PROGRESS.

    The newest final event decides, else the newest of the others; equal times are decided by precedence.
    """
    final = _newest((record.succeeded, "SUCCESS"), (record.failed, "FAILURE"), (record.revoked, "REVOKED"))
    if final is not None:
        return final
    custom = (record.custom or "").removeprefix("task-").upper()
    middle = _newest(
        (record.custom_at, custom),
        (record.started, "STARTED"),
        (record.received, "RECEIVED"),
        (record.rejected, "REJECTED"),
        (record.retried, "RETRY"),
        (record.cancelled, "RETRY"),  # the worker lost its broker: the message goes back and the task runs again
    )
    return middle or "PENDING"


def _newest(*candidates: tuple[float | None, str]) -> str | None:
    """The name with the greatest time, the first of them when equal."""
    best: float | None = None
    found = None
    for at, name in candidates:
        if at is not None and (best is None or at > best):
            best, found = at, name
    return found
