"""Flower's endpoints for commands: what a request means, and how a reply looks."""

from typing import Any

import pytest
from aiohttp import web

from meadow.commands import (
    CODES,
    AddConsumer,
    AnyCommand,
    ApplyTask,
    Autoscale,
    CommandReply,
    GrowPool,
    RevokeTask,
    SetRateLimit,
    SetTimeLimits,
)
from meadow_api.command_routes import ANSWERS, CALLS, COMMANDS, respond

W = "w1@host"


@pytest.mark.parametrize(
    ("path", "arguments", "command"),
    [
        ("/api/worker/pool/grow", {}, GrowPool(worker=W, n=1)),
        ("/api/worker/pool/grow", {"n": "-2"}, GrowPool(worker=W, n=-2)),
        ("/api/worker/pool/autoscale", {"min": "1", "max": "4"}, Autoscale(worker=W, min=1, max=4)),
        ("/api/worker/queue/add-consumer", {"queue": "a&b<'>"}, AddConsumer(worker=W, queue="a&b<'>")),
        ("/api/task/revoke", {}, RevokeTask(task_id=W)),
        (
            "/api/task/revoke",
            {"terminate": "True", "signal": "SIGKILL"},
            RevokeTask(task_id=W, terminate=True, signal="SIGKILL"),
        ),
        (
            "/api/task/rate-limit",
            {"workername": "v@h", "ratelimit": "100/m"},
            SetRateLimit(worker="v@h", task=W, rate="100/m"),
        ),
        ("/api/task/timeout", {"workername": "v@h"}, SetTimeLimits(worker="v@h", task=W)),
        (
            "/api/task/timeout",
            {"workername": "v@h", "soft": "1", "hard": "2.5"},
            SetTimeLimits(worker="v@h", task=W, soft=1.0, hard=2.5),
        ),
    ],
)
def test_arguments_are_taken_as_they_are(path: str, arguments: dict[str, str], command: AnyCommand) -> None:
    assert COMMANDS[path](W, arguments) == command


@pytest.mark.parametrize(
    ("path", "arguments", "sentence"),
    [
        ("/api/worker/pool/grow", {"n": "abc"}, "Invalid argument 'abc' of type 'int'"),
        ("/api/worker/pool/shrink", {"n": "1.5"}, "Invalid argument '1.5' of type 'int'"),
        ("/api/worker/pool/shrink", {"n": "9" * 30}, f"Invalid argument '{'9' * 30}' of type 'int'"),
        ("/api/worker/pool/autoscale", {"max": "2"}, "Missing argument min"),
        ("/api/worker/pool/autoscale", {"min": "1"}, "Missing argument max"),
        ("/api/worker/queue/add-consumer", {}, "Missing argument queue"),
        ("/api/worker/queue/cancel-consumer", {"queue": ""}, "Missing argument queue"),
        ("/api/task/revoke", {"terminate": "maybe"}, "Invalid argument 'maybe' of type 'bool'"),
        ("/api/task/rate-limit", {"ratelimit": "5"}, "Missing argument workername"),
        ("/api/task/rate-limit", {"workername": W}, "Missing argument ratelimit"),
        ("/api/task/timeout", {"soft": "5"}, "Missing argument workername"),
        ("/api/task/timeout", {"workername": W, "soft": "abc"}, "Invalid argument 'abc' of type 'float'"),
        ("/api/task/timeout", {"workername": W, "hard": "inf"}, "Invalid argument 'inf' of type 'float'"),
    ],
)
def test_a_wrong_or_missing_argument_is_named_as_flower_names_it(
    path: str, arguments: dict[str, str], sentence: str
) -> None:
    with pytest.raises(web.HTTPBadRequest) as caught:
        COMMANDS[path](W, arguments)
    assert caught.value.text == sentence


def test_every_other_key_of_a_call_is_an_option() -> None:
    body: dict[str, Any] = {"args": [1], "kwargs": {"a": 2}, "timeout": "0.5", "queue": "q", "eta": "x"}
    assert CALLS["/api/task/apply"]("t", body) == ApplyTask(
        task="t", args=[1], kwargs={"a": 2}, options={"queue": "q", "eta": "x"}, timeout=0.5
    )


@pytest.mark.parametrize("timeout", ["x", [], {}, "nan", "inf"])
def test_a_wait_that_is_no_number_is_refused(timeout: Any) -> None:
    with pytest.raises(web.HTTPBadRequest) as caught:
        CALLS["/api/task/apply"]("t", {"timeout": timeout})
    assert caught.value.text == "Invalid timeout"


def test_every_code_has_an_answer() -> None:
    assert set(ANSWERS) == set(CODES) - {"ok"}


@pytest.mark.parametrize(
    ("code", "status", "content_type", "text"),
    [
        ("invalid", 400, "text/plain", "why"),
        ("unknown-worker", 404, "text/plain", "why"),
        ("refused-by-worker", 403, "text/html", "why"),
        ("read-only", 403, "text/plain", "why"),
        ("unavailable", 503, "text/plain", "why"),
        ("no-backend", 503, "text/html", ""),
        ("failed", 500, "text/html", ""),
        ("of a newer release", 500, "text/html", ""),
    ],
)
def test_a_reply_looks_like_flowers(code: str, status: int, content_type: str, text: str) -> None:
    response = respond(CommandReply(code=code, message="why"))
    assert (response.status, response.content_type, response.charset) == (status, content_type, "UTF-8")
    assert response.text == text


def test_a_workers_words_cannot_act_as_a_page() -> None:
    response = respond(CommandReply(code="refused-by-worker", message="<script>alert(1)</script>"))
    assert response.content_type == "text/html"
    assert response.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"


def test_a_good_reply_is_its_value() -> None:
    response = respond(CommandReply(value={"message": "Growing"}))
    assert response.status == 200
    assert response.headers["Content-Type"] == "application/json; charset=UTF-8"
    assert response.body == b'{"message":"Growing"}'
