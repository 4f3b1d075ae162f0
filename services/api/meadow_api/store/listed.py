"""A key is one of many values: on SQLite given as one value, so that the statement is the same for any number."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, bindparam, func, literal, select

from meadow.codec import encode
from meadow_api.store.schema import tasks


def is_one_of(connection: Connection, values: Sequence[Any], key: Column[Any] = tasks.c.id) -> ColumnElement[bool]:
    """The row's number, or another key, is one of these: as one value on SQLite, so that the statement is the same."""
    if connection.dialect.name == "sqlite":
        return _in_json(key, literal(listed(connection, values)))
    return key.in_(list(values))


def is_listed(dialect: str, key: Column[Any] = tasks.c.id) -> ColumnElement[bool]:
    """The same for a statement that is kept: what is `listed` is given when it is executed."""
    if dialect == "sqlite":
        return _in_json(key, bindparam("listed"))
    return key.in_(bindparam("listed", expanding=True))


def listed(connection: Connection, values: Sequence[Any]) -> Any:
    """The values as a parameter for `is_listed`."""
    return encode(list(values)).decode() if connection.dialect.name == "sqlite" else list(values)


def _in_json(key: Column[Any], values: ColumnElement[Any]) -> ColumnElement[bool]:
    return key.in_(select(func.json_each(values).table_valued("value").c.value))
