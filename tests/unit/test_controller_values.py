"""The controller's pure parts: what is hidden, what is cut, who may, what is said to workers."""

from datetime import datetime
from typing import Any

import pytest

from meadow.access.actors import Actor
from meadow.commands import (
    AddConsumer,
    ApplyTask,
    Command,
    GetResult,
    GrowPool,
    InspectWorkers,
    RestartPool,
    RevokeTask,
    SetRateLimit,
)
from meadow.redact import MASK, Redactor
from meadow_controller.bounds import Cleaner, Limits
from meadow_controller.call_options import normalise
from meadow_controller.gate import parameters
from meadow_controller.known_workers import KnownWorkers
from meadow_controller.orders import order_for
from meadow_controller.policy import decide
from meadow_controller.results import encodable, exception_repr

ADMIN = Actor("a", role="admin")
VIEWER = Actor("v", role="viewer")
W = "w@h"


@pytest.mark.parametrize("name", ["password", "DB_PASSWORD", "X-Api-Key", "apikey", "Authorization", "client_secret"])
def test_names_of_secrets_are_known_in_any_spelling(name: str) -> None:
    assert Redactor().hides(name)
    assert not Redactor().hides("passenger")


def clean(value: Any, **limits: int) -> tuple[Any, list[str]]:
    cleaner = Cleaner(Redactor(), Limits(**limits))
    return cleaner.clean(value), cleaner.cuts


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ({"a": (1, 2.5, None, True)}, {"a": [1, 2.5, None, True]}),
        ({1: "x"}, {"1": "x"}),
        (float("nan"), "nan"),
        (10**30, hex(10**30)),
        ("\ud800", "?"),
        (datetime(2026, 1, 2), "datetime.datetime(2026, 1, 2, 0, 0)"),
        ({"token": {"deep": ["x", 1]}}, {"token": {"deep": [MASK, MASK]}}),
        ({"token": None, "secret": False}, {"token": None, "secret": False}),
    ],
)
def test_any_value_becomes_what_json_can_hold(value: Any, plain: Any) -> None:
    assert clean(value) == (plain, [])


def test_what_is_too_long_too_many_or_too_deep_is_cut_and_named() -> None:
    assert clean("x" * 12, text=10) == ("x" * 10 + "… (2 more characters)", ["a text"])
    assert clean([1, 2, 3], items=2) == ([1, 2], ["2 of 3 kept"])
    assert clean([[["x"]]], depth=2) == ([["…"]], ["what lies deep inside"])
    kept, cuts = clean([["x"] * 100] * 100, nodes=50)
    assert sum(len(row) for row in kept) < 50
    assert cuts


def test_a_password_at_the_edge_of_a_cut_does_not_show() -> None:
    text, _ = clean("x" * 5 + "redis://:" + "s" * 300 + "@host/0", text=20)
    assert "sss" not in text


