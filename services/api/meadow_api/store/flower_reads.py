"""Tasks as Flower's lists give them: by offset, sorted by any of Flower's fields, equal ones by their id."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Select, and_, or_, select

from meadow_api.search.language import parse
from meadow_api.search.tree import All, Node, Text
from meadow_api.shapes import FLOWER_KEYS, SHOWN, Presenter, Task, flower_lines, flower_listed, tasks_of
from meadow_api.store import schema
from meadow_api.store.listed import is_listed, is_one_of, listed
from meadow_api.store.schema import NO_TIME, tasks
from meadow_api.store.task_reads import Present, children_of, find_cluster
from meadow_api.store.task_search import TaskSearch, text_snapshot

SORTABLE = {key: tasks.c[key] for key in FLOWER_KEYS if key in tasks.c} | {
    "root": tasks.c.root_id,
    "parent": tasks.c.parent_id,
}
MOST_COUNTED = 100_000
COUNTING_SECONDS = 1.0


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
    node = _node(wanted)
    if limit is not None and limit <= 0:
        return array("q")
    with text_snapshot(connection, node) as snapshot:
        cluster = find_cluster(connection, cluster_name)
        if cluster is None:
            return array("q")
        search = TaskSearch(connection, cluster, {}, node, snapshot)
        few = search.few()
        of_cluster = search.of_cluster if few is None else and_(search.of_cluster_unindexed, is_one_of(connection, few))
        statement = select(tasks.c.id).where(of_cluster, *search.exact, *_received(wanted))
        bounded = (
            statement.order_by(*_order(sort, descending))
            .limit(-1 if limit is None else min(limit, 2**62))
            .offset(min(max(offset, 0), 2**62))
        )
        return array("q", connection.execute(bounded).scalars())


def read_tasks(connection: Connection, ids: Sequence[int], present: Present) -> list[Task]:
    """The tasks with these row numbers, in that order; those that were deleted meanwhile are left out."""
    rows = _rows_of(connection, ids)
    return [present(task) for task in tasks_of(rows, _children_of(connection, rows))]


def read_lines(connection: Connection, ids: Sequence[int], present: Presenter) -> list[Task]:
    """The same as lines of Flower's list (`flower_listed`)."""
    if present.changes:
        return [flower_listed(task) for task in read_tasks(connection, ids, present)]
    rows = _rows_of(connection, ids)
    return flower_lines(rows, _children_of(connection, rows))


def _rows_of(connection: Connection, ids: Sequence[int]) -> list[Any]:
    read = connection.execute(_rows(connection.dialect.name), {"listed": listed(connection, ids)})
    found = {row.id: row for row in read.all()}
    return [found[id] for id in ids if id in found]


@lru_cache
def _rows(dialect: str) -> Select[Any]:
    return select(tasks.c.id, tasks.c.cluster, *SHOWN).where(is_listed(dialect))


def _children_of(connection: Connection, rows: Sequence[Any]) -> dict[str, list[str]]:
    return children_of(connection, rows[0].cluster, [row.uuid for row in rows]) if rows else {}


def count_all(connection: Connection, cluster_name: str) -> int:
    """How many tasks the cluster has in the store."""
    found = connection.execute(select(schema.clusters.c.tasks).where(schema.clusters.c.name == cluster_name)).scalar()
    return int(found or 0)


def count_matching(connection: Connection, cluster_name: str, search: str) -> int:
    """How many tasks match, counted up to `MOST_COUNTED` and for a second; raises `SearchError`."""
    node = parse(search, flower=True)
    if node is None:
        return count_all(connection, cluster_name)
    with text_snapshot(connection, node) as snapshot:
        cluster = find_cluster(connection, cluster_name)
        if cluster is None:
            return 0
        return TaskSearch(connection, cluster, {}, node, snapshot, seconds=COUNTING_SECONDS).count(MOST_COUNTED)


def _node(wanted: FlowerFilter) -> Node | None:
    """The search, and the three names as a search."""
    parts = [
        Text((field,), (value,), whole=True)
        for field, value in (("name", wanted.name), ("worker", wanted.worker), ("state", wanted.state))
        if value
    ]
    searched = parse(wanted.search, flower=True)
    found = (*parts, *((searched,) if searched is not None else ()))
    return All(found) if len(found) > 1 else found[0] if found else None


def _received(wanted: FlowerFilter) -> Iterator[ColumnElement[bool]]:
    if wanted.received_start is not None:
        yield or_(tasks.c.received >= wanted.received_start, tasks.c.received == NO_TIME)
    if wanted.received_end is not None:
        yield tasks.c.received <= wanted.received_end


def _order(sort: str | None, descending: bool) -> tuple[Any, ...]:
    if sort is None:
        return (tasks.c.timestamp.desc(), tasks.c.id.desc())
    column: Column[Any] = SORTABLE[sort]
    if column is tasks.c.uuid:
        return (column.desc() if descending else column.asc(),)
    if descending:
        return (column.desc(), tasks.c.uuid.desc())
    return (column.asc(), tasks.c.uuid.asc())
