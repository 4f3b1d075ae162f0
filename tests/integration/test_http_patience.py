"""A browser may be slow, but it does not hold a connection for ever."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from meadow.http import HttpServer, build_application
from meadow.service import Context
from tests.integration.apps.bare_service import BareService

MakeContext = Callable[..., Context]


class Echo(BareService):
    """A service with one address that answers with what it is sent."""

    name = "echo"

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return [web.post("/echo", self.echo)]

    async def echo(self, request: web.Request) -> web.Response:
        return web.Response(text=await request.text())


@asynccontextmanager
async def line_to(context: Context, *, patience: float) -> AsyncIterator[tuple[Any, Any]]:
    """A bare connection to a server of this patience."""
    server = HttpServer(context.settings, idle_seconds=patience)
    server.bind()
    await server.start(build_application(context.settings, context.gate, [Echo()], body_seconds=patience))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await server.stop()


def request(headers: str, body: str = "") -> bytes:
    return f"POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n\r\n{body}".encode()


async def test_headers_that_do_not_end_are_hung_up_on(make_context: MakeContext) -> None:
    async with line_to(make_context(port=0), patience=0.3) as (reader, writer):
        writer.write(b"POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        assert await asyncio.wait_for(reader.read(), 10.0) == b""


async def test_a_connection_that_says_nothing_is_hung_up_on(make_context: MakeContext) -> None:
    async with line_to(make_context(port=0), patience=0.3) as (reader, _):
        assert await asyncio.wait_for(reader.read(), 10.0) == b""


async def test_headers_of_a_second_request_must_end_too(make_context: MakeContext) -> None:
    async with line_to(make_context(port=0), patience=0.5) as (reader, writer):
        writer.write(request("Content-Length: 2", "hi"))
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\nhi"), 10.0)).startswith(b"HTTP/1.1 200")
        writer.write(b"POST /echo HTT")
        assert await asyncio.wait_for(reader.read(), 10.0) == b""


async def test_a_body_that_does_not_end_is_answered_with_a_sentence(make_context: MakeContext) -> None:
    async with line_to(make_context(port=0), patience=0.3) as (reader, writer):
        writer.write(request("Content-Length: 1000", "the beginning"))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10.0)
        assert head.startswith(b"HTTP/1.1 408")
        await asyncio.wait_for(reader.readuntil(b"did not arrive within 0.3 s."), 10.0)
