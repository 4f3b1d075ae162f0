"""What a search field offers while somebody writes: `/tasks/suggest?q=…&position=…`, for scripts of the pages."""

from aiohttp import web

from meadow.codec import encode
from meadow.queries import Suggestions, SuggestQuery
from meadow_web.ask import Ask
from meadow_web.frame import SECURITY

LONGEST = 2048


async def suggestions(ask: Ask, request: web.Request) -> web.Response:
    """The api's suggestions as JSON; raises `NoAnswer`."""
    search = request.query.get("q", "")[:LONGEST]
    query = SuggestQuery(cluster=ask.cluster, search=search, position=_position(request, search))
    found = await ask.api(query, Suggestions)
    return web.Response(body=encode(found), content_type="application/json", headers=SECURITY)


def _position(request: web.Request, search: str) -> int:
    """Where the cursor is; at the end unless it is told."""
    told = request.query.get("position", "")
    return min(int(told), len(search)) if told.isascii() and told.isdecimal() and len(told) < 5 else len(search)
