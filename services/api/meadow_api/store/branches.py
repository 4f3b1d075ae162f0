"""Parts of a search that an index answers in order."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, bindparam, select

from meadow_api.search.conditions import column
from meadow_api.store.schema import tasks
from meadow_api.store.task_order import Order


@dataclass(frozen=True)
class Branch:
    """Whole values of fields that an index knows, and limits of the time of arrival."""

    values: dict[str, str] = field(default_factory=dict)
    limits: tuple[ColumnElement[bool], ...] = ()

    @property
    def conditions(self) -> list[ColumnElement[bool]]:
        """The same as conditions."""
        return [*self.limits, *(column(name) == value for name, value in self.values.items())]


@lru_cache(maxsize=256)
def statement_of_page(
    wanted: tuple[Column[Any], ...],
    keys: tuple[Column[Any], ...],
    descending: bool,
    after: int,
    pinned: tuple[str, ...],
) -> Select[Any]:
    """The statement of a page without limits, the same for all clusters, values and places.

    SQLAlchemy takes nearly as long to put it together as SQLite to answer it.
    """
    place = tuple(bindparam(f"after_{number}", type_=key.type) for number, key in enumerate(keys[:after]))
    order = Order(keys, descending, place or None)
    pins = [column(name) == bindparam(f"is_{name}", type_=column(name).type) for name in pinned]
    statement = select(*wanted).where(tasks.c.cluster == bindparam("of_cluster"), *pins)
    return order.apply(statement).limit(bindparam("most"))
