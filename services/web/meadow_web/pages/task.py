"""One task, read like a story."""

from collections.abc import Mapping
from typing import Any

from msgspec import structs

from meadow.queries import AttemptRow, TaskAnswer, TaskQuery
from meadow_web import literals, phases, run_again, story, tracebacks
from meadow_web.pages.page import Content, Page, Visit, as_dicts, unknown

TIMES = ("sent", "received", "started", "succeeded", "failed", "retried", "revoked", "rejected")
DETAILS = ("eta", "expires", "retries", "queue", "exchange", "routing_key", "client", "pid", "clock")
LABELS = {"revoke": "Revoke", "terminate": "Terminate", "run-again": "Run again"}
FINAL = frozenset({"SUCCESS", "FAILURE", "REVOKED", "REJECTED"})
GONE = "Its worker went away."
LOST_ACTIONS = (("revoke", None), ("terminate", GONE))
DELIVERED_AGAIN = "With acks_late, the broker hands it to another worker by itself."
UNKNOWN = (
    "No event has told of it. If it was sent just now, this page fills in with its first event; a task whose worker "
    "sends no events (it runs without -E), or that is older than the history kept, never shows up."
)


async def load(visit: Visit) -> Content:
    """The task, its relatives, and what people did to it. One that is not known yet is waited for."""
    uuid = visit.params["uuid"]
    answer = await visit.ask.api(TaskQuery(cluster=visit.cluster, uuid=uuid), TaskAnswer)
    if answer.task is None:
        return unknown("task", uuid, UNKNOWN)
    task, relatives = answer.task, as_dicts(answer.relatives)
    values: dict[str, Any] = {
        "task": task,
        "sentence": story.tell(task),
        "timeline": phases.timeline(task, visit.now),
        "times": [(name.capitalize(), task[name]) for name in TIMES if task.get(name) is not None],
        "details": [(name, task[name]) for name in DETAILS if task.get(name) not in (None, "", 0) or name == "retries"],
        "texts": [_text("Arguments", task.get("args")), _text("Keyword arguments", task.get("kwargs"))],
        "result": _text("Result", task.get("result")) if task.get("result") is not None else None,
        "traceback": tracebacks.parts(str(task["traceback"])) if task.get("traceback") else [],
        "attempts": [_attempt(attempt) for attempt in answer.attempts] if len(answer.attempts) > 1 else [],
        "relatives": sorted(relatives, key=lambda row: row["received"] or row["sent"] or row["timestamp"]),
        "audit": answer.audit,
        "labels": LABELS,
        "actions": buttons(task),
        "reasons": [*_reasons(buttons(task), visit.closed), *((DELIVERED_AGAIN,) if _is_lost(task) else ())],
    }
    title = " ".join(part for part in (task.get("name"), uuid[:8]) if part)
    watched = frozenset({uuid, *(row["uuid"] for row in relatives)})
    mood = "bad" if task.get("state") == "FAILURE" else "warn" if _is_lost(task) else ""
    return Content(title, values, mood=mood, watched=watched)


def _attempt(attempt: AttemptRow) -> dict[str, Any]:
    """One line of the table of attempts; what took how long is told from its own times."""
    row = structs.asdict(attempt)
    begun = attempt.started if attempt.started is not None else attempt.received
    ran = None if begun is None or attempt.ended is None else max(attempt.ended - begun, 0.0)
    return {**row, "begun": begun, "took": attempt.runtime if attempt.runtime is not None else ran}


def buttons(task: Mapping[str, Any]) -> tuple[tuple[str, str | None], ...]:
    """(action, why it makes no sense now); what is over or lost can be run again."""
    state, lost = str(task.get("state")), _is_lost(task)
    again = (("run-again", run_again.why_not(task)),) if lost or state in FINAL else ()
    return (*(LOST_ACTIONS if lost else actions(state)), *again)


def _is_lost(task: Mapping[str, Any]) -> bool:
    return task.get("lost_since") is not None


def _reasons(offered: tuple[tuple[str, str | None], ...], closed: str | None) -> list[str]:
    """What stands below the buttons: each reason once, with the buttons that it stops."""
    if closed:
        return [closed]
    stopped: dict[str, list[str]] = {}
    for name, why in offered:
        if why:
            stopped.setdefault(why, []).append(LABELS[name])
    return [f"{' and '.join(names)}: {why[0].lower()}{why[1:]}" for why, names in stopped.items()]


def actions(state: str) -> tuple[tuple[str, str | None], ...]:
    """(action, why it makes no sense now) for a task in that state."""
    over = state in ("SUCCESS", "FAILURE", "REVOKED", "REJECTED", "ABORTED")
    running = not over and state not in ("PENDING", "RECEIVED", "RETRY")  # states of one's own are said while it runs
    revoke = "It runs already; only terminating stops it." if running else "It is over." if over else None
    terminate = None if running else "It is over." if over else "It does not run yet."
    return (("revoke", revoke), ("terminate", terminate))


def _text(label: str, value: Any) -> dict[str, Any]:
    text = "" if value is None else str(value)
    return {"label": label, "text": text, "tree": literals.parse(text), "cut": literals.was_cut(text)}


PAGE = Page("task", "/task/{uuid:(?s:.+)}", frozenset({"tasks", "audit"}), load, pace=0.25, section="tasks")
