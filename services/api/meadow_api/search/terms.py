"""What one word of a search says: `name:proj.*`, `kwargs.id:42`, `runtime:>5`, `received:>-1h`, or a text."""

from typing import get_args

from meadow_api.errors import SearchError
from meadow_api.search.moments import Moment, duration, moment
from meadow_api.search.tree import (
    COUNTS,
    DURATIONS,
    FLOWER_SEARCHED,
    IDENTIFIERS,
    LONG_TEXTS,
    MARKS,
    SEARCHED,
    TIMES,
    Known,
    Marked,
    Measure,
    Node,
    Pair,
    Range,
    Text,
)
from meadow_api.search.words import MOST_STARS, Word

FLOWER_FIELDS = ("name", "worker", "args", "kwargs", "result", "state", "uuid")
"""Those of Flower, and `uuid`, which Flower would look for as a text and never find."""
FIELDS = (*IDENTIFIERS, *LONG_TEXTS, *DURATIONS, *COUNTS, *TIMES, "is")
SHORTEST_TEXT = 3
MOST_RETRIES = 10**9
RELATIVES = ("root", "parent")
"""Ids that nobody writes half of."""
OPERATORS = (">=", "<=", ">", "<", "=")

_EXAMPLES = {
    "retries": "retries:2, retries:>0 or retries:1..3",
    **dict.fromkeys(DURATIONS, "runtime:>5, runtime:<200ms or wait:1m..5m"),
    **dict.fromkeys(TIMES, "received:>-1h, received:2026-11-20 or received:2026-11-20..2026-11-22 (UTC)"),
}


def flower_term(word: Word) -> Node:
    """The word as Flower reads it; raises `SearchError`."""
    if word.raw.startswith("-"):
        raise SearchError("Negation with '-' is not supported", word.position)
    field, start = _field(word)
    if field not in FLOWER_FIELDS:
        if not word.text:
            raise SearchError("Empty search term", word.position)
        return _flower_text(FLOWER_SEARCHED, word, 0)
    if start == len(word.text):
        raise SearchError("Search qualifier requires a value", word.position)
    if field == "state":
        return Text(("state",), (word.text[start:].upper(),), whole=True)
    if field == "kwargs" and (value := _pair(word, start)) is not None:
        return Pair(word.text[start : value - 1], (word.text[value:],))
    return _flower_text((field,), word, start)


def term(word: Word) -> Node:
    """The word as Meadow reads it; raises `SearchError`."""
    field, start = _field(word)
    if field.startswith("kwargs."):
        return Pair(_key(word, len("kwargs."), start - 1), _parts(word, start))
    if field not in FIELDS:
        return Text(SEARCHED, _anywhere(_parts(word, 0)))
    if word.text[start:] == "*" and start in word.stars and field != "is":
        return Known(field)
    if field in LONG_TEXTS or field in IDENTIFIERS:
        return _text(field, word, start)
    if start == len(word.text):
        raise _needs_value(word)
    if field == "is":
        return _mark(word, start)
    return _range(field, word, start)


def _field(word: Word) -> tuple[str, int]:
    """What stands before the first colon that is not quoted, and where the rest begins."""
    name, colon, _ = word.text.partition(":")
    if not colon or len(name) >= word.plain:
        return "", 0
    lowered = name.lower()
    return ("kwargs." + name[7:] if lowered.startswith("kwargs.") else lowered), len(name) + 1


def _pair(word: Word, start: int) -> int | None:
    """Where the value of `kwargs:key=value` begins."""
    equals = word.text.find("=", start)
    if not start <= equals < word.plain:
        return None
    _key(word, start, equals)
    return equals + 1


def _key(word: Word, start: int, end: int) -> str:
    if start == end:
        raise _needs_value(word)
    return word.text[start:end]


def _flower_text(fields: tuple[str, ...], word: Word, start: int) -> Node:
    if len(word.text) - start < SHORTEST_TEXT:
        raise SearchError(f"Substring search terms must contain at least {SHORTEST_TEXT} characters", word.position)
    return Text(fields, (word.text[start:],))


def _text(field: str, word: Word, start: int) -> Node:
    if field == "kwargs" and (value := _pair(word, start)) is not None:
        return Pair(word.text[start : value - 1], _parts(word, value, empty=True))
    exact = word.text[start : start + 1] == "=" and start < word.plain and field in IDENTIFIERS
    parts = _parts(word, start + exact)
    if field == "state":
        return Text((field,), tuple(part.upper() for part in parts), whole=True)
    if field in IDENTIFIERS and (exact or len(parts) > 1 or field in RELATIVES):
        return Text((field,), parts, whole=True)
    return Text((field,), _anywhere(parts))


def _parts(word: Word, start: int, *, empty: bool = False) -> tuple[str, ...]:
    """The pattern that begins at `start`, with no two stars beside each other."""
    first, *others = word.parts(start)
    if len(others) > MOST_STARS:
        raise SearchError(f"More than {MOST_STARS} * in one word", word.position, "Search for fewer parts at a time.")
    parts = [first]
    for at, part in enumerate(others, 1):
        if part or at == len(others):
            parts.append(part)
    if not any(parts) and not (empty and len(parts) == 1):
        if not word.text:
            raise SearchError("Empty search term", word.position, "Write something between the quotes.")
        if len(parts) > 1:
            raise SearchError("A * alone matches everything", word.position, 'Add some text, or quote it: "*".')
        raise _needs_value(word)
    return tuple(parts)


def _anywhere(parts: tuple[str, ...]) -> tuple[str, ...]:
    """Stars at the ends say nothing where a part of a text is sought."""
    return tuple(part for part in parts if part)


def _mark(word: Word, start: int) -> Node:
    mark = word.text[start:].lower()
    if mark not in MARKS:
        raise SearchError("Unknown mark", word.position + start, f"There are is:{' and is:'.join(MARKS)}.")
    return Marked(mark)


def _range(field: str, word: Word, start: int) -> Node:
    text = word.text[start:]
    first, dots, last = text.partition("..")
    if dots:
        low = _measure(field, word, start, first) if first else None
        high = _measure(field, word, start + len(first) + 2, last) if last else None
        if low is not None and high is not None:
            return Range(field, "..", low, high)
        if low is not None:
            return Range(field, ">=", low)
        if high is not None:
            return Range(field, "<=", high)
    operator = next((sign for sign in OPERATORS if text.startswith(sign)), "")
    value = _measure(field, word, start + len(operator), text[len(operator) :])
    if not operator and getattr(value, "seconds", None) is not None and isinstance(value, get_args(Moment)):
        hint = f"Say {field}:>{text} (since then) or {field}:<{text} (before)."
        raise SearchError("A time like this is a single instant", word.position + start, hint)
    return Range(field, operator or "=", value)


def _measure(field: str, word: Word, at: int, text: str) -> Measure:
    """The number, duration or time that stands at `at`."""
    value: Measure | None
    if field in COUNTS:
        value = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None
    else:
        value = moment(text) if field in TIMES else duration(text)
    if value is None:
        kind = "time" if field in TIMES else "number" if field in COUNTS else "duration"
        raise SearchError(f"Not a {kind}", word.position + at, f"Examples: {_EXAMPLES[field]}.")
    return value


def _needs_value(word: Word) -> SearchError:
    return SearchError("Search qualifier requires a value", word.position, "Write it without a blank: name:value.")
