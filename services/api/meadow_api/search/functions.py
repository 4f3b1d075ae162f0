"""Functions that SQL lacks, registered with each connection: matching without case in any script, and kwargs."""

import ast
import re
import sqlite3
from functools import lru_cache

LONGEST_KWARGS = 16 * 1024
NESTED_SIGNS = re.compile(r"(?:[-+~]\s*){16}|(?:\bnot\s+){16}")


def register(connection: sqlite3.Connection) -> None:
    """Make the functions known to the connection."""
    connection.create_function("folded_contains", -1, folded_contains, deterministic=True)
    connection.create_function("kwargs_has", 3, kwargs_has, deterministic=True)


def folded_contains(needle: str, *texts: str | None) -> bool:
    """Whether one of the texts contains `needle` (already folded), case ignored as Unicode says."""
    if needle.isascii():
        return any(text is not None and needle in text.casefold() for text in texts)
    # What is ASCII stays so when it is folded, and most of what workers send is.
    return any(text is not None and not text.isascii() and needle in text.casefold() for text in texts)


def kwargs_has(kwargs: str | None, key: str, value: str) -> bool:
    """Whether `kwargs`, the repr of a dict, has the pair. Key and value are folded texts.

    The repr is read as a literal and never evaluated; one that is cut, too long or no literal has no pairs.
    """
    if not kwargs:
        return False
    return any(str(known).casefold() == key and _text(given) == value for known, given in _pairs(kwargs))


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
