"""From a parsed search to a condition of SQL, for SQLite and for PostgreSQL.

Short values of which there are few (names, workers, states) are looked up first, and the condition names them.

For SQLite, which knows nothing about how rare a value is, a condition is written so that it makes no index look useful:
which one is, `store/task_search` decides. PostgreSQL decides for itself.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Column, ColumnElement, Float, and_, case, false, func, literal, literal_column, or_, true

from meadow_api.search.functions import in_order
from meadow_api.search.moments import Duration
from meadow_api.search.tree import (
    TIMES,
    All,
    Known,
    Marked,
    Measure,
    Node,
    Not,
    Pair,
    Range,
    Some,
    Text,
)
from meadow_api.store.schema import NO_NUMBER, NO_TEXT, NO_TIME, tasks

FINAL = ("SUCCESS", "FAILURE", "REVOKED", "REJECTED")
LOOKED_UP = ("name", "worker", "state")

_COLUMNS = {"root": tasks.c.root_id, "parent": tasks.c.parent_id}


@dataclass(frozen=True)
class Scope:
    """What a condition depends on besides the search: the time, the database, the values that there are.

    `values(field)` gives all values of one of `LOOKED_UP` that the cluster's tasks have.
    """

    now: float
    dialect: str
    values: Callable[[str], Sequence[str]]


def condition(node: Node, scope: Scope) -> ColumnElement[bool]:
    """The condition on the table of tasks that says the same as the search."""
    match node:
        case All(parts):
            return and_(*(condition(part, scope) for part in parts))
        case Some(parts):
            return or_(*(condition(part, scope) for part in parts))
        case Not(part):
            # What is not known does not contain anything, so NULL counts as no.
            return condition(part, scope).is_not(true())
        case Text():
            return _text(node, scope)
        case Pair(key, parts):
            return _pair(key, parts, scope)
        case Range():
            return _range(node, scope)
        case Known(field):
            return _known(field, scope)
        case Marked(mark):
            return _marked(mark)


def column(field: str) -> Column[str]:
    """The column of a field that holds a text."""
    return _COLUMNS[field] if field in _COLUMNS else tasks.c[field]


def matches(text: Text, value: str) -> bool:
    """Whether the value of a short field matches, case ignored."""
    folded, parts = value.casefold(), [part.casefold() for part in text.parts]
    return in_order(folded, parts, text.whole)


def _text(text: Text, scope: Scope) -> ColumnElement[bool]:
    if text.fields in (("root",), ("parent",)) and text.whole and len(text.parts) == 1:
        return _relative(text.fields[0], text.parts[0])
    if text.fields == ("uuid",) and text.whole and len(text.parts) == 1:
        return tasks.c.uuid == text.parts[0]
    found: list[ColumnElement[bool]] = []
    for field in text.fields:
        if field in LOOKED_UP:
            named = [value for value in scope.values(field) if matches(text, value)]
            if named:
                value = _unindexed(column(field), scope)
                found.append(value.in_(named) if len(named) > 1 else value == named[0])
    columns = [column(field) for field in text.fields if field not in LOOKED_UP]
    if columns:
        found.append(_contains(columns, text.parts, text.whole, scope.dialect))
    return or_(*found) if found else false()


def _unindexed(value: ColumnElement[str], scope: Scope) -> ColumnElement[str]:
    return value.op("||")("") if scope.dialect == "sqlite" else value


def _relative(field: str, uuid: str) -> ColumnElement[bool]:
    if field == "parent":
        return tasks.c.parent_id == uuid
    # The index of roots leaves out tasks that are their own root: those are found by their id.
    is_root = and_(tasks.c.uuid == uuid, or_(tasks.c.root_id == uuid, tasks.c.root_id.is_(None)))
    return or_(is_root, and_(tasks.c.root_id == uuid, tasks.c.root_id != tasks.c.uuid))


def _contains(columns: Sequence[Column[str]], parts: Sequence[str], whole: bool, dialect: str) -> ColumnElement[bool]:
    """One of the columns has the parts in it.

    SQLite's LIKE ignores the case of ASCII letters only, but is much faster than a function of ours.
    """
    if dialect == "sqlite" and not all(part.isascii() for part in parts):
        pattern = json.dumps([part.casefold() for part in parts])
        return func.folded_in_order(pattern, whole, *columns) == 1
    pattern = "%".join(escaped(part) for part in parts)
    pattern = pattern if whole else f"%{pattern}%"
    if dialect == "sqlite":
        return or_(*(column.like(pattern, escape="\\") for column in columns))
    return or_(*(column.ilike(pattern, escape="\\") for column in columns))


def escaped(text: str) -> str:
    """The text as it is within a pattern of LIKE."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


# -- keyword arguments --------------------------------------------------------------------------------------------


def _pair(key: str, parts: Sequence[str], scope: Scope) -> ColumnElement[bool]:
    # The cheap tests first: few rows are left to be read as literals.
    name, values = plain_part(key), [text for text in map(plain_part, parts) if text]
    if scope.dialect == "sqlite":
        likely = [_contains([tasks.c.kwargs], (text,), False, scope.dialect) for text in (name, *values) if text]
        return and_(*likely, func.kwargs_has(tasks.c.kwargs, key.casefold(), *(part.casefold() for part in parts)) == 1)
    # An index of trigrams reads a list of rows for each that is demanded. Those of the value tell most.
    likely = [_contains([tasks.c.kwargs], (text,), False, scope.dialect) for text in values or [name] if text]
    return and_(*likely, tasks.c.kwargs.op("||")("").op("~*")(pair_expression(key, parts)))


