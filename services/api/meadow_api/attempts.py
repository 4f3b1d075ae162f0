"""The attempts of a task that ran more than once: retries, and deliveries again after a worker was lost.

Kept is the set of the task's events as `Moment`s, so that the union of two sets is their merge: commutative,
associative and idempotent, also when only the newest `MOST_MOMENTS` stay. Which events make up one attempt is derived
when somebody asks: only sent and received carry the number of retries, the others belong to what their worker took
last. Pure.
"""

from collections.abc import Iterable
from typing import NamedTuple

from meadow.rows import AttemptRow

MOST_MOMENTS = 200
LONGEST_EXCEPTION = 1000
LONGEST_TRACEBACK = 4000
CUT = "…[cut by Meadow: only the last error of a task is kept whole]"

UNKNOWN = -1


class Moment(NamedTuple):
    """One event. `kind` is Celery's name without `task-`; what an event does not carry is empty or `UNKNOWN`."""

    at: float
    kind: str
    worker: str = ""
    pid: int = UNKNOWN
    retries: int = UNKNOWN
    queue: str = ""
    runtime: float = UNKNOWN
    exception: str = ""
    traceback: str = ""


Log = tuple[Moment, ...]
"""Moments in order, each once."""


ENDS = {
    "succeeded": "SUCCESS",
    "failed": "FAILURE",
    "retried": "RETRY",
    "revoked": "REVOKED",
    "rejected": "REJECTED",
    "cancelled": "RETRY",
}
_ORDER = {"sent": 0, "received": 1, "started": 2}


def union(*logs: Iterable[Moment]) -> Log:
    """The newest moments of all."""
    return tuple(sorted(set().union(*logs)))[-MOST_MOMENTS:]


def error_texts(exception: str | None, traceback: str | None) -> tuple[str, str]:
    """An error's texts as a moment keeps them."""
    return _shortened(exception or "", LONGEST_EXCEPTION), _shortened(traceback or "", LONGEST_TRACEBACK)


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - len(CUT)] + CUT


def attempts_of(log: Iterable[Moment]) -> list[AttemptRow]:
    """The attempts that the events show, the first one first."""
    found: list[AttemptRow] = []
    for moment in sorted(log, key=lambda m: (m.at, _ORDER.get(m.kind, 3), m)):
        if moment.kind == "sent":
            _note_sent(found, moment)
        elif moment.kind == "received":
            _note_received(found, moment)
        elif moment.kind == "started":
            _note_started(found, moment)
        else:
            _note_end(found, moment)
    found.sort(key=_place)
    # What is missing at the front was dropped, or happened before anybody watched: the number of retries knows.
    firsts = (attempt.retries + 1 - place for place, attempt in enumerate(found) if attempt.retries is not None)
    for number, attempt in enumerate(found, max(next(firsts, 1), 1)):
        attempt.number = number
    return found


def _place(attempt: AttemptRow) -> float:
    times = (attempt.received, attempt.started, attempt.ended, attempt.sent)
    return next(at for at in times if at is not None)


def _note_sent(found: list[AttemptRow], moment: Moment) -> None:
    for attempt in reversed(found):
        if attempt.retries == moment.retries and attempt.sent is None:
            attempt.sent, attempt.queue = moment.at, moment.queue or None
            return
    found.append(AttemptRow(retries=moment.retries, sent=moment.at, queue=moment.queue or None))


def _note_received(found: list[AttemptRow], moment: Moment) -> None:
    for attempt in reversed(found):
        if attempt.retries == moment.retries and attempt.worker is None:
            break
    else:
        attempt = AttemptRow(retries=moment.retries)
        found.append(attempt)
    attempt.received, attempt.state = moment.at, "RECEIVED"
    _note_worker(attempt, moment)


def _note_started(found: list[AttemptRow], moment: Moment) -> None:
    for attempt in reversed(found):
        if _is_of(attempt, moment) and attempt.started is None and attempt.ended is None:
            break
    else:
        attempt = _not_yet_taken(found)
    attempt.started, attempt.state = moment.at, "STARTED"
    _note_worker(attempt, moment)


def _note_end(found: list[AttemptRow], moment: Moment) -> None:
    of_worker = [attempt for attempt in reversed(found) if _is_of(attempt, moment)]
    attempt = next((a for a in of_worker if a.ended is None), None)
    if attempt is None and of_worker:
        attempt = of_worker[0]  # failed and then rejected: two words for one end
    if attempt is None:
        attempt = _not_yet_taken(found)
    if attempt.ended is None or moment.kind in ("succeeded", "failed"):
        attempt.state = ENDS.get(moment.kind, moment.kind.upper())
        attempt.ended = moment.at
    attempt.runtime = moment.runtime if moment.runtime != UNKNOWN else attempt.runtime
    attempt.exception = moment.exception or attempt.exception
    attempt.traceback = moment.traceback or attempt.traceback
    _note_worker(attempt, moment)


def _not_yet_taken(found: list[AttemptRow]) -> AttemptRow:
    """The attempt that no worker has taken, as far as is known; else one more."""
    for attempt in found:
        if attempt.worker is None:
            return attempt
    found.append(AttemptRow())
    return found[-1]


def _is_of(attempt: AttemptRow, moment: Moment) -> bool:
    if attempt.worker != moment.worker:
        return False
    return attempt.pid is None or moment.pid in (attempt.pid, UNKNOWN)


def _note_worker(attempt: AttemptRow, moment: Moment) -> None:
    attempt.worker = moment.worker
    attempt.pid = attempt.pid if moment.pid == UNKNOWN else moment.pid
