"""HTTP replies in Flower's form, and the reading of query arguments as Flower does it."""

import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from aiohttp import web

from meadow.codec import encode
from meadow.setting_values import parse_bool

T = TypeVar("T")

JSON_TYPE = "application/json; charset=UTF-8"
TIME_FORMAT = "%Y-%m-%d %H:%M"


def text(status: int, message: str) -> web.Response:
    """A sentence as plain text."""
    return web.Response(status=status, text=message, content_type="text/plain", charset="UTF-8")


def empty(status: int) -> web.Response:
    """No body, which Flower calls HTML."""
    return web.Response(status=status, content_type="text/html", charset="UTF-8")


def json(request: web.Request, value: Any, status: int = 200) -> web.Response:
    """A value as JSON."""
    return json_bytes(request, encode(value), status)


def json_bytes(request: web.Request, body: bytes, status: int = 200) -> web.Response:
    """JSON that is already encoded; 304 without it when the client has the same."""
    etag = f'"{hashlib.sha1(body, usedforsecurity=False).hexdigest()}"'
    if status == 200 and _matches(request.headers.get("If-None-Match", ""), etag):
        return web.Response(status=304, headers={"Etag": etag})
    return web.Response(status=status, body=body, headers={"Content-Type": JSON_TYPE, "Etag": etag})


def argument(request: web.Request, name: str) -> str | None:
    """The argument's last value without blanks around it."""
    values = request.query.getall(name, [])
    if not values:
        return None
    return values[-1].strip().encode("utf-8", "replace").decode("utf-8")


def bool_argument(request: web.Request, name: str) -> bool:
    """A truth word, false when missing; raises a 400."""
    return _converted(request, name, "bool", parse_bool) or False


def int_argument(request: web.Request, name: str) -> int | None:
    """A whole number; raises a 400."""
    return _converted(request, name, "int", int)


def time_argument(request: web.Request, name: str) -> float | None:
    """A minute in the server's time zone, as Flower reads it, in epoch seconds; raises ValueError."""
    value = argument(request, name)
    if not value:
        return None
    try:
        return datetime.strptime(value, TIME_FORMAT).astimezone().timestamp()
    except (OverflowError, OSError) as exc:
        raise ValueError(value) from exc


def _converted(request: web.Request, name: str, kind: str, convert: Callable[[str], T]) -> T | None:
    value = argument(request, name)
    if value is None:
        return None
    try:
        return convert(value)
    except ValueError as exc:
        raise bad_request(f"Invalid argument {value!r} of type {kind!r}") from exc


def bad_request(message: str) -> web.HTTPBadRequest:
    """A 400 with a sentence, to be raised."""
    return web.HTTPBadRequest(text=message, content_type="text/plain")


def _matches(given: str, etag: str) -> bool:
    candidates = [part.strip().removeprefix("W/") for part in given.split(",")]
    return etag in candidates or "*" in candidates
