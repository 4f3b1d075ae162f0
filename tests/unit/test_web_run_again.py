"""Running a task again: exactly its call, or a reason why not."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadow.commands import SendTask
from meadow_web.actions import ACTIONS, BadForm, Form
from meadow_web.pages.task import buttons
from meadow_web.run_again import Call, as_json, call_of, from_json, why_not

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="…", exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc\n'é"), inner, max_size=4),
    max_leaves=12,
)


def done(args: Any = "(1, 'a')", kwargs: Any = "{}", **more: Any) -> dict[str, Any]:
    return {"name": "p.add", "state": "SUCCESS", "args": args, "kwargs": kwargs, "queue": "mail"} | more


def test_tuples_become_lists_and_the_queue_stays() -> None:
    task = done("(1, ('a', None), {'deep': [True, 2.5]})", "{'to': 'ada'}")
    assert call_of(task) == Call("p.add", [1, ["a", None], {"deep": [True, 2.5]}], {"to": "ada"}, "mail")


@given(st.lists(PLAIN, max_size=4), st.dictionaries(st.text("xyz_", min_size=1), PLAIN, max_size=4))
def test_plain_data_comes_back_exactly_through_repr_and_json(args: list[Any], kwargs: dict[str, Any]) -> None:
    written = repr(tuple(args)), repr(kwargs)
    if any("..." in text or "***" in text for text in written):
        return
    call = call_of(done(*written))
    assert (call.args, call.kwargs) == (args, kwargs)
    assert repr(from_json(as_json(call.args))) == repr(args)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (None, "not known"),
        ("", "not known"),
        ("('aaaa...', 2)", "cut"),
        ("(1, 2, ...)", "cut"),
        ("('aaa…[cut by Meadow: 88 bytes]", "cut"),
        ("({'password': '***'},)", "hidden"),
        ("(<User 7>,)", "not plain"),
        ("(Decimal('1'),)", "not plain"),
        ("(__import__('os').system('x'),)", "not plain"),
        ("({1, 2},)", "not plain"),
        ("(b'x',)", "not plain"),
        ("(1j,)", "not plain"),
        ("({1: 2},)", "not plain"),
        ("({[]: 2},)", "not plain"),
        ("(1e999,)", "not plain"),
        (f"({2**64},)", "not plain"),
        ("('\\ud800',)", "not plain"),
        ("('\\d',)", "not plain"),
        ("(" * 300, "not plain"),
        ("[" * 60 + "]" * 60, "not plain"),
        ("-" * 60_000 + "1", "not plain"),
        ("(1" + "+1" * 30_000 + ",)", "not plain"),
        ("'" + "x" * 70_000 + "'", "too long"),
        ("'alone'", "not a list"),
    ],
    ids=str,
)
def test_what_is_not_exactly_the_call_is_not_offered(args: str | None, said: str) -> None:
    assert said in (why_not(done(args=args)) or "")
    if isinstance(args, str) and said not in ("not a list",):
        assert said in (why_not(done(kwargs=args)) or "")


def test_only_what_is_over_can_be_run_again_and_only_by_name() -> None:
    for state in ("SUCCESS", "FAILURE", "REVOKED", "REJECTED"):
        assert dict(buttons(done(state=state)))["run-again"] is None
    for state in ("PENDING", "STARTED", "RETRY", "PROGRESS"):
        assert "run-again" not in dict(buttons(done(state=state)))
    assert "name" in (dict(buttons(done(name=None)))["run-again"] or "")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"args": "[1,]"}, "line 1 at column 4"),
        ({"args": "{}"}, "JSON array"),
        ({"kwargs": "[]"}, "JSON object"),
        ({"kwargs": '{"x": NaN}'}, "JSON does not have"),
        ({"args": '["\\ud800"]'}, "half a character"),
        ({"args": "[" * 100_000}, "longer than"),
        ({"args": "[" * 60_000}, "nested too deeply"),
        ({"args": "[" + "9" * 5000 + "]"}, "limit"),
        ({"args": "[18446744073709551616]"}, "64 bits"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_was_typed_is_checked_before_anything_is_sent(fields: dict[str, str], said: str) -> None:
    with pytest.raises(BadForm) as caught:
        ACTIONS["run-again"].command(Form({"task": "p.add", **fields}))
    assert said in str(caught.value)


def test_without_a_known_queue_the_app_chooses_it() -> None:
    command = ACTIONS["run-again"].command(Form({"task": "p.add", "args": json.dumps([1])}))
    assert command == SendTask(task="p.add", args=[1])
