"""How version 1 answers: JSON with a validator, small over the wire, and problems in one shape."""

import asyncio
import gzip
import hashlib
import re
from typing import Any

from aiohttp import web

from meadow.codec import encode
from meadow.problems import Problem

JSON_TYPE = "application/json; charset=utf-8"
WORTH_PACKING = 1024
LARGE = 64 * 1024
PACKING = 5
FRESH = "private, no-cache"
UNKEPT = "no-store"

_NO_GZIP = re.compile(r"\bgzip\s*;\s*q\s*=\s*0(\.0{0,3})?\s*(,|$)")


def problem(status: int, what: Problem) -> web.Response:
    """The problem as JSON."""
    headers = {"Content-Type": "application/json; charset=utf-8", "Cache-Control": UNKEPT}
    return web.Response(status=status, body=encode(what), headers=headers)


async def json(
    request: web.Request, value: Any, *, etag: str | None = None, status: int = 200, kind: str = JSON_TYPE
) -> web.Response:
    """The value, or 304 when the client has it. Without an `etag` the bytes themselves make one."""
    body = value if isinstance(value, bytes) else encode(value)
    headers = {"Content-Type": kind, "Cache-Control": FRESH, "Vary": "Accept-Encoding"}
    if status != 200:
        return web.Response(status=status, body=body, headers={**headers, "Cache-Control": UNKEPT})
    headers["ETag"] = etag or etag_of(body)
    if matches(request, headers["ETag"]):
        return unchanged(headers["ETag"])
    if len(body) >= WORTH_PACKING and takes_gzip(request):
        headers["Content-Encoding"] = "gzip"
        body = _packed(body) if len(body) < LARGE else await asyncio.to_thread(_packed, body)
    return web.Response(status=status, body=body, headers=headers)


def unchanged(etag: str) -> web.Response:
    """304: what the client has is still so."""
    return web.Response(status=304, headers={"ETag": etag, "Cache-Control": FRESH, "Vary": "Accept-Encoding"})


def etag_of(*parts: bytes) -> str:
    """A weak validator: the same parts, the same answer."""
    digest = hashlib.blake2b(digest_size=12)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return f'W/"{digest.hexdigest()}"'


def matches(request: web.Request, etag: str) -> bool:
    """Whether the client has this answer already (RFC 9110, weak comparison)."""
    given = [part.strip().removeprefix("W/") for part in request.headers.get("If-None-Match", "").split(",")]
    return "*" in given or etag.removeprefix("W/") in given


def takes_gzip(request: web.Request) -> bool:
    """Whether the client reads gzip."""
    given = request.headers.get("Accept-Encoding", "").lower()
    return "gzip" in given and _NO_GZIP.search(given) is None


def _packed(body: bytes) -> bytes:
    return gzip.compress(body, PACKING, mtime=0)
