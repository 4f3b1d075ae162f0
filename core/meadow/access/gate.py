"""The one gate that every HTTP request passes: who is it, does it come from where it says, may it change anything.

The controller checks commands once more; this gate keeps requests out before any handler runs.
"""

import ipaddress
import time
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

from aiohttp import web

from meadow.access.actors import ANONYMOUS, ANONYMOUS_READER, Actor
from meadow.access.claims import Signer
from meadow.access.sign_in import SignIn
from meadow.errors import StartRefused
from meadow.settings import Settings

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ACTOR: web.RequestKey[Actor] = web.RequestKey("actor", Actor)

OPEN_PATHS = ("/healthcheck", "/metrics", "/login", "/logout")
READING_POSTS = ("/tasks/datatable",)
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

READ_ONLY = "Read only mode is enabled"
API_CLOSED = "FLOWER_UNAUTHENTICATED_API environment variable is required to enable API without authentication"


class Gate:
    """Decides over requests. `loopback` says that only this machine can connect."""

    def __init__(self, settings: Settings, sign_ins: Sequence[SignIn], signer: Signer, *, loopback: bool) -> None:
        self._settings = settings
        self._sign_ins = tuple(sign_ins)
        self._signer = signer
        self._loopback = loopback
        self._hosts = {"localhost", "127.0.0.1", "::1", *(host.lower() for host in settings.allowed_hosts)}
        if settings.address:
            self._hosts.add(settings.address.lower())

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let the request through with its actor, or answer in the handler's place."""
        path = self._path(request)
        refusal = self._check_host(request)
        if refusal is not None:
            return refusal
        if request.method == "OPTIONS" or path in OPEN_PATHS or path.startswith(("/static/", "/login/")):
            return await handler(request)
        actor = await self._authenticate(request)
        if actor is None:
            return self._unauthorized(request, path)
        refusal = self._check_use(request, path, actor)
        if refusal is not None:
            return refusal
        request[ACTOR] = actor
        return await handler(request)

    def claim(self, request: web.Request) -> str:
        """A signed claim of who sends this request, for the controller."""
        return self._signer.sign(self.actor(request), now=time.time())

    def verify(self, claim: str) -> Actor:
        """The actor behind a claim; raises `Refused`."""
        return self._signer.verify(claim, now=time.time())

    def actor(self, request: web.Request) -> Actor:
        """Who sends this request, once it has passed."""
        return request[ACTOR]

    def source(self, request: web.Request) -> str:
        """The address of whoever sends this request; a proxy's headers count with --xheaders only."""
        if self._settings.xheaders:
            forwarded = request.headers.get("X-Real-IP") or request.headers.get("X-Forwarded-For", "").split(",")[0]
            if forwarded.strip():
                return forwarded.strip()[:64]
        return request.remote or "unix socket"

    def commands_closed(self, actor: Actor) -> str | None:
        """Why this actor may not change anything, or `None`."""
        if self._settings.read_only:
            return READ_ONLY
        if not actor.may_command:
            return "Nobody has signed in, so nothing can be changed here."
        return None

    def _path(self, request: web.Request) -> str:
        return request.path.removeprefix(self._settings.prefix) if self._settings.prefix else request.path

    async def _authenticate(self, request: web.Request) -> Actor | None:
        if not self._sign_ins:
            return ANONYMOUS if self._loopback or self._settings.unauthenticated_api else ANONYMOUS_READER
        for sign_in in self._sign_ins:
            actor = await sign_in.authenticate(request)
            if actor is not None:
                return actor
        return None

    def _unauthorized(self, request: web.Request, path: str) -> web.Response:
        if path.startswith("/api/"):  # as Flower: no challenge, so that scripts fail instead of asking
            return web.Response(status=401, content_type="text/html", charset="UTF-8")
        return self._sign_ins[0].challenge(request)

    def _check_use(self, request: web.Request, path: str, actor: Actor) -> web.Response | None:
        if path.startswith("/api/") and not actor.may_command and actor.kind == "anonymous":
            return _plain(401, API_CLOSED)
        if request.method in SAFE_METHODS:
            return self._check_socket(request)
        refusal = self._check_origin(request)
        if refusal is not None or path in READING_POSTS:
            return refusal
        closed = self.commands_closed(actor)
        return _plain(403, closed) if closed else None

    def _check_socket(self, request: web.Request) -> web.Response | None:
        upgrade = request.headers.get("Upgrade", "").lower()
        return self._check_origin(request) if upgrade == "websocket" else None

    def _check_origin(self, request: web.Request) -> web.Response | None:
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None and site != "same-origin":
            return _plain(403, "Cross-site request forbidden")
        origin = request.headers.get("Origin")
        if site is None and origin is not None and _network_location(origin) != request.host.lower():
            return _plain(403, "Cross-origin request forbidden")
        return None

    def _check_host(self, request: web.Request) -> web.Response | None:
        """Names that point to this machine without its knowledge (DNS rebinding) would open what loopback protects."""
        if self._settings.unix_socket:
            return None
        if self._sign_ins and not self._settings.allowed_hosts:
            return None
        if not self._loopback and not self._settings.allowed_hosts:
            return None
        host = _host_name(request.host)
        if host in self._hosts or is_loopback(host):
            return None
        return _plain(
            403,
            f"This Meadow does not expect to be called {host[:100]!r}. "
            "If that name is right, start it with --allowed-hosts naming it.",
        )


def check_exposure(settings: Settings) -> bool:
    """Whether only this machine can connect; raises `StartRefused` when everybody could, unasked."""
    loopback = bool(settings.unix_socket) or is_loopback(settings.listen_address or "0.0.0.0")  # noqa: S104
    if not loopback and not settings.signs_in and not settings.allow_anonymous and not settings.unauthenticated_api:
        raise StartRefused(
            f"Meadow does not listen on {settings.listen_address} without authentication, since everybody there could "
            "control your workers. Add --basic-auth=user:password, leave --address out (then only this machine can "
            "connect), or add --allow-anonymous to let everybody read."
        )
    return loopback


def is_loopback(host: str) -> bool:
    """Whether this name or address is this machine's own."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _network_location(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # such as "http://["
        return None


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()


def _plain(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text, content_type="text/plain", charset="UTF-8")
