"""Lists of tasks by keyset pages, and single tasks with their relatives."""

import base64
import binascii
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Column, ColumnElement, Connection, Select, bindparam, select

from meadow.queries import TaskList, TaskListQuery, TaskRow
from meadow_api.errors import InvalidQuestion, SearchError
from meadow_api.search.language import parse
from meadow_api.search.tree import All, Node, Text
from meadow_api.shapes import SHOWN, Task, line_of, task_of, tasks_of
from meadow_api.store.listed import is_listed, listed
from meadow_api.store.schema import tasks
from meadow_api.store.task_order import Order
from meadow_api.store.task_search import (
    SECONDS,
    Found,
    TaskSearch,
    distinct,
    find_cluster,
    text_snapshot,
)

__all__ = ["distinct", "find_cluster"]

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


class TaskPage(Struct, frozen=True, kw_only=True):
    """A page of rows of the table of tasks; cursors, a fault in the search, and `partial` as in `TaskList`.

    `error_hint` is a sentence that says how to mend the fault.
    """

    rows: list[Any] = []
    next: str | None = None
    previous: str | None = None
    error: str | None = None
    error_position: int | None = None
    error_hint: str = ""
    partial: bool = False

    @property
    def tasks(self) -> list[Task]:
        """The rows as tasks, not yet presented; only for rows with the columns `SHOWN`."""
        return tasks_of(self.rows)


