"""Lists of tasks by keyset pages, and single tasks with their relatives."""

import base64
import binascii
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Column, ColumnElement, Connection, Select, func, literal, select, tuple_

from meadow.queries import TaskList, TaskListQuery, TaskRow
from meadow_api.errors import InvalidQuestion, SearchError
from meadow_api.search.conditions import condition
from meadow_api.search.language import parse
from meadow_api.shapes import Task, line_of, task_of
from meadow_api.store import schema
from meadow_api.store.schema import tasks

Present = Callable[[Task], Task]

SORTS: dict[str, tuple[Column[Any], ...]] = {
    "received": (tasks.c.received,),
    "timestamp": (tasks.c.timestamp,),
    "started": (tasks.c.started,),
    "runtime": (tasks.c.runtime,),
    "name": (tasks.c.name, tasks.c.received),
    "state": (tasks.c.state, tasks.c.received),
    "worker": (tasks.c.worker, tasks.c.received),
}
"""What lists can be sorted by; equal rows follow in the order in which they came."""

MOST_ROWS = 500
MOST_RELATIVES = 200
MOST_CHILDREN = 1000
TEXT_OF_A_PAGE = 400_000
LONGEST_TEXT = 2000


class _Cursor(Struct, frozen=True, array_like=True):
    sort: str
    onward: bool
    values: list[float | str]
    id: int


def find_cluster(connection: Connection, name: str) -> int | None:
    """The cluster's number, `None` when nothing is known of it."""
    return connection.execute(select(schema.clusters.c.id).where(schema.clusters.c.name == name)).scalar()


def list_tasks(connection: Connection, query: TaskListQuery, present: Present) -> TaskList:
    """One page; raises `InvalidQuestion`."""
    columns, descending = _sorting(query.sort)
    if not 1 <= query.limit <= MOST_ROWS:
        raise InvalidQuestion(f"A page has between 1 and {MOST_ROWS} rows, not {query.limit}.")
    cursor = None if query.cursor is None else _read_cursor(query.cursor, query.sort, len(columns))
    cluster = find_cluster(connection, query.cluster)
    if cluster is None:
        return TaskList()
    try:
        conditions = [tasks.c.cluster == cluster, *_filters(query)]
    except SearchError as exc:
        return TaskList(error=str(exc), error_position=exc.position)
    onward = cursor is None or cursor.onward
    statement = _page(select(tasks).where(*conditions), columns, descending == onward, cursor)
    rows = list(connection.execute(statement.limit(query.limit + 1)))
    return _as_list(rows, query, columns, cursor, present)


