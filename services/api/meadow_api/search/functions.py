"""Functions that SQL lacks, registered with each connection of SQLite: case in any script, keyword arguments, times.

They are called for texts that came from tasks: each gives an answer for whatever it is given, and evaluates nothing.
"""

import ast
import json
import re
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

LONGEST_KWARGS = 16 * 1024
LONGEST_TIME = 64
NESTED_SIGNS = re.compile(r"(?:[-+~]\s*){16}|(?:\bnot\s+){16}")


def register(connection: sqlite3.Connection) -> None:
    """Make the functions known to the connection."""
    connection.create_function("folded_in_order", -1, folded_in_order, deterministic=True)
    connection.create_function("kwargs_has", -1, kwargs_has, deterministic=True)
    connection.create_function("epoch_of", 1, epoch_of, deterministic=True)


def in_order(text: str, parts: Sequence[str], whole: bool) -> bool:
    """Whether the parts follow each other in the text; `whole`: from its very beginning to its very end."""
    first, last = parts[0], parts[-1]
    if whole and len(parts) == 1:
        return text == first
    if whole and not (len(text) >= len(first) + len(last) and text.startswith(first) and text.endswith(last)):
        return False
    at, end = (len(first), len(text) - len(last)) if whole else (0, len(text))
    for part in parts[1:-1] if whole else parts:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def folded_in_order(pattern: str, whole: int, *texts: str | None) -> bool:
    """Whether one of the texts has the parts (a JSON array of folded texts) in it, case ignored as Unicode says."""
    parts = _parts(pattern)
    # What is ASCII stays so when it is folded, and most of what workers send is.
    foreign = not all(part.isascii() for part in parts)
    return any(
        in_order(text.casefold(), parts, bool(whole))
        for text in texts
        if text is not None and not (foreign and text.isascii())
    )


def kwargs_has(kwargs: str | None, key: str, *parts: str) -> bool:
    """Whether `kwargs`, the repr of a dict, has the key with a value that is made of the parts. All are folded texts.

    The repr is read as a literal and never evaluated; one that is cut, too long or no literal has no pairs.
    """
    if not kwargs:
        return False
    return any(str(known).casefold() == key and in_order(_text(given), parts, True) for known, given in _pairs(kwargs))


def keys_of(kwargs: str | None) -> list[str]:
    """The keys of the repr of a dict."""
    return [str(key) for key, _ in _pairs(kwargs)] if kwargs else []


def epoch_of(text: str | None) -> float | None:
    """A time in ISO 8601 as epoch seconds, UTC where it names no offset; `None` when it is no time."""
    if not text or len(text) > LONGEST_TIME:
        return None
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=64)
def _parts(pattern: str) -> tuple[str, ...]:
    return tuple(json.loads(pattern))


def _text(value: object) -> str:
    try:
        return str(value).casefold()
    except (ValueError, RecursionError):  # a number of more digits than Python likes to print
        return ""


@lru_cache(maxsize=256)
def _pairs(kwargs: str) -> tuple[tuple[object, object], ...]:
    if len(kwargs) > LONGEST_KWARGS or not kwargs.startswith("{") or NESTED_SIGNS.search(kwargs):
        return ()
    try:
        literal = ast.literal_eval(kwargs)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return ()
    return tuple(literal.items()) if isinstance(literal, dict) else ()
