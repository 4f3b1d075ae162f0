"""What workers answer to inspections, made fit for others: no secrets, no surprises, no megabytes."""

import re
from typing import Any

from meadow.redact import Redactor
from meadow_controller.bounds import WIDE, Cleaner, Limits
from meadow_controller.inspections import Answer
from meadow_controller.remote_control import Replies

CONFIGURATION = re.compile(
    r"TOKEN|SECRET|PASS|AUTHORI[SZ]|CREDENTIAL|SIGNATURE|PRIVATE|DATABASE|DBURI|API|KEY", re.IGNORECASE
)
"""Settings whose value is hidden: Celery's own list (`celery.app.utils.HIDDEN_SETTINGS`) and a little more."""


def presentable(replies: Replies, redactor: Redactor, limits: Limits = WIDE) -> dict[str, dict[str, Answer]]:
    """Worker → method → answer; a worker that only failed to answer a method is as if it had not been asked."""
    found: dict[str, dict[str, Answer]] = {}
    for worker, answers in replies.items():
        kept = {method: _clean(method, value, redactor, limits) for method, value in answers.items() if _is_one(value)}
        if kept:
            found[worker] = kept
    return found


def _is_one(value: Any) -> bool:
    return value is not None and not (isinstance(value, dict) and set(value) == {"error"})


def _clean(method: str, value: Any, redactor: Redactor, limits: Limits) -> Answer:
    cleaner = Cleaner(redactor, limits)
    if method in ("conf", "stats"):
        cleaner.hides = lambda name: redactor.hides(name) or CONFIGURATION.search(name) is not None
        cleaner.keep_numbers = method == "stats"  # `total` counts tasks by name, whatever they are called
    if method == "stats":
        value = _without_alternates(value)
    return Answer(cleaner.clean(value), "; ".join(cleaner.cuts))


def _without_alternates(stats: Any) -> Any:
    """Celery puts the other brokers' URLs there, passwords and all."""
    broker = stats.get("broker") if isinstance(stats, dict) else None
    if not isinstance(broker, dict):
        return stats
    return {**stats, "broker": {key: value for key, value in broker.items() if key != "alternates"}}
