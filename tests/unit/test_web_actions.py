"""Buttons: from a form to a wish, what it will do in words, and what became of it."""

from typing import Any

import pytest

from meadow.commands import (
    AddConsumer,
    AnyCommand,
    Autoscale,
    CancelConsumer,
    CommandReply,
    GrowPool,
    RestartPool,
    RevokeTask,
    SendTask,
    SetRateLimit,
    SetTimeLimits,
    ShrinkPool,
    ShutdownWorker,
)
from meadow.queries import AuditRow, WorkerRow
from meadow_web.actions import ACTIONS, BadForm, Form
from meadow_web.consequences import Facts, explain
from meadow_web.flash import Flash, Outcome, outcome_of
from meadow_web.replies import answered, deed, outcome_word

W1 = WorkerRow(hostname="w1@a", online=True, active=3, concurrency=4, queues=["celery", "mail"])
W2 = WorkerRow(hostname="w2@a", online=True, active=0, concurrency=4, queues=["celery"])
GONE = WorkerRow(hostname="w3@a", online=False, queues=["mail"])
FACTS = Facts(1000.0, worker=W1, workers=[W1, W2, GONE], pool_size=4)

FORMS: list[tuple[str, dict[str, str], AnyCommand]] = [
    ("revoke", {"task_id": "t"}, RevokeTask(task_id="t")),
    (
        "terminate",
        {"task_id": "t", "signal": "SIGKILL"},
        RevokeTask(task_id="t", terminate=True, signal="SIGKILL"),
    ),
    (
        "run-again",
        {"task": "p.add", "queue": "mail", "args": "[1]", "kwargs": '{"x": [2]}'},
        SendTask(task="p.add", args=[1], kwargs={"x": [2]}, options={"queue": "mail"}),
    ),
    ("shutdown", {"worker": "w1@a"}, ShutdownWorker(worker="w1@a")),
    ("pool-restart", {"worker": "w1@a"}, RestartPool(worker="w1@a")),
    ("pool-grow", {"worker": "w1@a", "n": "2"}, GrowPool(worker="w1@a", n=2)),
    ("pool-shrink", {"worker": "w1@a", "n": "3"}, ShrinkPool(worker="w1@a", n=3)),
    ("autoscale", {"worker": "w1@a", "min": "0", "max": "9"}, Autoscale(worker="w1@a", min=0, max=9)),
    ("add-consumer", {"worker": "w1@a", "queue": "a&b"}, AddConsumer(worker="w1@a", queue="a&b")),
    ("cancel-consumer", {"worker": "w1@a", "queue": "mail"}, CancelConsumer(worker="w1@a", queue="mail")),
    (
        "rate-limit",
        {"worker": "w1@a", "task": "p.add", "rate": "100/m"},
        SetRateLimit(worker="w1@a", task="p.add", rate="100/m"),
    ),
    (
        "time-limit",
        {"worker": "w1@a", "task": "p.add", "soft": "", "hard": "2.5"},
        SetTimeLimits(worker="w1@a", task="p.add", hard=2.5),
    ),
]


@pytest.mark.parametrize(("name", "fields", "command"), FORMS, ids=[form[0] for form in FORMS])
def test_each_form_becomes_its_wish(name: str, fields: dict[str, str], command: AnyCommand) -> None:
    assert ACTIONS[name].command(Form(fields)) == command


def test_every_action_is_tested_and_says_what_it_will_do() -> None:
    assert {form[0] for form in FORMS} == set(ACTIONS)
    for _, _, command in FORMS:
        assert explain(command, FACTS)


@pytest.mark.parametrize(
    ("name", "fields", "complaint"),
    [
        ("revoke", {}, "The task is missing"),
        ("pool-grow", {"worker": "w", "n": "0"}, "whole number from 1 up"),
        ("pool-grow", {"worker": "w", "n": "-1"}, "whole number from 1 up"),
        ("pool-grow", {"worker": "w", "n": "９"}, ""),
        ("pool-grow", {"worker": "w", "n": "99999999"}, "whole number"),
        ("autoscale", {"worker": "w", "min": "5", "max": "2"}, "The minimum (5) is more than the maximum (2)"),
        ("time-limit", {"worker": "w", "task": "t", "soft": "soon"}, "number of seconds"),
        ("time-limit", {"worker": "w", "task": "t", "soft": "nan"}, "more than 0"),
        ("terminate", {"task_id": "t", "signal": "SIGFUN"}, "SIGTERM"),
        ("add-consumer", {"worker": "w", "queue": "q" * 1001}, "longer"),
    ],
)
def test_a_form_that_makes_no_sense_says_what_to_correct(name: str, fields: dict[str, str], complaint: str) -> None:
    if not complaint:  # digits of other scripts are digits
        assert ACTIONS[name].command(Form(fields)) == GrowPool(worker="w", n=9)
        return
    with pytest.raises(BadForm) as caught:
        ACTIONS[name].command(Form(fields))
    assert complaint in str(caught.value)


