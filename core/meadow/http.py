"""One HTTP server for the services of a process: their routes, the gate in front, and the same headers on all."""

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from meadow.access.gate import Gate
from meadow.codec import encode
from meadow.errors import SettingsError, StartRefused
from meadow.problems import problem_of
from meadow.service import Service
from meadow.settings import Settings

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

JSON = "application/json"
MAX_BODY = 8 * 1024 * 1024
LONGEST_LINE = 64 * 1024
"""Bytes of a request's first line: the longest search fits in, however much of it is percent-encoded."""
SHUTDOWN_SECONDS = 2.0
IDLE_SECONDS = 75.0
"""How long a connection may wait for the end of its next request's headers."""
BODY_SECONDS = 60.0
"""How long a request's body may be on its way."""


class PageRenderer(Protocol):
    """A service that draws error pages for people."""

    async def error_page(self, request: web.Request, status: int, message: str) -> web.Response:
        """A whole page that says what went wrong."""


def build_application(
    settings: Settings,
    gate: Gate,
    services: Sequence[Service],
    *,
    body_seconds: float = BODY_SECONDS,
    health: Callable[[], dict[str, Any]] | None = None,
) -> web.Application:
    """All routes below the URL prefix, behind the gate. `health` is what the process says of itself."""
    pages: PageRenderer | None = next((s for s in services if hasattr(s, "error_page")), None)  # type: ignore[assignment]
    inner = web.Application(client_max_size=MAX_BODY)
    for service in services:
        inner.add_routes(service.routes())
        hang_up: Callable[[], Awaitable[None]] | None = getattr(service, "hang_up", None)
        if hang_up is not None:  # open WebSockets would hold the stop up
            inner.on_shutdown.append(lambda _, hang_up=hang_up: hang_up())  # type: ignore[misc]
    if health is not None and not any(service.name == "api" for service in services):
        inner.add_routes([web.get("/healthcheck", _healthcheck(health), allow_head=False)])
    middlewares = [_headers, _problems(settings), _errors(settings, pages), gate.middleware]
    middlewares += [*_bodies(body_seconds), _options]
    if not settings.prefix:
        inner.middlewares.extend(middlewares)
        return inner
    outer = web.Application(client_max_size=MAX_BODY, middlewares=middlewares)
    outer.add_subapp(settings.prefix, inner)
    return outer


def _healthcheck(health: Callable[[], dict[str, Any]]) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        """200 while every service of this process is well, 503 otherwise; with their states."""
        state = health()
        return web.json_response(state, status=200 if state["ok"] else 503)

    return handler


@web.middleware
async def _headers(request: web.Request, handler: Handler) -> web.StreamResponse:
    response = await handler(request)
    if not response.prepared:
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Referrer-Policy", "same-origin")
        response.headers.setdefault("X-Frame-Options", "DENY")
        response.headers.setdefault("Server", "Meadow")
    return response


