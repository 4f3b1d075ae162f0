"""In which order tasks are listed: by an indexed column or two, and by the row number at last."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, Text, literal, tuple_

Place = tuple[Any, ...]
"""The values of a row in the columns of an order, or parameters that stand for them."""


@dataclass(frozen=True)
class Order:
    """By which columns (the row number is the last), which way, and behind which place."""

    columns: tuple[Column[Any], ...]
    descending: bool
    after: Place | None = None

    def apply(self, statement: Select[Any]) -> Select[Any]:
        """The statement in this order, from the place on."""
        if self.after is not None:
            statement = statement.where(self.behind(self.after))
        return statement.order_by(*(key.desc() if self.descending else key.asc() for key in self.columns))

    def unindexed(self, statement: Select[Any]) -> Select[Any]:
        """The same as `apply`, written so that no index of this order looks useful."""
        if self.after is not None:
            statement = statement.where(self.behind(self.after))
        first = self.columns[0]
        keys = (unindexed_text(first) if isinstance(first.type, Text) else first + 0, *self.columns[1:])
        return statement.order_by(*(key.desc() if self.descending else key.asc() for key in keys))

    def until(self, place: Place) -> ColumnElement[bool]:
        """What comes up to the place, which is included."""
        keys, values = self._keys_and(place)
        return keys >= values if self.descending else keys <= values

    def behind(self, place: Place) -> ColumnElement[bool]:
        """What comes after the place."""
        keys, values = self._keys_and(place)
        return keys < values if self.descending else keys > values

    def _keys_and(self, place: Place) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
        values = (_element(value, key) for key, value in zip(self.columns, place, strict=True))
        return tuple_(*self.columns), tuple_(*values)

    def place_of(self, row: Any) -> Place:
        """Where the row stands in this order."""
        return tuple(row._mapping[key.name] for key in self.columns)


def unindexed_text(value: Column[str]) -> ColumnElement[str]:
    """The text, as no index knows it."""
    return value.op("||")("")


def _element(value: Any, key: Column[Any]) -> ColumnElement[Any]:
    return value if isinstance(value, ColumnElement) else literal(value, key.type)
