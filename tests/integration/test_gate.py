"""One table of routes × ways to sign in × origins: what passes the gate, and what it is answered otherwise."""

import base64
import time
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import ClientSession, web

from meadow.access.claims import Signer
from meadow.access.gate import API_CLOSED, READ_ONLY, Gate, check_exposure
from meadow.errors import StartRefused
from meadow.http import HttpServer, build_application
from meadow.settings import Settings
from meadow_basic_auth import register_sign_in
from tests.integration.apps.bare_service import BareService

ALICE = {"Authorization": "Basic " + base64.b64encode(b"alice:wonder:land").decode()}
MALLORY = {"Authorization": "Basic " + base64.b64encode(b"alice:guess").decode()}


class Room(BareService):
    """A service with one page, one endpoint that reads and one that changes; it answers who came."""

    name = "room"

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return [
            web.get("/page", self._who, allow_head=False),
            web.get("/api/read", self._who, allow_head=False),
            web.post("/api/change", self._who),
            web.post("/tasks/datatable", self._who),
            web.get("/metrics", self._open, allow_head=False),
            web.get("/broken", self._broken),
        ]

    async def _who(self, request: web.Request) -> web.Response:
        return web.Response(text=f"{self._gate.actor(request).name}/{self._gate.actor(request).role}")

    async def _open(self, request: web.Request) -> web.Response:
        return web.Response(text="open")

    async def _broken(self, request: web.Request) -> web.Response:
        raise RuntimeError("hunter2 is in this message")


@dataclass(frozen=True)
class Answer:
    status: int
    text: str
    headers: dict[str, str]


