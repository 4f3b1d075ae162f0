"""An endpoint: where it is, what it takes, what it answers. The OpenAPI document is made from the same values."""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web
from msgspec import Struct
from sqlalchemy import Connection, select

from meadow.bus import Bus
from meadow.codec import encode
from meadow.problems import Problem
from meadow.settings import Settings
from meadow_api.errors import InvalidQuestion, QueryTooSlow, SearchError, StoreError
from meadow_api.shapes import Presenter
from meadow_api.store import schema
from meadow_api.store.database import Database
from meadow_api.v1 import replies
from meadow_api.v1.parameters import Refused, read_parameters

log = logging.getLogger(__name__)

T = TypeVar("T")

BASE = "/api/v1"
HELP = "docs/search.md describes the language."
SLICE = 10.0
"""Seconds after which an answer is made again though no event has come: retention and marks move no stream."""


class NoParameters(Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing can be given."""


@dataclass(frozen=True)
class Reading:
    """What every resource reads from."""

    database: Database
    bus: Bus
    settings: Settings
    present: Presenter
    clock: Callable[[], float] = time.time

    @property
    def cluster(self) -> str:
        """The cluster that is shown."""
        return self.settings.cluster

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on a snapshot of the store, in a thread."""
        return await self.database.read(work)

    async def mark(self) -> bytes:
        """What the store holds, in few bytes: they differ when an answer may."""

        def work(connection: Connection) -> bytes:
            positions = connection.execute(select(schema.positions).order_by(schema.positions.c.stream)).all()
            stored = connection.execute(select(schema.clusters.c.tasks).order_by(schema.clusters.c.id)).scalars().all()
            return encode([[list(row) for row in positions], stored])

        return encode(int(self.clock() / SLICE)) + await self.read(work)


@dataclass(frozen=True)
class Example:
    """A call and, in a sentence, what for. `query` is the part behind the `?`."""

    sentence: str
    query: str = ""


@dataclass(frozen=True)
class Endpoint:
    """`load` gives the answer, which goes out as JSON; or `serve` writes a reply of its own of the types `kinds`.

    `steady`: the answer depends on the store alone, so that its position can stand for it. `missing`: 404 is possible.
    """

    path: str
    name: str
    summary: str
    parameters: type[Struct] = NoParameters
    answer: Any = None
    load: Callable[[Any], Awaitable[Any]] | None = None
    serve: Callable[[web.Request, Any], Awaitable[web.StreamResponse]] | None = None
    kinds: tuple[str, ...] = ("application/json",)
    steady: bool = False
    missing: bool = False
    also: dict[int, str] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()

    @property
    def pattern(self) -> str:
        """The path for the router: what comes last may hold slashes."""
        return BASE + self.path.replace("{uuid}", "{uuid:.+}").replace("{hostname}", "{hostname:.+}")


def routes(endpoints: Sequence[Endpoint], reading: Reading) -> list[web.RouteDef]:
    """The routes, and JSON for what is not among them."""
    found: list[web.RouteDef] = []
    for endpoint in endpoints:
        found.append(web.get(endpoint.pattern, handler(endpoint, reading)))
        found.append(web.route("*", endpoint.pattern, _not_allowed))
    found.append(web.route("*", BASE, _unknown))
    found.append(web.route("*", BASE + "/{rest:.*}", _unknown))
    return found


def handler(endpoint: Endpoint, reading: Reading) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Reads parameters, answers, and tells what is wrong in one shape."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            parameters = read_parameters(request, endpoint.parameters)
            if endpoint.serve is not None:
                return await endpoint.serve(request, parameters)
            return await _load(endpoint, reading, request, parameters)
        except Refused as exc:
            return replies.problem(exc.status, exc.problem)
        except SearchError as exc:
            return replies.problem(422, search_problem(str(exc), exc.position, exc.hint))
        except InvalidQuestion as exc:
            return replies.problem(422, Problem(error="invalid-question", message=str(exc)))
        except QueryTooSlow as exc:
            return replies.problem(503, Problem(error="too-slow", message=str(exc), hint="Ask for less at a time."))
        except StoreError as exc:
            log.warning("%s was not answered: %s", request.path, exc, extra={"action": "api.store"})
            return replies.problem(503, Problem(error="store", message=str(exc), hint="Try again in a moment."))

    return handle


def search_problem(message: str, position: int | None, hint: str) -> Problem:
    """What is wrong with a search text, and where."""
    return Problem(error="invalid-search", message=message, hint=hint or HELP, position=position)


async def _load(endpoint: Endpoint, reading: Reading, request: web.Request, parameters: Struct) -> web.StreamResponse:
    if endpoint.load is None:
        raise AssertionError(f"{endpoint.name} neither loads nor serves")
    etag = None
    if endpoint.steady:
        asked = [endpoint.name.encode(), encode(parameters), request.path.encode("utf-8", "replace")]
        etag = replies.etag_of(await reading.mark(), *asked)
        if replies.matches(request, etag):
            return replies.unchanged(etag)
    answer = await endpoint.load(parameters)
    if getattr(answer, "partial", False):  # asked again, it may be whole
        etag = None
    return await replies.json(request, answer, etag=etag)


async def _not_allowed(request: web.Request) -> web.StreamResponse:
    problem = Problem(
        error="method-not-allowed", message=f"{request.method[:20]} is not possible here.", hint="Use GET."
    )
    raise web.HTTPMethodNotAllowed(
        request.method, ("GET", "HEAD"), text=encode(problem).decode(), content_type="application/json"
    )


async def _unknown(request: web.Request) -> web.StreamResponse:
    problem = Problem(
        error="not-found",
        message=f"There is no {request.path[:200]!r}.",
        hint="GET /api/openapi.json lists all there is; /api/docs is the same for people.",
    )
    return replies.problem(404, problem)