@web.middleware
async def _plain_bodies(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise web.HTTPUnsupportedMediaType(text="Compressed request bodies are not read. Send it as it is.")
    return await handler(request)


@web.middleware
async def _options(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.method != "OPTIONS":
        return await handler(request)
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed:
        return web.Response(status=204)


def _bodies(seconds: float) -> list[Any]:
    """What every body must be: as it is, and sent within `seconds`."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.can_read_body:
            return await handler(request)

        def give_up() -> None:
            if not request.content.is_eof():
                request.content.set_exception(
                    web.HTTPRequestTimeout(text=f"The body of the request did not arrive within {seconds:g} s.")
                )

        timer = asyncio.get_running_loop().call_later(seconds, give_up)
        try:
            return await handler(request)
        finally:
            timer.cancel()

    return [_plain_bodies, middleware]


def _problems(settings: Settings) -> Any:
    """Below `/api/v1/` every refusal is a problem in JSON, also one that the gate or the router gave in plain text."""
    versioned = f"{settings.prefix}/api/v1"

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if response.status < 400 or not request.path.startswith(versioned) or response.content_type == JSON:
            return response
        if response.prepared or not isinstance(response, web.Response):
            return response
        message = (response.text or "") if response.content_type == "text/plain" else ""
        response.body = encode(problem_of(response.status, message.strip()))
        response.headers["Content-Type"] = JSON
        response.headers["Cache-Control"] = "no-store"
        return response

    return middleware


def _errors(settings: Settings, pages: PageRenderer | None) -> Any:
    api = f"{settings.prefix}/api/"

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as exc:
            if exc.status < 400 or exc.content_type == "application/json":
                raise
            return await _answer(request, exc.status, _message(exc))
        except Exception:
            log.exception("%s %s failed.", request.method, request.path, extra={"action": "http.failed"})
            return await _answer(request, 500, "")

    async def _answer(request: web.Request, status: int, message: str) -> web.Response:
        for_people = not request.path.startswith(api) or status == 404
        if pages is not None and for_people and status != 405:
            return await pages.error_page(request, status, message)
        if message and status not in (404, 405):
            return web.Response(status=status, text=message, content_type="text/plain", charset="UTF-8")
        return web.Response(status=status, content_type="text/html", charset="UTF-8")

    return middleware


def _message(exc: web.HTTPException) -> str:
    """What a handler said; aiohttp's own `404: Not Found` says nothing."""
    text = exc.text or ""
    return "" if text == f"{exc.status}: {exc.reason}" else text


class HttpServer:
    """The listening socket. The port is taken before anything else starts, so that a wrong one is told at once."""

    def __init__(self, settings: Settings, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._settings = settings
        self._idle_seconds = idle_seconds
        self._runner: web.AppRunner | None = None
        self._sockets: list[socket.socket] = []
        self._tls = _tls_context(settings)
        self.port = settings.port

    def bind(self) -> None:
        """Take the port (or the Unix socket); raises `StartRefused`."""
        if self._settings.unix_socket:
            self._sockets = [_unix_socket(Path(self._settings.unix_socket))]
            return
        host = self._settings.listen_address
        try:
            found = socket.getaddrinfo(host, self._settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError as exc:
            raise StartRefused(f"The address {host!r} is not known: {exc.strerror}. Correct --address.") from exc
        for family, kind, protocol, _, where in sorted(set(found), key=lambda f: f[0]):
            target = (where[0], self.port, *where[2:])
            try:
                self._sockets.append(_tcp_socket(family, kind, protocol, target))
            except OSError as exc:
                if host is None and family == socket.AF_INET6 and self._sockets:
                    continue  # a machine without IPv6
                raise StartRefused(
                    f"Port {self.port} on {host or 'all addresses'} cannot be used ({exc.strerror}). "
                    "Stop what listens there, or choose another with --port."
                ) from exc
            self.port = self._sockets[0].getsockname()[1]

    async def start(self, application: web.Application) -> None:
        """Serve the application."""
        self._runner = web.AppRunner(
            application,
            access_log=logging.getLogger("meadow.access") if self._settings.debug else None,
            handle_signals=False,
            keepalive_timeout=self._idle_seconds,
            shutdown_timeout=SHUTDOWN_SECONDS,
            max_line_size=LONGEST_LINE,
            auto_decompress=False,  # a small body must not become a large one, least of all before anybody signed in
        )
        await self._runner.setup()
        for sock in self._sockets:
            await web.SockSite(self._runner, sock, ssl_context=self._tls).start()

    async def stop(self) -> None:
        """Finish the requests under way and close. May be called twice."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()
        if self._settings.unix_socket:
            Path(self._settings.unix_socket).unlink(missing_ok=True)  # noqa: ASYNC240 -- one system call

    @property
    def sockets(self) -> list[socket.socket]:
        """What it listens on."""
        return list(self._sockets)

    @property
    def url(self) -> str:
        """The address to open, or the path of the Unix socket."""
        if self._settings.unix_socket:
            return f"unix socket {self._settings.unix_socket}"
        host = self._settings.listen_address or "127.0.0.1"
        host = f"[{host}]" if ":" in host else host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{self._settings.prefix}/"


def _tcp_socket(family: int, kind: int, protocol: int, where: Any) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
        sock.listen(256)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _unix_socket(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)  # its owner and group only
    try:
        if path.is_socket():
            path.unlink()
        sock.bind(str(path))
        sock.listen(256)
        sock.setblocking(False)
    except OSError as exc:
        sock.close()
        raise StartRefused(f"The Unix socket {path} cannot be used ({exc.strerror}). Correct --unix-socket.") from exc
    finally:
        os.umask(before)
    return sock


def _tls_context(settings: Settings) -> ssl.SSLContext | None:
    if not settings.certfile or not settings.keyfile:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(Path(settings.certfile).expanduser(), Path(settings.keyfile).expanduser())
        if settings.ca_certs:
            context.load_verify_locations(Path(settings.ca_certs).expanduser())
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as exc:
        raise SettingsError(
            f"The TLS files cannot be used ({exc}). Correct --certfile, --keyfile or --ca-certs."
        ) from exc
    return context
