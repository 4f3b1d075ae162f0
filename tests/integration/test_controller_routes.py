"""Flower's endpoints for commands over real HTTP, down to a controller and a broker."""

import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from io import BytesIO
from uuid import uuid4

import pytest
import redis
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from meadow.audit import AuditIntent
from meadow.http import build_application
from meadow.service import Context
from meadow_api.command_routes import command_routes
from tests.integration.apps.bare_service import BareService
from tests.integration.apps.control_stage import Desk, Stage, running_stage, working_controller

Client = TestClient[web.Request, web.Application]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with running_stage(tmp_path_factory.mktemp("stage"), workers=False) as made:
        yield made


class OnlyCommands(BareService):
    """A service that has the command endpoints and nothing else."""

    name = "api"

    def __init__(self, context: Context) -> None:
        self._context = context

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return command_routes(self._context)


@asynccontextmanager
async def http(context: Context) -> AsyncIterator[Client]:
    application = build_application(context.settings, context.gate, [OnlyCommands(context)])
    async with TestClient(TestServer(application)) as client:
        yield client


@pytest.fixture
async def desk(stage: Stage, make_context: Callable[..., Context]) -> AsyncIterator[Desk]:
    async with working_controller(make_context, stage.app()) as made:
        yield made


@pytest.fixture
async def client(desk: Desk) -> AsyncIterator[Client]:
    async with http(desk.context) as made:
        yield made


async def test_a_call_goes_to_the_broker_and_its_caller_into_the_audit(
    client: Client, desk: Desk, stage: Stage
) -> None:
    task_id, queue = str(uuid4()), f"a&b-{uuid4()}"
    response = await client.post(
        "/api/task/async-apply/control.add?reason=because", json={"args": [2, 3], "task_id": task_id, "queue": queue}
    )
    assert response.status == 200
    assert response.headers["Content-Type"] == "application/json; charset=UTF-8"
    assert await response.json() == {"task-id": task_id, "state": "PENDING"}
    with redis.Redis.from_url(stage.url) as broker:
        assert broker.llen(queue) == 1
    intent = (await desk.audit())[0]
    assert isinstance(intent, AuditIntent)
    assert (intent.actor, intent.source, intent.reason) == ("anonymous", "127.0.0.1", "because")


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("async-apply/control.add", "{bad", 400, "Expecting property name enclosed in double quotes: line 1"),
        ("async-apply/control.add", "args=%5B1%5D", 400, "Expecting value: line 1 column 1 (char 0)"),
        ("async-apply/control.add", "[1, 2]", 400, "invalid options"),
        ("async-apply/control.add", '{"args": "ab"}', 400, "args must be an array"),
        ("async-apply/control.add", '{"args": [1, 2], "eta": "tomorrow"}', 400, "Invalid option"),
        ("async-apply/control.add", '{"args": [1, 2], "eta": 5}', 500, ""),
        ("async-apply/control.add", '{"args": [1, NaN]}', 400, "NaN is not JSON"),
        ("async-apply/control.add", '{"args": [1, "\\ud800"]}', 400, "The arguments cannot be sent"),
        ("async-apply/control.add", "[" * 100_000, 400, "The body is nested too deeply"),
        ("async-apply/control.add", "\udcff", 400, "'utf-8' codec can't decode"),
        ("async-apply/control.add", '{"args": [1]}', 500, ""),
        ("async-apply/control.add", '{"args": [1, 2], "kwargs": [1]}', 500, ""),
        ("async-apply/control.nosuch", '{"args": [1], "eta": "x"}', 404, "Unknown task 'control.nosuch'"),
        ("apply/control.add", '{"args": [1, 2], "timeout": "x"}', 400, "Invalid timeout"),
        ("send-task/control.add", '{"countdown": "soon"}', 500, ""),
        ("send-task/control.add", '{"args": [1], "producer": "x"}', 400, "The option 'producer' cannot be given"),
    ],
)
async def test_bodies_that_make_no_sense_are_refused_with_flowers_words(
    client: Client, path: str, body: str, status: int, text: str
) -> None:
    response = await client.post(f"/api/task/{path}", data=body.encode("utf-8", "surrogateescape"))
    assert response.status == status
    assert (await response.text()).startswith(text)
    assert response.headers["Content-Type"].startswith("text/plain" if text else "text/html")


async def test_arguments_come_from_the_query_or_a_form_and_the_form_wins(client: Client, desk: Desk) -> None:
    response = await client.post("/api/task/revoke/x?terminate=false&signal=SIGINT", data={"terminate": "True"})
    assert await response.json() == {"message": "Revoked 'x'"}
    intent = (await desk.audit())[0]
    assert isinstance(intent, AuditIntent)
    assert intent.parameters == {"terminate": True, "signal": "SIGINT"}


async def test_a_worker_nobody_knows_is_named_as_it_was_written(client: Client) -> None:
    response = await client.post("/api/worker/pool/grow/%3Cb%3E%26'@h")
    assert response.status == 404
    assert response.headers["Content-Type"] == "text/plain; charset=UTF-8"
    assert await response.text() == "Unknown worker '<b>&'@h'"


async def test_results_are_read_with_get_only(client: Client) -> None:
    assert await (await client.get("/api/task/result/x")).json() == {"task-id": "x", "state": "PENDING"}
    bad = await client.get("/api/task/result/x?timeout=x")
    assert (bad.status, await bad.text()) == (400, "Invalid argument 'x' of type 'float'")
    assert (await client.post("/api/task/result/x")).status == 405
    assert (await client.head("/api/task/result/x")).status == 405


async def test_without_a_controller_the_answer_says_so(make_context: Callable[..., Context]) -> None:
    async with http(make_context()) as client:
        response = await client.post("/api/task/revoke/x")
        assert response.status == 503
        assert "No controller is running" in await response.text()


async def test_too_large_a_body_is_refused(client: Client) -> None:
    response = await client.post("/api/task/send-task/t", data=BytesIO(b" " * 9 * 1024 * 1024))
    assert response.status == 413
    assert "size" in await response.text()


async def test_an_argument_of_some_megabytes_is_carried(client: Client) -> None:
    body = {"args": ["x" * 2 * 1024 * 1024], "queue": f"q-{uuid4()}"}
    data = BytesIO(json.dumps(body).encode())
    assert (await client.post("/api/task/send-task/t", data=data)).status == 200


async def test_read_only_refuses_before_any_argument_is_looked_at(make_context: Callable[..., Context]) -> None:
    async with http(make_context(read_only=True)) as client:
        response = await client.post("/api/worker/pool/grow/w?n=abc")
        assert (response.status, await response.text()) == (403, "Read only mode is enabled")