def _as_list(
    rows: list[Any], query: TaskListQuery, columns: Sequence[Column[Any]], cursor: _Cursor | None, present: Present
) -> TaskList:
    more = len(rows) > query.limit
    rows = rows[: query.limit]
    onward = cursor is None or cursor.onward
    if not onward:
        rows.reverse()
    ahead, behind = (more, cursor is not None) if onward else (True, more)
    longest = min(LONGEST_TEXT, TEXT_OF_A_PAGE // (4 * query.limit))
    return TaskList(
        rows=[line_of(present(task_of(row)), longest) for row in rows],
        next=_write_cursor(query.sort, True, columns, rows[-1]) if ahead and rows else None,
        previous=_write_cursor(query.sort, False, columns, rows[0]) if behind and rows else None,
    )


def _sorting(sort: str) -> tuple[tuple[Column[Any], ...], bool]:
    columns = SORTS.get(sort.removeprefix("-"))
    if columns is None:
        raise InvalidQuestion(f"Tasks cannot be sorted by {sort[:50]!r}, but by {', '.join(sorted(SORTS))}.")
    return columns, sort.startswith("-")


def _filters(query: TaskListQuery) -> Iterable[ColumnElement[bool]]:
    if query.state:
        yield tasks.c.state == query.state
    if query.name:
        yield tasks.c.name == query.name
    if query.worker:
        yield tasks.c.worker == query.worker
    node = parse(query.search)
    if node is not None:
        yield condition(node)


def _page(
    statement: Select[Any], columns: Sequence[Column[Any]], descending: bool, cursor: _Cursor | None
) -> Select[Any]:
    keys = (*columns, tasks.c.id)
    if cursor is not None:
        place = tuple_(*(literal(value, column.type) for column, value in zip(keys, _place(cursor), strict=True)))
        statement = statement.where(tuple_(*keys) < place if descending else tuple_(*keys) > place)
    return statement.order_by(*(key.desc() if descending else key.asc() for key in keys))


def _place(cursor: _Cursor) -> tuple[Any, ...]:
    return (*cursor.values, cursor.id)


def _write_cursor(sort: str, onward: bool, columns: Sequence[Column[Any]], row: Any) -> str:
    values = [row._mapping[column.name] for column in columns]
    raw = msgspec.json.encode(_Cursor(sort, onward, values, row.id))
    return base64.urlsafe_b64encode(raw).decode("ascii")


def _read_cursor(text: str, sort: str, width: int) -> _Cursor:
    try:
        cursor = msgspec.json.decode(base64.urlsafe_b64decode(text.encode("ascii")), type=_Cursor)
    except (binascii.Error, UnicodeError, ValueError, msgspec.MsgspecError) as exc:
        raise InvalidQuestion("This is not a cursor of a former page. Begin with the first page again.") from exc
    if cursor.sort != sort or len(cursor.values) != width or abs(cursor.id) >= 2**63:
        raise InvalidQuestion("The cursor belongs to another order. Begin with the first page again.")
    return cursor


# -- single tasks -------------------------------------------------------------------------------------------------


def get_task(connection: Connection, cluster_name: str, uuid: str) -> Task | None:
    """The task with its children."""
    cluster = find_cluster(connection, cluster_name)
    if cluster is None:
        return None
    row = connection.execute(select(tasks).where(tasks.c.cluster == cluster, tasks.c.uuid == uuid)).first()
    if row is None:
        return None
    return task_of(row, children_of(connection, cluster, [uuid]).get(uuid, ()))


def children_of(connection: Connection, cluster: int, uuids: Sequence[str]) -> dict[str, list[str]]:
    """The ids of the known children of these tasks."""
    found: dict[str, list[str]] = {}
    statement = (
        select(tasks.c.parent_id, tasks.c.uuid)
        .where(tasks.c.cluster == cluster, tasks.c.parent_id.in_(uuids))
        .limit(max(MOST_CHILDREN, 20 * len(uuids)))
    )
    for parent, child in connection.execute(statement):
        found.setdefault(parent, []).append(child)
    return found


def relatives_of(connection: Connection, cluster_name: str, task: Task, present: Present) -> list[TaskRow]:
    """The known tasks of the same root, the root first."""
    cluster = find_cluster(connection, cluster_name)
    root = task["root_id"] or task["uuid"]
    if cluster is None:
        return []
    of_cluster = select(tasks).where(tasks.c.cluster == cluster)
    # Two questions, since SQLite answers an OR of these two by reading everything.
    rows = list(connection.execute(of_cluster.where(tasks.c.uuid == root)))
    others = of_cluster.where(tasks.c.root_id == root, tasks.c.root_id != tasks.c.uuid).order_by(tasks.c.id)
    rows += connection.execute(others.limit(MOST_RELATIVES - len(rows)))
    return [line_of(present(task_of(row)), LONGEST_TEXT // 4) for row in rows]


def newest_tasks(
    connection: Connection, cluster: int, present: Present, limit: int, *conditions: ColumnElement[bool]
) -> list[TaskRow]:
    """The tasks received last."""
    statement = select(tasks).where(tasks.c.cluster == cluster, *conditions)
    rows = connection.execute(statement.order_by(tasks.c.received.desc(), tasks.c.id.desc()).limit(limit))
    return [line_of(present(task_of(row)), LONGEST_TEXT // 4) for row in rows]


def distinct(connection: Connection, cluster: int, column: Column[Any], most: int = 10_000) -> list[str]:
    """The different values of an indexed column in order, without reading every row."""
    found: list[str] = []
    last = ""
    statement = select(func.min(column)).where(tasks.c.cluster == cluster)
    while len(found) < most:
        value = connection.execute(statement.where(column > last)).scalar()
        if value is None:
            break
        found.append(value)
        last = value
    return found
