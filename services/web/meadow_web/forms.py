"""Reads posted forms. Whatever a client got wrong is the client's fault, and says so."""

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from meadow_web.pages.page import BadArgument

UNREADABLE = "The form cannot be read. Send it as application/x-www-form-urlencoded in UTF-8."


async def posted(request: web.Request) -> dict[str, str]:
    """The text fields of the posted form; raises `BadArgument` when its encoding makes no sense."""
    try:
        fields = await request.post()
    except (LookupError, ValueError, AssertionError, HttpProcessingError) as exc:
        raise BadArgument(UNREADABLE) from exc
    return {key: value for key, value in fields.items() if isinstance(value, str)}
