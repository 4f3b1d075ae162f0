"""From a parsed search to a condition of SQL."""

from sqlalchemy import ColumnElement, String, and_, bindparam, func, or_

from meadow_api.search.language import All, Node, Pair, Some, State, Text
from meadow_api.store.schema import tasks

SEARCHED = ("uuid", "name", "state", "worker", "args", "kwargs", "result")


def condition(node: Node) -> ColumnElement[bool]:
    """The condition on the table of tasks that says the same as the search."""
    match node:
        case All(parts):
            return and_(*(condition(part) for part in parts))
        case Some(parts):
            return or_(*(condition(part) for part in parts))
        case State(state):
            return tasks.c.state == state
        case Pair(key, value):
            # The cheap tests first: few rows are left to be read as literals.
            likely = [contains(("kwargs",), plain) for plain in (_plain_part(key), _plain_part(value)) if plain]
            exact = func.kwargs_has(tasks.c.kwargs, key.casefold(), value.casefold()) == 1
            return and_(*likely, exact)
        case Text(None, text):
            return contains(SEARCHED, text)
        case Text(field, text):
            return contains((str(field),), text)


def _plain_part(text: str) -> str:
    """The longest part of the text that stands in a repr as it is: no quotes, no backslashes, nothing unprintable."""
    parts = "".join(c if c.isprintable() and c not in "'\"\\" else "\n" for c in text).split("\n")
    return max(parts, key=len)


def contains(fields: tuple[str, ...], text: str) -> ColumnElement[bool]:
    """One of the fields contains the text, case ignored.

    SQLite's LIKE ignores the case of ASCII letters only, but is much faster than a function of ours.
    """
    columns = [tasks.c[field] for field in fields]
    if not text.isascii():
        return func.folded_contains(bindparam(None, text.casefold(), String), *columns) == 1
    pattern = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    return or_(*(column.like(pattern, escape="\\") for column in columns))