class Rude:
    """An object whose repr fails."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_an_object_whose_repr_fails_is_shown_by_its_kind() -> None:
    assert clean(Rude()) == ("<Rude, whose repr raised RuntimeError>", [])


@pytest.mark.parametrize(
    ("actor", "command", "read_only", "code"),
    [
        (ADMIN, GrowPool(worker=W), False, None),
        (ADMIN, GrowPool(worker=W), True, "read-only"),
        (VIEWER, GrowPool(worker=W), False, "forbidden"),
        (VIEWER, GrowPool(worker=W), True, "read-only"),
        (VIEWER, InspectWorkers(), True, None),
        (VIEWER, GetResult(task_id="x"), False, None),
    ],
)
def test_who_may_do_what(actor: Actor, command: Command, read_only: bool, code: str | None) -> None:
    refusal = decide(actor, command, read_only=read_only)
    assert (refusal.code if refusal else None) == code


def test_a_worker_that_says_no_gives_its_reason_and_a_silent_one_gives_none() -> None:
    order = order_for(SetRateLimit(worker=W, task="t", rate="abc"))
    assert order.outcome({"error": "bad {reason}"}) == (False, "Failed to set rate limit: 'bad {reason}'")
    assert order.outcome(None) == (False, "Failed to set rate limit: 'Unknown reason'")
    assert order.outcome("what?") == (False, "Failed to set rate limit: 'Unknown reason'")
    assert order.outcome({"ok": "new rate limit set successfully"}) == (True, "new rate limit set successfully")


def test_names_with_braces_do_not_disturb_the_sentences() -> None:
    order = order_for(AddConsumer(worker="{w}@h", queue="{reason}"))
    assert order.outcome({"error": "no"})[1] == "Failed to add '{reason}' consumer to '{w}@h' worker: no"
    assert order_for(RestartPool(worker=W)).arguments == {"reload": False}


@pytest.mark.parametrize(
    ("options", "normalised"),
    [
        ({"countdown": "7200"}, {"countdown": 7200.0}),
        ({"expires": "5"}, {"expires": 5.0}),
        ({"expires": "2099-01-01 00:00:00.0"}, {"expires": datetime(2099, 1, 1)}),
        ({"eta": "2099-01-01 00:00:00.5"}, {"eta": datetime(2099, 1, 1, 0, 0, 0, 500_000)}),
        ({"queue": "q", "priority": 3}, {"queue": "q", "priority": 3}),
    ],
)
def test_times_of_a_call_are_read_as_flower_reads_them(options: dict[str, Any], normalised: dict[str, Any]) -> None:
    assert normalise(options) == normalised


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"eta": "tomorrow"}, ValueError),
        ({"eta": "2099-01-01T00:00:00"}, ValueError),
        ({"countdown": "soon"}, ValueError),
        ({"expires": "soon"}, ValueError),
        ({"countdown": "inf"}, ValueError),
        ({"countdown": None}, TypeError),
        ({"expires": []}, TypeError),
        ({"eta": 5}, TypeError),
    ],
)
def test_times_that_cannot_be_read_are_told_apart_from_wrong_types(options: dict[str, Any], error: type) -> None:
    with pytest.raises(error):
        normalise(options)


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        (
            {"exc_type": "ValueError", "exc_message": ["boom: ünïcode"], "exc_module": "b"},
            "ValueError('boom: ünïcode')",
        ),
        ({"exc_type": "OSError", "exc_message": [2, "no"], "exc_module": "builtins"}, "OSError(2, 'no')"),
        ({"exc_type": "Outer.Inner", "exc_message": [], "exc_module": "x"}, "Inner()"),
        ({"exc_type": "E", "exc_message": "text"}, "E('text')"),
        ("not an exception", "not an exception"),
        (None, None),
    ],
)
def test_a_stored_exception_is_shown_as_its_repr(stored: Any, shown: Any) -> None:
    assert exception_repr(stored) == shown


def test_a_result_that_json_cannot_hold_is_shown_as_its_repr() -> None:
    assert encodable({"a": [1, None]}) == {"a": [1, None]}
    assert encodable({"a": {1}}) == "{'a': {1}}"


def test_the_audited_parameters_are_all_but_the_target() -> None:
    assert parameters(RevokeTask(task_id="x")) == {"terminate": False, "signal": "SIGTERM"}
    assert parameters(SetRateLimit(worker=W, task="t", rate="5")) == {"task": "t", "rate": "5"}
    assert parameters(ApplyTask(task="t", args=[1])) == {"args": [1], "kwargs": {}, "options": {}, "timeout": None}


def test_the_worker_seen_longest_ago_is_forgotten_first() -> None:
    known = KnownWorkers(limit=2)
    assert known.add("a")
    assert known.add("b")
    assert not known.add("a")
    assert known.add("c")
    assert [name in known for name in "abc"] == [True, False, True]
    assert not known.add("x" * 300)