def list_tasks(connection: Connection, query: TaskListQuery, present: Present) -> TaskList:
    """One page, as lines; raises `InvalidQuestion`."""
    page = find_page(connection, query)
    longest = min(LONGEST_TEXT, TEXT_OF_A_PAGE // (4 * query.limit))
    return TaskList(
        rows=[line_of(present(task), longest) for task in page.tasks],
        next=page.next,
        previous=page.previous,
        error=f"{page.error} {page.error_hint}".rstrip() if page.error else None,
        error_position=page.error_position,
        partial=page.partial,
    )


def find_page(
    connection: Connection,
    query: TaskListQuery,
    clock: Callable[[], float] = time.time,
    seconds: float = SECONDS,
    wanted: Sequence[Column[Any]] = SHOWN,
) -> TaskPage:
    """One page of tasks, a partial one when it takes longer than `seconds`; raises `InvalidQuestion`.

    Its rows have the columns `wanted`, and behind them those of the order.
    """
    columns, descending = _sorting(query.sort)
    if not 1 <= query.limit <= MOST_ROWS:
        raise InvalidQuestion(f"A page has between 1 and {MOST_ROWS} rows, not {query.limit}.")
    cursor = None if query.cursor is None else _read_cursor(query.cursor, query.sort, len(columns))
    try:
        node = _narrowed(parse(query.search), query)
    except SearchError as exc:
        return TaskPage(error=str(exc), error_position=exc.position, error_hint=exc.hint)
    onward = cursor is None or cursor.onward
    columns = (*columns, tasks.c.id)
    order = Order(columns, descending == onward, None if cursor is None else (*cursor.values, cursor.id))
    with text_snapshot(connection, node) as snapshot:
        cluster = find_cluster(connection, query.cluster)
        if cluster is None:
            return TaskPage()
        known = {column.name for column in wanted}
        read = (*wanted, *(column for column in columns if column.name not in known))
        search = TaskSearch(connection, cluster, _pins(query), node, snapshot, clock(), seconds, read)
        found = search.page(order, query.limit + 1)
    return _as_page(found, query, order, onward)


def _pins(query: TaskListQuery) -> dict[str, str]:
    pins = {"state": query.state, "name": query.name, "worker": query.worker, "queue": query.queue}
    return {field: value for field, value in pins.items() if value}


def _narrowed(node: Node | None, query: TaskListQuery) -> Node | None:
    """The search and the queue: no index of the table knows queues, but that of texts does."""
    if not query.queue:
        return node
    queue = Text(("queue",), (query.queue,), whole=True)
    return queue if node is None else All((queue, *(node.parts if isinstance(node, All) else (node,))))


def _as_page(found: Found, query: TaskListQuery, order: Order, onward: bool) -> TaskPage:
    more = len(found.rows) > query.limit
    rows = found.rows[: query.limit]
    ahead = order.place_of(rows[-1]) if more else found.reached  # where to go on in the direction of the walk
    behind = order.place_of(rows[0]) if rows and order.after is not None else None
    if not onward:
        rows.reverse()
        ahead, behind = behind or order.after, ahead
    return TaskPage(
        rows=rows,
        next=None if ahead is None else _write_cursor(query.sort, True, ahead),
        previous=None if behind is None else _write_cursor(query.sort, False, behind),
        partial=found.partial,
    )


def _sorting(sort: str) -> tuple[tuple[Column[Any], ...], bool]:
    columns = SORTS.get(sort.removeprefix("-"))
    if columns is None:
        raise InvalidQuestion(f"Tasks cannot be sorted by {sort[:50]!r}, but by {', '.join(sorted(SORTS))}.")
    return columns, sort.startswith("-")


def _write_cursor(sort: str, onward: bool, place: Sequence[Any]) -> str:
    raw = msgspec.json.encode(_Cursor(sort, onward, list(place[:-1]), place[-1]))
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
    row = connection.execute(select(*SHOWN).where(tasks.c.cluster == cluster, tasks.c.uuid == uuid)).first()
    if row is None:
        return None
    return task_of(row, children_of(connection, cluster, [uuid]).get(uuid, ()))


def children_of(connection: Connection, cluster: int, uuids: Sequence[str]) -> dict[str, list[str]]:
    """The ids of the known children of these tasks."""
    found: dict[str, list[str]] = {}
    given = {"cluster": cluster, "listed": listed(connection, uuids), "most": max(MOST_CHILDREN, 20 * len(uuids))}
    for parent, child in connection.execute(_children(connection.dialect.name), given).all():
        found.setdefault(parent, []).append(child)
    return found


@lru_cache
def _children(dialect: str) -> Select[Any]:
    of_these = (tasks.c.cluster == bindparam("cluster"), is_listed(dialect, tasks.c.parent_id))
    return select(tasks.c.parent_id, tasks.c.uuid).where(*of_these).limit(bindparam("most"))


def relatives_of(connection: Connection, cluster_name: str, task: Task, present: Present) -> list[TaskRow]:
    """The known tasks of the same root, the root first."""
    cluster = find_cluster(connection, cluster_name)
    root = task["root_id"] or task["uuid"]
    if cluster is None:
        return []
    of_cluster = select(*SHOWN).where(tasks.c.cluster == cluster)
    # Two questions, since SQLite answers an OR of these two by reading everything.
    rows = list(connection.execute(of_cluster.where(tasks.c.uuid == root)))
    others = of_cluster.where(tasks.c.root_id == root, tasks.c.root_id != tasks.c.uuid).order_by(tasks.c.id)
    rows += connection.execute(others.limit(MOST_RELATIVES - len(rows)))
    return _lines(rows, present)


def newest_tasks(
    connection: Connection, cluster: int, present: Present, limit: int, *conditions: ColumnElement[bool]
) -> list[TaskRow]:
    """The tasks received last."""
    statement = select(*SHOWN).where(tasks.c.cluster == cluster, *conditions)
    rows = connection.execute(statement.order_by(tasks.c.received.desc(), tasks.c.id.desc()).limit(limit)).all()
    return _lines(rows, present)


def oldest_tasks(
    connection: Connection, cluster: int, present: Present, limit: int, *conditions: ColumnElement[bool]
) -> list[TaskRow]:
    """The tasks received first."""
    statement = select(*SHOWN).where(tasks.c.cluster == cluster, *conditions)
    rows = connection.execute(statement.order_by(tasks.c.received, tasks.c.id).limit(limit)).all()
    return _lines(rows, present)


def _lines(rows: Sequence[Any], present: Present) -> list[TaskRow]:
    return [line_of(present(task), LONGEST_TEXT // 4) for task in tasks_of(rows)]
