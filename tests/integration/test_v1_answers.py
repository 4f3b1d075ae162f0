"""How /api/v1 answers whatever is asked: validators, packing, HEAD, and one shape for every fault."""

import gzip
import json
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from yarl import URL

from meadow.access.claims import Signer
from meadow.access.gate import Gate
from meadow.bus import Bus
from meadow.http import build_application
from meadow.testing import KEY
from meadow_api.v1 import endpoint
from tests.integration.api_service import MakeContext, publish, running_api, stored
from tests.integration.v1_store import get, get_as_written, task, telling

ALL = (
    "tasks",
    "tasks/task-1",
    "workers",
    "workers/w1@h",
    "queues",
    "failures",
    "stats",
    "workflows/task-1",
    "audit",
    "pipeline",
    "health",
    "search/suggest",
    "export/tasks",
)
WRONG = (
    "limit=many",
    "limit=0",
    "limit=-1",
    "limit=501",
    "limit=1.5",
    "limit=",
    "limit=1e2",
    "limit=99999999999999999999999",
    "limit=null",
    "limit=%31%00",
    "limit=1&limit=2",
    "text=true",
    "sort=colour",
    "sort=",
    "fields=",
    "fields=uuid,,state",
    "colour=red",
    "q=%ff%fe",
    "q=%00",
    "q=a%00b",
    "%00=1",
    "&".join(f"x{n}=1" for n in range(60)),
    "offset=10000000000",
    "q=" + "a" * 2049,
    "name=" + "%C3%BC" * 1001,
)
SENSELESS = (
    "cursor=%3F",
    "cursor=W10%3D",
    "cursor=" + "A" * 4000,
    "q=" + "(" * 2000,
    "q=" + "%22" + "x" * 2000,
    "q=" + "(a+or+" * 200 + "b" + ")" * 200,
    "q=state:",
)
TRICKS = ("'; DROP TABLE tasks; --", '" OR 1=1 --', "%_\\%", "{{7*7}}", "\u202e\ud7ff\U0001f99a")
STEADY = ("tasks", "tasks/task-1", "failures", "workflows/task-1")


async def test_what_has_not_changed_is_answered_by_304(
    bus: Bus, make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "SLICE", 1e12)  # so that no slice of time ends in between
    async with telling(make_context, *task(1)) as (service, client):
        for path in STEADY:
            async with client.get(f"/api/v1/{path}") as response:
                etag = response.headers["ETag"]
                assert (response.status, etag[:3]) == (200, 'W/"')
                assert response.headers["Cache-Control"] == "private, no-cache"
            for header in (etag, f'"other", {etag}', etag.removeprefix("W/"), "*"):
                async with client.get(f"/api/v1/{path}", headers={"If-None-Match": header}) as again:
                    assert (again.status, await again.read(), again.headers["ETag"]) == (304, b"", etag)
        async with client.get("/api/v1/tasks") as response:
            before = response.headers["ETag"]
        await stored(service, await publish(bus, *task(2)))
        async with client.get("/api/v1/tasks", headers={"If-None-Match": before}) as response:
            assert (response.status, response.headers["ETag"] != before) == (200, True)
            assert len((await response.json())["tasks"]) == 2


async def test_another_question_has_another_validator(make_context: MakeContext) -> None:
    async with telling(make_context, *task(1)) as (_, client):
        etags = set()
        for query in ("", "?limit=1", "?sort=name", "?fields=uuid", "?q=proj", "?state=SUCCESS"):
            async with client.get(f"/api/v1/tasks{query}") as response:
                etags.add(response.headers["ETag"])
        assert len(etags) == 6


