"""Links: whatever a task or worker is called, its page can be reached, below the prefix, and nowhere else."""

from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadow_web.assets import Asset, Assets
from meadow_web.urls import Urls

ASSETS = Assets({"meadow.css": Asset(b"", "text/css", "e")}, "v1")
PLAIN = Urls("", ASSETS)
BELOW = Urls("/flower", ASSETS)


def test_links_carry_the_prefix() -> None:
    assert BELOW.overview() == "/flower/"
    assert BELOW.static("meadow.css") == "/flower/static/v1/meadow.css"
    assert BELOW.live() == "/flower/live"
    assert BELOW.do("revoke") == "/flower/do/revoke"
    assert PLAIN.tasks(state="FAILURE", name=None, worker="") == "/tasks?state=FAILURE"


@given(st.text(min_size=1))
def test_every_name_survives_the_way_through_an_address(name: str) -> None:
    if any("\ud800" <= character <= "\udfff" for character in name):
        return
    parts = urlsplit(BELOW.worker(name, tab="pool"))
    assert (parts.scheme, parts.netloc, parts.fragment) == ("", "", "")
    assert unquote(parts.path) == f"/flower/worker/{name}"
    assert "/" not in parts.path.removeprefix("/flower/worker/")
    assert parse_qs(urlsplit(BELOW.tasks(name="x", worker="y")).query) == {"name": ["x"], "worker": ["y"]}


def test_names_that_browsers_would_resolve_away_are_escaped() -> None:
    assert PLAIN.task("..") == "/task/%2E%2E"


@pytest.mark.parametrize(
    "target",
    [
        "",
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "\\\\evil.example",
        "javascript:alert(1)",
        "/flowerpot",
        "/ok\r\nSet-Cookie: a=b",
        "/\t/evil.example",
        "tasks",
    ],
)
def test_nobody_is_sent_to_another_site(target: str) -> None:
    assert BELOW.local(target) == "/flower/"
    if target != "/flowerpot":
        assert PLAIN.local(target) == "/"


def test_an_outcome_travels_in_the_query_and_not_behind_the_fragment() -> None:
    assert PLAIN.flashed("/tasks#a", "x") == "/tasks?flash=x#a"
    assert PLAIN.flashed("/tasks?state=A#a?b", "x") == "/tasks?state=A&flash=x#a?b"
    assert PLAIN.flashed("/tasks", "x") == "/tasks?flash=x"


def test_local_paths_are_kept() -> None:
    assert BELOW.local("/flower/task/a?x=1") == "/flower/task/a?x=1"
    assert PLAIN.local("/worker/w1@h?tab=queues") == "/worker/w1@h?tab=queues"