CONSEQUENCES: list[tuple[AnyCommand, Facts, list[str]]] = [
    (
        ShutdownWorker(worker="w1@a"),
        FACTS,
        ["finishes its 3 running tasks", "No other worker takes tasks from mail; they would pile up"],
    ),
    (ShutdownWorker(worker="w2@a"), Facts(0.0, worker=W2, workers=[W1, W2]), ["1 other worker stays online"]),
    (ShutdownWorker(worker="w1@a"), Facts(0.0, worker=W1, workers=[W1]), ["takes tasks from celery and mail"]),
    (GrowPool(worker="w1@a", n=2), FACTS, ["from 4 to 6"]),
    (ShrinkPool(worker="w1@a", n=2), FACTS, ["from 4 to 2", "Only 1 process of 4 are idle"]),
    (ShrinkPool(worker="w1@a", n=4), FACTS, ["no process at all"]),
    (CancelConsumer(worker="w1@a", queue="mail"), FACTS, ["No other worker takes tasks from it"]),
    (CancelConsumer(worker="w1@a", queue="celery"), FACTS, ["w2@a still takes tasks from it"]),
    (RestartPool(worker="w1@a"), FACTS, ["all 4 processes", "3 tasks running now"]),
    (SetRateLimit(worker="w1@a", task="p.add", rate="0"), FACTS, ["without a rate limit"]),
    (SetRateLimit(worker="w1@a", task="p.add", rate="5"), FACTS, ["at most 5/s of p.add"]),
    (SetTimeLimits(worker="w1@a", task="p.add"), FACTS, ["any length of time"]),
    (
        RevokeTask(task_id="fa276b7b-97b6-485a-bdd3-2ff046ad9f77", terminate=True),
        Facts(1000.0, task={"name": "p.add", "worker": "w1@a", "started": 988.0}),
        ["p.add (fa276b7b…9f77) runs on w1@a, for 12 s so far", "SIGTERM", "not undone"],
    ),
    (
        SendTask(task="p.add", options={"queue": "mail"}),
        FACTS,
        ["p.add is sent to queue mail as a new task with a new id", "taken from what the worker reported"],
    ),
    (
        RevokeTask(task_id="t"),
        Facts(0.0),
        ["The task (t) will not be run", "No such task is known", "a worker that starts later"],
    ),
]


@pytest.mark.parametrize(("command", "facts", "said"), CONSEQUENCES)
def test_the_confirmation_names_names_and_numbers(command: AnyCommand, facts: Facts, said: list[str]) -> None:
    text = " ".join(explain(command, facts))
    for words in said:
        assert words in text


def test_the_outcome_names_who_refused_before_who_confirmed() -> None:
    reply = CommandReply(
        code="refused-by-worker",
        message="Only one did it.",
        replies={"w1@a": {"ok": "new rate"}, "w2@a": None, "w3@a": {"error": "no such task"}},
    )
    outcome = outcome_of(reply, SetRateLimit(worker="w1@a", task="p.add", rate="5"))
    assert not outcome.ok
    assert [(one.worker, one.text) for one in outcome.replies] == [
        ("w2@a", "did not answer"),
        ("w3@a", "no such task"),
        ("w1@a", "new rate"),
    ]


def test_a_broadcast_that_nobody_answers_is_not_said_to_be_done() -> None:
    reply = CommandReply(message="Revoked 't'")
    told = outcome_of(reply, RevokeTask(task_id="t"), known=True)
    assert told.message == "Sent to all workers: revoke t; workers do not answer to this."
    stopped = outcome_of(reply, RevokeTask(task_id="t", terminate=True, signal="SIGKILL"), known=False)
    assert stopped.message.startswith("Sent to all workers: terminate t with SIGKILL; ")
    assert stopped.message.endswith("No such task is known here.")


def test_the_outcome_of_a_sent_task_leads_to_it() -> None:
    command = SendTask(task="p.add")
    assert outcome_of(CommandReply(value={"task-id": "new"}), command).task == "new"
    assert outcome_of(CommandReply(code="failed", value={"task-id": "new"}), command).task == ""
    for strange in (None, [], {"task-id": 7}):
        assert outcome_of(CommandReply(value=strange), command).task == ""


def test_the_audit_says_what_was_wished_and_who_answered() -> None:
    common: dict[str, Any] = {"id": "1", "at": 1.0, "actor": "a", "actor_kind": "user", "source": "", "target": "t"}
    revoke = AuditRow(**common, command="revoke", parameters={"terminate": False, "signal": "SIGTERM"}, code="ok")
    stop = AuditRow(**common, command="revoke", parameters={"terminate": True, "signal": "SIGKILL"}, code="ok")
    assert (deed(revoke), deed(stop)) == ("revoke", "terminate (SIGKILL)")
    assert outcome_word(stop) == "Sent to all workers"
    grown = AuditRow(**common, command="pool-grow", code="ok", replies={"w1@a": {"ok": "pool will grow"}})
    assert outcome_word(grown) == "Done"
    assert answered(grown.replies) == "w1@a answered"
    assert answered({"w1@a": {"ok": "x"}, "w2@a": "no answer within 1 s"}) == "w1@a answered, w2@a did not answer"
    assert answered({f"w{n}": None for n in range(3)}) == "3 workers did not answer"


def test_a_flash_is_believed_for_a_minute_and_only_with_our_seal() -> None:
    flash, outcome = Flash(b"k" * 32), Outcome(True, "Done.", "w1@a")
    sealed = flash.seal(outcome, 1000.0)
    assert flash.open(sealed, 1059.0) == outcome
    assert flash.open(sealed, 1061.0) is None
    assert Flash(b"x" * 32).open(sealed, 1000.0) is None
    assert flash.open("x" + sealed, 1000.0) is None
    for broken in ("", ".", "é.é", "a.b.c", "\ud800"):
        assert flash.open(broken, 1000.0) is None
