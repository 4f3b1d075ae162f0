"""An endpoint: where it is, what it takes, what it answers. The OpenAPI document is made from the same values."""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web
from msgspec import Struct
from sqlalchemy import Connection

from meadow.bus import Bus
from meadow.codec import encode
from meadow.problems import Problem
from meadow.settings import Settings
from meadow_api.errors import InvalidQuestion, QueryTooSlow, SearchError, StoreError
from meadow_api.shapes import Presenter
from meadow_api.store.database import Database
from meadow_api.store.raw import Statement
from meadow_api.v1 import replies
from meadow_api.v1.parameters import Refused, read_parameters
from meadow_api.v1.replies import Answer
from meadow_api.v1.sharing import Sharing

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

    def mark(self, connection: Connection) -> bytes:
        """What the store holds, in few bytes: they differ when an answer may."""
        return encode([int(self.clock() / SLICE), _STORED.all(connection, ())])


_STORED = Statement(
    "SELECT 'stream', stream, identity, sequence FROM positions "
    "UNION ALL SELECT 'cluster', name, '', tasks FROM clusters ORDER BY 1, 2"
)


@dataclass(frozen=True)
class Example:
    """A call and, in a sentence, what for. `query` is the part behind the `?`."""

    sentence: str
    query: str = ""


@dataclass(frozen=True)
class Endpoint:
    """One of three gives the answer: `find` reads it from the store in a thread, `load` gets it otherwise, and `serve`
    writes a reply of its own of the types `kinds`.

    What `find` gives depends on the store alone, so that its position can stand for it. `missing`: 404 is possible.
    """

    path: str
    name: str
    summary: str
    parameters: type[Struct] = NoParameters
    answer: Any = None
    find: Callable[[Connection, Any], Any] | None = None
    load: Callable[[Any], Awaitable[Any]] | None = None
    serve: Callable[[web.Request, Any], Awaitable[web.StreamResponse]] | None = None
    kinds: tuple[str, ...] = ("application/json",)
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
    sharing = Sharing(reading.database)
    for endpoint in endpoints:
        found.append(web.get(endpoint.pattern, handler(endpoint, reading, sharing)))
        found.append(web.route("*", endpoint.pattern, _not_allowed))
    found.append(web.route("*", BASE, _unknown))
    found.append(web.route("*", BASE + "/{rest:.*}", _unknown))
    return found


def handler(
    endpoint: Endpoint, reading: Reading, sharing: Sharing
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Reads parameters, answers, and tells what is wrong in one shape."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            parameters = read_parameters(request, endpoint.parameters)
            if endpoint.serve is not None:
                return await endpoint.serve(request, parameters)
            if endpoint.find is not None:
                return await _find(endpoint.find, endpoint, sharing, reading, request, parameters)
            return await _load(endpoint, request, parameters)
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


async def _load(endpoint: Endpoint, request: web.Request, parameters: Struct) -> web.StreamResponse:
    if endpoint.load is None:
        raise AssertionError(f"{endpoint.name} neither finds nor loads nor serves")
    return await replies.json(request, await endpoint.load(parameters))


async def _find(
    find: Callable[[Connection, Any], Any],
    endpoint: Endpoint,
    sharing: Sharing,
    reading: Reading,
    request: web.Request,
    parameters: Struct,
) -> web.StreamResponse:
    """Everything that takes time happens in one visit to a reading thread."""
    asked = (endpoint.name.encode(), encode(parameters), request.path.encode("utf-8", "replace"))
    packing = replies.takes_gzip(request)

    def work(connection: Connection) -> Answer:
        etag = replies.etag_of(reading.mark(connection), *asked)
        if replies.matches(request, etag):
            return Answer(etag)
        kept = sharing.kept((packing, etag))
        if kept is not None:
            return kept
        found = find(connection, parameters)
        body = encode(found)
        if getattr(found, "partial", False):  # asked again, it may be whole
            return replies.answer_of(request, body, replies.etag_of(body))
        answer = replies.answer_of(request, body, etag)
        sharing.keep((packing, etag), answer)
        return answer

    return replies.reply(await sharing.answer((*asked, packing, request.headers.get("If-None-Match")), work))


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