class Caller:
    def __init__(self, session: ClientSession, base: str) -> None:
        self._session, self._base = session, base

    async def __call__(self, method: str, path: str, data: bytes | None = None, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._session.request(method, self._base + path, headers=named, data=data) as response:
            return Answer(response.status, await response.text(), dict(response.headers))


@asynccontextmanager
async def serving(loopback: bool = True, **values: Any) -> AsyncIterator[Caller]:
    settings = Settings(port=0, **{"address": "127.0.0.1"} | values)
    gate = Gate(settings, register_sign_in(settings), Signer(b"0123456789abcdef"), loopback=loopback)
    server = HttpServer(settings)
    server.bind()
    await server.start(build_application(settings, gate, [Room(gate)]))
    try:
        async with ClientSession() as session:
            yield Caller(session, f"http://127.0.0.1:{server.port}")
    finally:
        await server.stop()


async def test_on_loopback_everything_is_open_to_whoever_calls_it_by_its_name() -> None:
    async with serving() as call:
        for method, path in (("GET", "/page"), ("GET", "/api/read"), ("POST", "/api/change")):
            answer = await call(method, path)
            assert (answer.status, answer.text) == (200, "anonymous/admin"), path


@pytest.mark.parametrize("path", ["/page", "/api/read", "/metrics"])
async def test_a_foreign_name_for_this_machine_opens_nothing(path: str) -> None:
    async with serving() as call:
        answer = await call("GET", path, Host="evil.example:5555")
        assert answer.status == 403
        assert "--allowed-hosts" in answer.text


async def test_an_allowed_name_is_answered() -> None:
    async with serving(allowed_hosts=("flower.example",)) as call:
        assert (await call("GET", "/page", Host="Flower.example:8443")).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "none"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
@pytest.mark.parametrize("auth", [(), ("alice:wonder:land",)])
async def test_only_a_page_of_this_origin_may_change_something(
    auth: tuple[str, ...], headers: dict[str, str], status: int
) -> None:
    async with serving(basic_auth=auth) as call:
        assert (await call("POST", "/api/change", **headers, **ALICE)).status == status
        assert (await call("GET", "/api/read", **headers, **ALICE)).status == 200


async def test_a_socket_is_opened_for_pages_of_this_origin_only() -> None:
    async with serving() as call:
        handshake = {"Upgrade": "websocket", "Connection": "Upgrade"}
        assert (await call("GET", "/page", Origin="http://evil.example", **handshake)).status == 403


async def test_opened_without_sign_in_pages_can_be_read_and_nothing_else() -> None:
    async with serving(loopback=False, allow_anonymous=True) as call:
        assert (await call("GET", "/page", Host="any.example")).text == "anonymous/viewer"
        closed = await call("GET", "/api/read")
        assert (closed.status, closed.text) == (401, API_CLOSED)
        assert (await call("POST", "/api/change")).status == 401
        assert (await call("POST", "/tasks/datatable")).status == 200
        assert "Access-Control-Allow-Origin" not in closed.headers


async def test_the_variable_of_flower_opens_the_api() -> None:
    async with serving(loopback=False, unauthenticated_api=True) as call:
        assert (await call("POST", "/api/change")).text == "anonymous/admin"


async def test_with_basic_auth_only_the_right_password_passes() -> None:
    async with serving(basic_auth=("bob:x", "alice:wonder:land")) as call:
        assert (await call("GET", "/page", **ALICE)).text == "alice/admin"
        for headers in ({}, MALLORY, {"Authorization": "Basic %%%"}, {"Authorization": "Bearer abc"}):
            page = await call("GET", "/page", **headers)
            assert (page.status, page.headers.get("WWW-Authenticate")) == (401, 'Basic realm="flower"')
            api = await call("POST", "/api/change", **headers)
            assert (api.status, api.text, api.headers.get("WWW-Authenticate")) == (401, "", None)
        assert (await call("GET", "/metrics")).text == "open"
        assert (await call("OPTIONS", "/api/change")).status == 204


async def test_read_only_refuses_every_change_before_anything_else() -> None:
    async with serving(read_only=True) as call:
        refused = await call("POST", "/api/change")
        assert (refused.status, refused.text) == (403, READ_ONLY)
        assert (await call("POST", "/api/no-such-thing")).status == 403
        assert (await call("POST", "/tasks/datatable")).status == 200


async def test_below_a_prefix_everything_moves_and_the_gate_with_it() -> None:
    async with serving(url_prefix="flower", basic_auth=("alice:wonder:land",)) as call:
        assert (await call("GET", "/flower/page", **ALICE)).status == 200
        assert (await call("GET", "/flower/page")).status == 401
        assert (await call("GET", "/flower/metrics")).text == "open"
        assert (await call("GET", "/page", **ALICE)).status == 404
        assert (await call("POST", "/flower/tasks/datatable", **ALICE)).status == 200


async def test_methods_that_do_not_exist_are_told() -> None:
    async with serving() as call:
        assert (await call("HEAD", "/api/read")).status == 405
        assert (await call("GET", "/api/change")).status == 405
        assert (await call("OPTIONS", "/api/no-such-thing")).status == 404


async def test_a_compressed_body_is_not_unpacked_before_or_after_anybody_signed_in() -> None:
    bomb = zlib.compress(b" " * 2**26, 9)
    async with serving(basic_auth=("alice:wonder:land",)) as call:
        for headers, status in (({}, 401), (ALICE, 415)):
            used = time.process_time()
            answer = await call("POST", "/api/change", data=bomb, Content_Encoding="deflate", **headers)
            assert answer.status == status
            assert time.process_time() - used < 0.2  # processor time; unpacking 64 MB takes more


async def test_an_origin_that_is_no_address_is_a_foreign_one() -> None:
    async with serving() as call:
        assert (await call("POST", "/api/change", Origin="http://[")).status == 403


async def test_an_error_tells_nothing_of_its_inside_and_every_answer_has_its_headers() -> None:
    async with serving() as call:
        broken = await call("GET", "/broken")
        assert broken.status == 500
        assert "hunter2" not in broken.text
        assert broken.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1", "meadow.example"])
def test_without_sign_in_other_machines_are_refused_at_the_start(address: str) -> None:
    with pytest.raises(StartRefused, match="--basic-auth"):
        check_exposure(Settings(address=address))
    assert check_exposure(Settings(address=address, basic_auth=("a:b",))) is False
    assert check_exposure(Settings(address=address, allow_anonymous=True)) is False


@pytest.mark.parametrize("address", [None, "127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_this_machine_alone_needs_no_sign_in(address: str | None) -> None:
    assert check_exposure(Settings(address=address)) is True
