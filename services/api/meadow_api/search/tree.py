"""What a search means, as a tree, and how a tree is written as text again.

`parse(show(node)) == node` holds for every node that `parse` gives.
"""

import re
from dataclasses import dataclass
from typing import TypeAlias

from meadow_api.search.moments import Duration, Moment

IDENTIFIERS = ("name", "worker", "queue", "state", "uuid", "root", "parent")
"""Short values: a pattern with a `*` describes the whole value."""
LONG_TEXTS = ("args", "kwargs", "result", "exception", "traceback")
"""Long values: a pattern with a `*` describes a part of the value."""
DURATIONS = ("runtime", "wait")
COUNTS = ("retries",)
TIMES = ("sent", "received", "started", "finished", "eta")
MARKS = ("lost", "retried")

FLOWER_SEARCHED = ("uuid", "name", "state", "worker", "args", "kwargs", "result")
"""Where Flower looks for a word without a field."""
SEARCHED = (*FLOWER_SEARCHED, "queue", "exception", "traceback")
"""Where Meadow does."""

_PLAIN = re.compile(r"[^\W-][\w.@/+-]*")

Measure: TypeAlias = Duration | Moment | int


@dataclass(frozen=True)
class Text:
    """The parts stand one after the other in one of `fields`, with anything between them, case ignored.

    `whole`: the first part begins the value and the last one ends it.
    """

    fields: tuple[str, ...]
    parts: tuple[str, ...]
    whole: bool = False


@dataclass(frozen=True)
class Pair:
    """The keyword arguments have this key at their top level; its value as a text is the parts, one after the other."""

    key: str
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Range:
    """A field compared: `operator` is one of = > >= < <= and .. (from `value` to `until`, both included)."""

    field: str
    operator: str
    value: Measure
    until: Measure | None = None


@dataclass(frozen=True)
class Known:
    """Something is known of the field."""

    field: str


@dataclass(frozen=True)
class Marked:
    """The task is marked so: one of `MARKS`."""

    mark: str


@dataclass(frozen=True)
class Not:
    """The part does not hold."""

    part: "Node"


@dataclass(frozen=True)
class All:
    """Every part holds."""

    parts: tuple["Node", ...]


@dataclass(frozen=True)
class Some:
    """At least one part holds."""

    parts: tuple["Node", ...]


Node: TypeAlias = Text | Pair | Range | Known | Marked | Not | All | Some


def show(node: Node) -> str:
    """The node in the search language."""
    match node:
        case All(parts):
            return " ".join(_inner(part, All, Some) for part in parts)
        case Some(parts):
            return " OR ".join(_inner(part, Some) for part in parts)
        case Not(part):
            return "-" + _inner(part, All, Some)
        case _:
            return _term(node)


def _inner(node: Node, *loose: type[Node]) -> str:
    return f"({show(node)})" if isinstance(node, loose) else show(node)


def _term(node: Node) -> str:
    match node:
        case Text((field,), (whole,), True):
            return f"{field}:{quoted(whole)}" if field == "state" else f"{field}:={quoted(whole)}"
        case Text((field,), parts):
            return f"{field}:{_pattern(parts)}"
        case Text(_, parts):
            return _pattern(parts)
        case Pair(key, parts):
            return f"kwargs.{key}:{_pattern(parts)}" if "=" in key else f"kwargs:{key}={_pattern(parts)}"
        case Range(field, "..", value, until):
            return f"{field}:{value}..{until}"
        case Range(field, operator, value):
            return f"{field}:{'' if operator == '=' else operator}{value}"
        case Known(field):
            return f"{field}:*"
        case Marked(mark):
            return f"is:{mark}"
    raise TypeError(f"{node!r} is no term")


def _pattern(parts: tuple[str, ...]) -> str:
    return "*".join(quoted(part) if part else "" for part in parts) or '""'


def quoted(text: str) -> str:
    """The text as it is, whatever is in it."""
    if _PLAIN.fullmatch(text) and text.upper() not in ("AND", "OR", "NOT"):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
