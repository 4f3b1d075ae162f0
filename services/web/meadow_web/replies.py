"""What was done and who answered, in words: for the audit table and for the toast after an action. Pure."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from meadow.queries import AuditRow
from meadow_web.formats import plural

BROADCASTS = {"revoke": "Sent to all workers", "shutdown": "Sent to the worker"}
"""Commands that nobody answers, by their verbs."""

NO_ANSWER = "did not answer"


class Reply(Struct, frozen=True):
    """One worker's answer."""

    worker: str
    text: str
    ok: bool


def read_replies(replies: Mapping[str, Any]) -> list[Reply]:
    """Each worker's answer; who refused or kept silent comes first."""
    return sorted((_reply(worker, answer) for worker, answer in replies.items()), key=lambda one: (one.ok, one.worker))


def _reply(worker: str, answer: Any) -> Reply:
    if answer is None:
        return Reply(worker[:200], NO_ANSWER, False)
    if isinstance(answer, Mapping):
        if "error" in answer:
            return Reply(worker[:200], str(answer["error"])[:300], False)
        return Reply(worker[:200], str(answer.get("ok", answer))[:300], True)
    text = str(answer)[:300]
    if text.startswith("no answer within "):  # the controller's words
        return Reply(worker[:200], f"{NO_ANSWER} {text.removeprefix('no answer ')}", False)
    return Reply(worker[:200], text, True)


def deed(row: AuditRow) -> str:
    """What was wished: `terminate (SIGTERM)` travels as a revoke."""
    if row.command == "revoke" and row.parameters.get("terminate") is True:
        return f"terminate ({str(row.parameters.get('signal') or 'SIGTERM')[:20]})"
    return row.command


def outcome_word(row: AuditRow) -> str:
    """What is known of a wish that did not fail."""
    return BROADCASTS.get(row.command, "Done") if not row.replies else "Done"


def answered(replies: Mapping[str, Any]) -> str:
    """Who answered and who did not, by name where there are few."""
    found = read_replies(replies)
    silent = [one.worker for one in found if one.text.startswith(NO_ANSWER)]
    heard = [one.worker for one in found if not one.text.startswith(NO_ANSWER)]
    parts = [f"{_named(names)} {words}" for names, words in ((heard, "answered"), (silent, NO_ANSWER)) if names]
    return ", ".join(parts)


def _named(names: list[str]) -> str:
    return " and ".join(names) if len(names) <= 2 else plural(len(names), "worker")
