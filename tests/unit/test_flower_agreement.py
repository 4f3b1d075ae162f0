"""The replay of Flower's answers notices what scripts would notice."""

from dataclasses import replace
from typing import Any

import pytest

from tests.compat.agreement import Answer, differences

JSON = "application/json; charset=UTF-8"
BODY = {"id": "a", "tasks": [{"state": "SUCCESS", "eta": None}, {"state": "FAILURE"}], "timestamp": 5.5}
EXPECTED = Answer(200, JSON, {"X-Kind": "a"}, BODY)


def step(check: str, *paths: str) -> dict[str, Any]:
    return {"check": check, "paths": paths, "headers_checked": ["X-Kind"]}


@pytest.mark.parametrize("check", ["status", "shape", "keys", "exact"])
def test_an_equal_answer_agrees(check: str) -> None:
    assert differences(step(check, "tasks.*.state"), EXPECTED, EXPECTED) == []


@pytest.mark.parametrize(
    ("check", "given"),
    [
        ("status", replace(EXPECTED, status=201)),
        ("status", replace(EXPECTED, content_type="text/plain")),
        ("status", replace(EXPECTED, content_type="application/json; charset=latin-1")),
        ("status", replace(EXPECTED, headers={})),
        ("shape", replace(EXPECTED, body={"id": "a", "tasks": BODY["tasks"]})),
        ("shape", replace(EXPECTED, body=BODY | {"id": 1})),
        ("shape", replace(EXPECTED, body=BODY | {"tasks": []})),
        ("shape", replace(EXPECTED, body=BODY | {"tasks": [{"state": 1}]})),
        ("shape", replace(EXPECTED, body=None, text="{}")),
        ("keys", replace(EXPECTED, body=dict(reversed(BODY.items())))),
        ("exact", replace(EXPECTED, body=BODY | {"id": "b"})),
    ],
)
def test_what_a_script_would_notice_is_a_difference(check: str, given: Answer) -> None:
    assert len(differences(step(check), EXPECTED, given)) == 1


@pytest.mark.parametrize(
    ("check", "given"),
    [
        ("status", replace(EXPECTED, body={"other": 1})),
        ("shape", replace(EXPECTED, body=BODY | {"id": "b", "more": 1})),
        ("shape", replace(EXPECTED, body=BODY | {"tasks": [{"state": "x"}]})),
        ("exact", replace(EXPECTED, body=BODY | {"timestamp": 6.0})),
    ],
)
def test_what_no_two_runs_share_or_is_more_is_none(check: str, given: Answer) -> None:
    assert differences(step(check), EXPECTED, given) == []


def test_values_at_paths_are_compared_without_their_order() -> None:
    turned = replace(EXPECTED, body=BODY | {"tasks": list(reversed(BODY["tasks"]))})
    assert differences(step("shape", "tasks.*.state"), EXPECTED, turned) == []
    other = replace(EXPECTED, body=BODY | {"tasks": [{"state": "SUCCESS"}, {"state": "RETRY"}]})
    assert [f for f in differences(step("shape", "tasks.*.state"), EXPECTED, other) if "tasks.*.state" in f]


def test_text_is_compared_where_the_step_is_exact() -> None:
    expected = Answer(404, "text/plain", text="Unknown task 'x'")
    other = replace(expected, text="No such task")
    exact = {"check": "exact"}
    assert differences(exact, expected, expected) == []
    assert len(differences(exact, expected, other)) == 1
    assert differences({"check": "shape"}, expected, other) == []
