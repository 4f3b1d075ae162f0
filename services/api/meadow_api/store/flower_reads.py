"""Tasks as Flower's lists give them: by offset, sorted by any of Flower's fields, equal ones by their id."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, func, or_, select

from meadow_api.search.conditions import condition
from meadow_api.search.language import parse
from meadow_api.shapes import FLOWER_KEYS, Task, task_of
from meadow_api.store import schema
from meadow_api.store.schema import NO_TIME, tasks
from meadow_api.store.task_reads import Present, children_of, distinct, find_cluster

SORTABLE = {key: tasks.c[key] for key in FLOWER_KEYS if key in tasks.c} | {
    "root": tasks.c.root_id,
    "parent": tasks.c.parent_id,
}
MOST_COUNTED = 100_000


@dataclass(frozen=True)
class FlowerFilter:
    """What Flower's list can be narrowed by. The three names are whole values, case ignored."""

    search: str = ""
    name: str | None = None
    worker: str | None = None
    state: str | None = None
    received_start: float | None = None
    received_end: float | None = None


def find_ids(
    connection: Connection,
    cluster_name: str,
    wanted: FlowerFilter,
    *,
    sort: str | None = None,
    descending: bool = False,
    offset: int = 0,
    limit: int | None = None,
) -> Sequence[int]:
    """The row numbers of the tasks in order; raises `SearchError`."""
    cluster = find_cluster(connection, cluster_name)
    node = parse(wanted.search)
    if cluster is None or (limit is not None and limit <= 0):
        return array("q")
    conditions = list(_conditions(connection, cluster, wanted))
    if node is not None:
        conditions.append(condition(node))
    statement = select(tasks.c.id).where(tasks.c.cluster == cluster, *conditions).order_by(*_order(sort, descending))
    bounded = statement.limit(-1 if limit is None else min(limit, 2**62)).offset(min(max(offset, 0), 2**62))
    return array("q", connection.execute(bounded).scalars())


def read_tasks(connection: Connection, ids: Sequence[int], present: Present) -> list[Task]:
    """The tasks with these row numbers, in that order; those that were deleted meanwhile are left out."""
    rows = {row.id: row for row in connection.execute(select(tasks).where(tasks.c.id.in_(list(ids))))}
    if not rows:
        return []
    cluster = next(iter(rows.values())).cluster
    children = children_of(connection, cluster, [row.uuid for row in rows.values()])
    return [present(task_of(rows[id], children.get(rows[id].uuid, ()))) for id in ids if id in rows]


def count_all(connection: Connection, cluster_name: str) -> int:
    """How many tasks the cluster has in the store."""
    found = connection.execute(select(schema.clusters.c.tasks).where(schema.clusters.c.name == cluster_name)).scalar()
    return int(found or 0)


def count_matching(connection: Connection, cluster_name: str, search: str) -> int:
    """How many tasks match, counted up to `MOST_COUNTED`; raises `SearchError`."""
    node = parse(search)
    if node is None:
        return count_all(connection, cluster_name)
    cluster = find_cluster(connection, cluster_name)
    matching = select(tasks.c.id).where(tasks.c.cluster == cluster, condition(node)).limit(MOST_COUNTED)
    return int(connection.execute(select(func.count()).select_from(matching.subquery())).scalar_one())


def _conditions(connection: Connection, cluster: int, wanted: FlowerFilter) -> Iterator[ColumnElement[bool]]:
    for column, value in ((tasks.c.name, wanted.name), (tasks.c.worker, wanted.worker)):
        if value:
            yield column.in_(_any_case(distinct(connection, cluster, column), value))
    if wanted.state:
        yield tasks.c.state == wanted.state.upper()
    if wanted.received_start is not None:
        yield or_(tasks.c.received >= wanted.received_start, tasks.c.received == NO_TIME)
    if wanted.received_end is not None:
        yield tasks.c.received <= wanted.received_end


def _any_case(known: Sequence[str], value: str) -> list[str]:
    folded = value.casefold()
    return [name for name in known if name.casefold() == folded]


def _order(sort: str | None, descending: bool) -> tuple[Any, ...]:
    if sort is None:
        return (tasks.c.timestamp.desc(), tasks.c.id.desc())
    column: Column[Any] = SORTABLE[sort]
    if column is tasks.c.uuid:
        return (column.desc() if descending else column.asc(),)
    if descending:
        return (column.desc(), tasks.c.uuid.desc())
    return (column.asc(), tasks.c.uuid.asc())
