"""One sentence that says what became of a task."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meadow_web.formats import duration
from meadow_web.phases import time_of

ORDINALS = ("zeroth", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


@dataclass(frozen=True)
class Sentence:
    """`text`, and the moment it is about: shown as `4 min ago`, or as `for 4 min` where it `lasts`."""

    text: str
    at: float | None = None
    lasts: bool = False


def tell(task: Mapping[str, Any]) -> Sentence:
    """The sentence for a task with Flower's keys (and `queue`)."""
    if time_of(task, "lost_since") is not None:
        return _lost(task)
    state = str(task.get("state") or "")
    teller = _TELLERS.get(state, _custom)
    return teller(task)


def _lost(task: Mapping[str, Any]) -> Sentence:
    """The worker that held the task went away: Celery will not say how it ended."""
    worker = str(task.get("worker") or "Its worker")
    began = time_of(task, "started") is not None and task.get("state") != "RECEIVED"  # else an earlier attempt did
    doing = "while it ran" if began else "before it ran"
    gone = _GONE.get(str(task.get("lost_reason")), "went away")
    return Sentence(f"Probably lost: {worker} {gone} {doing}", time_of(task, "lost_since"))


def _succeeded(task: Mapping[str, Any]) -> Sentence:
    text = f"Succeeded{_after(task, 'succeeded')}{_on(task)}{_attempt(task, last=False)}"
    return Sentence(text, time_of(task, "succeeded"))


def _failed(task: Mapping[str, Any]) -> Sentence:
    if time_of(task, "started") is None and time_of(task, "received") is None:
        return Sentence(f"Could not be run{_on(task)}", time_of(task, "failed"))
    text = f"Failed{_after(task, 'failed')}{_on(task)}{_attempt(task, last=True)}"
    return Sentence(text, time_of(task, "failed"))


def _started(task: Mapping[str, Any]) -> Sentence:
    return Sentence(f"Running{_on(task)}{_attempt(task, last=False)}", time_of(task, "started"), lasts=True)


def _received(task: Mapping[str, Any]) -> Sentence:
    if task.get("eta"):
        return Sentence(f"Waiting{_on(task, 'in')} for its time, {task['eta']}; received", time_of(task, "received"))
    return Sentence(f"Waiting{_on(task, 'in')} for a free process", time_of(task, "received"), lasts=True)


def _pending(task: Mapping[str, Any]) -> Sentence:
    queue = task.get("queue") or task.get("routing_key")
    where = f" in queue {queue}" if queue else ""
    return Sentence(f"Sent and waiting{where}; no worker has taken it yet", time_of(task, "sent"), lasts=True)


def _retry(task: Mapping[str, Any]) -> Sentence:
    due = f", due {task['eta']}" if task.get("eta") else ""
    attempt = f"The {_ordinal(_retries(task) + 1)} attempt" if _retries(task) else "An attempt"
    return Sentence(f"{attempt} failed{_on(task)}; it will be tried again{due}", time_of(task, "retried"))


def _revoked(task: Mapping[str, Any]) -> Sentence:
    started, revoked = time_of(task, "started"), time_of(task, "revoked")
    if started is not None:
        return Sentence(f"Revoked and stopped{_after(task, 'revoked')}{_on(task)}", revoked)
    return Sentence(f"Revoked before it ran{_on(task)}", revoked)


def _rejected(task: Mapping[str, Any]) -> Sentence:
    return Sentence(f"Rejected{_on(task, 'by')}", time_of(task, "rejected"))


def _custom(task: Mapping[str, Any]) -> Sentence:
    return Sentence(f"Reported the state {task.get('state')}{_on(task)}", time_of(task, "timestamp"))


_GONE = {
    "worker-offline": "shut down",
    "worker-restarted": "was started anew",
    "worker-silent": "was last heard",
}

_TELLERS = {
    "SUCCESS": _succeeded,
    "FAILURE": _failed,
    "STARTED": _started,
    "RECEIVED": _received,
    "PENDING": _pending,
    "RETRY": _retry,
    "REVOKED": _revoked,
    "REJECTED": _rejected,
}


def _after(task: Mapping[str, Any], ending: str) -> str:
    runtime = task.get("runtime")
    if not isinstance(runtime, int | float):
        started, ended = time_of(task, "started"), time_of(task, ending)
        runtime = ended - started if started is not None and ended is not None and ended >= started else None
    return "" if runtime is None else f" after {duration(float(runtime))}"


def _on(task: Mapping[str, Any], word: str = "on") -> str:
    return f" {word} {task['worker']}" if task.get("worker") else ""


def _attempt(task: Mapping[str, Any], *, last: bool) -> str:
    retries = _retries(task)
    if not retries:
        return ""
    return f", {_ordinal(retries + 1)} and last attempt" if last else f", {_ordinal(retries + 1)} attempt"


def _retries(task: Mapping[str, Any]) -> int:
    retries = task.get("retries")
    return retries if isinstance(retries, int) and retries > 0 else 0


def _ordinal(number: int) -> str:
    if number < len(ORDINALS):
        return ORDINALS[number]
    suffix = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"
