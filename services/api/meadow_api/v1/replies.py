"""How version 1 answers: JSON with a validator, small over the wire, and problems in one shape."""

import asyncio
import gzip
import hashlib
import re
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Answer:
    """What goes out: bytes, perhaps packed, and their validator; no bytes where the client has them."""

    etag: str
    body: bytes | None = None
    packed: bool = False


async def json(request: web.Request, value: Any, *, status: int = 200, kind: str = JSON_TYPE) -> web.Response:
    """The value, or 304 when the client has it: the bytes themselves make the validator."""
    body = value if isinstance(value, bytes) else encode(value)
    if status != 200:
        headers = {"Content-Type": kind, "Cache-Control": UNKEPT, "Vary": "Accept-Encoding"}
        return web.Response(status=status, body=body, headers=headers)
    if len(body) < LARGE:
        return reply(answer_of(request, body, etag_of(body)), kind)
    return reply(await asyncio.to_thread(answer_of, request, body, etag_of(body)), kind)


def answer_of(request: web.Request, body: bytes, etag: str) -> Answer:
    """The bytes as the client wants them. To be called in a thread where they are many."""
    if matches(request, etag):
        return Answer(etag)
    if len(body) >= WORTH_PACKING and takes_gzip(request):
        return Answer(etag, gzip.compress(body, PACKING, mtime=0), packed=True)
    return Answer(etag, body)


def reply(answer: Answer, kind: str = JSON_TYPE) -> web.Response:
    """The answer over HTTP; 304 when the client has it."""
    headers = {"ETag": answer.etag, "Cache-Control": FRESH, "Vary": "Accept-Encoding"}
    if answer.body is None:
        return web.Response(status=304, headers=headers)
    headers["Content-Type"] = kind
    if answer.packed:
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=answer.body, headers=headers)


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