def plain_part(text: str) -> str:
    """The longest part of the text that stands in a repr as it is: no quotes, no backslashes, nothing unprintable."""
    parts = "".join(c if c.isprintable() and c not in "'\"\\" else "\n" for c in text).split("\n")
    return max(parts, key=len)


def pair_expression(key: str, parts: Sequence[str]) -> str:
    """A regular expression that finds the pair in the repr of a dict: the value as it is, or quoted."""
    name = f"(?:{_either_quote([key])}|{_plain_expression([key])})"
    value = f"(?:{_either_quote(parts)}|{_plain_expression(parts)})"
    return rf"[{{,]\s*{name}\s*:\s*{value}\s*[,}}]"


def _plain_expression(parts: Sequence[str]) -> str:
    return "[^,{}]*".join(_literally(part) for part in parts)


def _either_quote(parts: Sequence[str]) -> str:
    written = [repr(part + '"')[1:-2] for part in parts]  # as it stands between single quotes
    single = "[^']*".join(_literally(part) for part in written)
    double = '[^"]*'.join(_literally(part.replace("\\'", "'")) for part in written)
    return f"'{single}'|\"{double}\""


def _literally(text: str) -> str:
    return re.sub(r"([][\\^$.|?*+(){}])", r"\\\1", text)


# -- numbers and times --------------------------------------------------------------------------------------------


def _range(node: Range, scope: Scope) -> ColumnElement[bool]:
    value = measured(node.field, scope)
    low, high = bounds(node, scope.now)
    found = [known_measure(node.field, scope)]
    if low is not None:
        found.append(value >= low[0] if low[1] else value > low[0])
    if high is not None:
        found.append(value <= high[0] if high[1] else value < high[0])
    return and_(*found)


Bound = tuple[float, bool]
"""A limit, and whether it belongs to what it limits."""


def bounds(node: Range, now: float) -> tuple[Bound | None, Bound | None]:
    """Between what a field must be, in seconds or as a number."""
    begin, end, instant = _extent(node.value, now)
    match node.operator:
        case "=":
            return (begin, True), (end, instant)
        case ">":
            return (end, not instant), None
        case ">=":
            return (begin, True), None
        case "<":
            return None, (begin, False)
        case "<=":
            return None, (end, instant)
    _, end, instant = _extent(node.value if node.until is None else node.until, now)
    return (begin, True), (end, instant)


def _extent(value: Measure, now: float) -> tuple[float, float, bool]:
    """Where the value begins and ends, and whether that is the same."""
    if isinstance(value, int):
        return value, value, True
    if isinstance(value, Duration):
        return value.seconds, value.seconds, True
    begin, end = value.span(now)
    return begin, end, begin == end


def measured(field: str, scope: Scope) -> ColumnElement[float]:
    """The field as a number of SQL; NULL or a stand-in where it is not known."""
    match field:
        case "retries":
            return func.coalesce(tasks.c.retries, 0)
        case "wait":
            begun = func.coalesce(tasks.c.sent, case((tasks.c.received > NO_TIME, tasks.c.received)))
            return tasks.c.started - begun
        case "eta":
            return func.epoch_of(tasks.c.eta, type_=Float) if scope.dialect == "sqlite" else _ETA
    value = tasks.c.timestamp if field == "finished" else tasks.c[field]
    return value + 0 if scope.dialect == "sqlite" else value


def known_measure(field: str, scope: Scope) -> ColumnElement[bool]:
    """Whether the field is known."""
    match field:
        case "retries":
            return true()
        case "runtime":
            return tasks.c.runtime + 0 > NO_NUMBER
        case "received" | "started":
            return tasks.c[field] + 0 > NO_TIME
        case "wait":
            return and_(tasks.c.started + 0 > NO_TIME, or_(tasks.c.sent.is_not(None), tasks.c.received + 0 > NO_TIME))
        case "finished":
            return _unindexed(tasks.c.state, scope).in_(FINAL)
    return tasks.c[field].is_not(None)


def _known(field: str, scope: Scope) -> ColumnElement[bool]:
    if field == "retries":
        return func.coalesce(tasks.c.retries, 0) > 0
    if field in TIMES or field in ("runtime", "wait"):
        return known_measure(field, scope)
    return and_(column(field).is_not(None), _unindexed(column(field), scope) != literal(NO_TEXT))


def _marked(mark: str) -> ColumnElement[bool]:
    if mark == "retried":
        return or_(func.coalesce(tasks.c.retries, 0) > 0, tasks.c.retried.is_not(None))
    return tasks.c.lost_since.is_not(None)


# A cast of PostgreSQL raises for what is no time, so the digits are taken one group at a time where they look like one.
_ETA: ColumnElement[float] = literal_column(
    r"""CASE WHEN eta ~ '^[12]\d{3}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[T ]([01]\d|2[0-3]):[0-5]\d:[0-5]\d"""
    r"""([.]\d{1,9})?(Z|[+-]\d{2}:?\d{2})?$' THEN
    extract(epoch FROM make_timestamp(substr(eta, 1, 4)::int, substr(eta, 6, 2)::int, 1, substr(eta, 12, 2)::int,
    substr(eta, 15, 2)::int, substr(eta, 18, 2)::int)) + (substr(eta, 9, 2)::int - 1) * 86400
    - coalesce(CASE WHEN eta ~ '[+-]\d{2}:?\d{2}$' AND substr(eta, 20) ~ '[+-]' THEN
    (left(substring(eta FROM '[+-]\d{2}:?\d{2}$'), 3) || '0')::int * 360
    + (left(substring(eta FROM '[+-]\d{2}:?\d{2}$'), 1) || right(eta, 2))::int * 60 END, 0) END""",
    Float,
)
