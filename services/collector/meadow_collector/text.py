"""Values from strangers made fit to be stored: valid Unicode, numbers that JSON readers agree on, bounded sizes."""

import math
import re
from collections.abc import Mapping
from typing import Any

MAX_EXACT_INT = 2**53
MAX_DEPTH = 8
MAX_NODES = 2000
MARK_BYTES = 48
CUT_KEY = "…"
CUT_VALUE = "[cut by Meadow]"

_UNFIT = re.compile("[\x00\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


def clean(text: str) -> str:
    """The text without what UTF-8 (lone surrogates) or databases (NUL) cannot hold.

    >>> clean("a\\x00b")
    'a\ufffdb'
    """
    if text.isascii():
        return text.replace("\x00", _REPLACEMENT) if "\x00" in text else text
    return _UNFIT.sub(_REPLACEMENT, text)


def size_of(text: str) -> int:
    """The bytes that the text takes in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def cut(text: str, limit: int, *, of: int | None = None) -> str:
    """The clean text in at most `limit` bytes; what is missing of all its bytes (`of`) stands at the end.

    >>> cut("x" * 100, 60)
    'xxxxxxxxxxxx…[cut by Meadow: 88 bytes]'
    """
    total = size_of(text) if of is None else of
    if total <= limit:
        return text
    kept = text.encode("utf-8")[: max(limit - MARK_BYTES, 0)].decode("utf-8", "ignore")
    return f"{kept}…[cut by Meadow: {total - size_of(kept)} bytes]"


def bounded(value: Any, limit: int) -> Any:
    """A copy of plain data in about `limit` bytes, at most 8 levels deep, that JSON can carry.

    Numbers that JSON readers do not agree on become `None`; what is left out is marked.
    """
    return _Copy(limit).of(value, 0)


class _Copy:
    """Copies plain data until the budget is spent. Shared parts count each time they are met."""

    def __init__(self, limit: int) -> None:
        self._bytes = limit
        self._nodes = MAX_NODES

    def of(self, value: Any, depth: int) -> Any:
        self._nodes -= 1
        self._bytes -= 8
        if value is None or value is True or value is False:
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, int):
            return int(value) if -MAX_EXACT_INT <= value <= MAX_EXACT_INT else None
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else None
        if isinstance(value, (dict, list, tuple, set, frozenset)):
            if depth >= MAX_DEPTH:
                return CUT_VALUE
            return self._mapping(value, depth) if isinstance(value, dict) else self._sequence(value, depth)
        return self._text(value.decode("utf-8", "replace") if isinstance(value, bytes) else f"<{type(value).__name__}>")

    @property
    def _spent(self) -> bool:
        return self._bytes <= 0 or self._nodes <= 0

    def _text(self, text: str) -> str:
        room = max(self._bytes, 0) + MARK_BYTES
        kept = cut(clean(text[:room]), room, of=size_of(text))
        self._bytes -= size_of(kept)
        return kept

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        copy: dict[str, Any] = {}
        for key, member in value.items():
            if self._spent:
                copy[CUT_KEY] = CUT_VALUE
                break
            name = key if isinstance(key, str) else repr(self.of(key, MAX_DEPTH))
            copy[self._text(name)] = self.of(member, depth + 1)
        return copy

    def _sequence(self, value: Any, depth: int) -> list[Any]:
        copy = []
        for member in value:
            if self._spent:
                copy.append(CUT_VALUE)
                break
            copy.append(self.of(member, depth + 1))
        return copy