async def test_json_is_packed_for_those_who_take_it_if_that_is_worth_it(make_context: MakeContext) -> None:
    async with telling(make_context, *[fact for n in range(20) for fact in task(n)]) as (_, client):
        packed = await raw(client, "/api/v1/tasks", "gzip, deflate")
        plain = await raw(client, "/api/v1/tasks", "identity")
        unwanted = await raw(client, "/api/v1/tasks", "gzip;q=0, deflate")
        short = await raw(client, "/api/v1/tasks?limit=1&fields=uuid", "gzip")
    assert packed[0]["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed[1]) == plain[1] == unwanted[1]
    assert len(packed[1]) < len(plain[1]) / 4
    assert {"Content-Encoding"}.isdisjoint({*plain[0], *unwanted[0], *short[0]})
    assert packed[0]["Vary"] == plain[0]["Vary"] == "Accept-Encoding"


async def raw(client: aiohttp.ClientSession, path: str, encoding: str) -> tuple[Any, bytes]:
    """Headers and the bytes as they came."""
    async with client.head("/healthcheck") as known:
        url = known.url.join(URL(path))
    async with (
        aiohttp.ClientSession(auto_decompress=False) as plain,
        plain.get(url, headers={"Accept-Encoding": encoding}) as response,
    ):
        assert response.status == 200
        return response.headers, await response.read()


async def test_head_answers_like_get_without_the_body(make_context: MakeContext) -> None:
    async with telling(make_context, *task(1)) as (_, client):
        for path in (*ALL, "events"):
            async with client.head(f"/api/v1/{path}") as response:
                assert (path, response.status, await response.read()) == (path, 200, b"")


async def test_nothing_can_be_changed_here(make_context: MakeContext) -> None:
    async with telling(make_context, *task(1)) as (_, client):
        for path in (*ALL, "events"):
            for method in ("POST", "PUT", "PATCH", "DELETE"):
                async with client.request(method, f"/api/v1/{path}") as response:
                    assert (path, response.status, response.headers.get("Allow")) == (path, 405, "GET,HEAD")
                    assert (await response.json())["error"] == "method-not-allowed"
            async with client.options(f"/api/v1/{path}") as response:
                assert (path, response.status) == (path, 204)


async def test_what_is_not_there_is_a_problem_in_json(make_context: MakeContext) -> None:
    async with telling(make_context) as (_, client):
        for path in ("", "nothing", "tasks/", "a/b/c", "tasksx"):
            status, problem = await get(client, path)
            assert (status, problem["error"]) == (404, "not-found"), path


async def test_a_wrong_parameter_is_a_400_that_names_it(make_context: MakeContext) -> None:
    async with telling(make_context) as (_, client):
        for query in WRONG:
            status, problem = await get_as_written(client, f"tasks?{query}")
            assert (query, status, problem["error"]) == (query, 400, "invalid-parameter"), problem
            assert problem["message"].endswith(".")


async def test_a_senseless_question_is_a_422_that_says_what_is_wrong(make_context: MakeContext) -> None:
    async with telling(make_context, *task(1)) as (_, client):
        for query in SENSELESS:
            status, problem = await get_as_written(client, f"tasks?{query}")
            assert (query, status) == (query, 422), problem
            assert problem["error"] in ("invalid-search", "invalid-question")
            assert len(problem["message"]) < 1000


async def test_a_path_that_is_not_utf8_is_a_400(make_context: MakeContext) -> None:
    async with telling(make_context) as (_, client):
        for path in ("tasks/%ff%fe", "workers/%c3%28", "workflows/%80"):
            status, problem = await get_as_written(client, path)
            assert (path, status, problem["error"]) == (path, 400, "invalid-parameter")


async def test_a_query_of_a_megabyte_is_refused_with_a_sentence(make_context: MakeContext) -> None:
    async with (
        telling(make_context) as (_, client),
        client.get(URL("/api/v1/tasks?q=" + "a" * 1_000_000, encoded=True)) as response,
    ):
        assert response.status == 400
        assert "Got more than" in await response.text()


async def test_sql_and_other_tricks_in_values_are_only_text(make_context: MakeContext) -> None:
    async with telling(make_context, *task(1)) as (_, client):
        for trick in TRICKS:
            for name in ("q", "state", "name", "worker", "queue"):
                status, answer = await get(client, "tasks", **{name: trick})
                assert status in (200, 422), (name, trick, answer)
        assert (await get(client, "tasks"))[1]["tasks"] != []


async def test_the_api_is_closed_with_the_rest_of_the_api(make_context: MakeContext) -> None:
    context = make_context(basic_auth=["ada:secret"])
    async with running_api(context) as service:
        application = build_application(context.settings, context.gate, [service])
        async with TestServer(application) as server, aiohttp.ClientSession(server.make_url("/")) as client:
            for path in ("/api/v1/tasks", "/api/v1/events", "/api/v1/export/tasks"):
                async with client.get(path) as response:
                    assert (response.status, (await response.json())["error"]) == (401, "not-signed-in")
                signed_in = {"Authorization": aiohttp.encode_basic_auth("ada", "secret")}
                async with client.head(path, headers=signed_in) as response:
                    assert response.status == 200
            for path in ("/api/openapi.json", "/api/docs"):
                async with client.get(path) as response:
                    assert response.status == 401


async def test_those_who_only_read_pages_are_told_why_the_api_is_closed(make_context: MakeContext) -> None:
    context = make_context(allow_anonymous=True)
    gate = Gate(context.settings, [], Signer(KEY), loopback=False)
    async with running_api(context) as service:
        application = build_application(context.settings, gate, [service])
        async with TestServer(application) as server, aiohttp.ClientSession(server.make_url("/")) as client:
            status, problem = await get(client, "tasks")
    assert (status, problem["error"]) == (401, "not-signed-in")
    assert "FLOWER_UNAUTHENTICATED_API" in problem["message"]


async def test_below_a_prefix_everything_is_found_there(make_context: MakeContext) -> None:
    async with telling(make_context, *task(1), url_prefix="/meadow") as (_, client):
        async with client.get("/meadow/api/v1/tasks/task-1") as response:
            assert response.status == 200
        async with client.get("/meadow/api/v1/nothing") as response:
            assert (response.status, (await response.json())["error"]) == (404, "not-found")
        async with client.get("/meadow/api/openapi.json") as response:
            assert json.loads(await response.text())["servers"] == [{"url": "/meadow"}]


async def test_health_says_how_far_facts_have_come(make_context: MakeContext) -> None:
    async with telling(make_context, *task(1)) as (_, client):
        status, health = await get(client, "health")
    assert (status, health["ok"]) == (200, True)
    assert health["streams"]["MEADOW_EVENTS"]["events"] == 5
