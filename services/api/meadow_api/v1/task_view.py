"""A task as version 1 shows it: names that say what they are, and only the fields that were asked for."""

from collections.abc import Sequence
from itertools import repeat
from typing import Any, Literal, TypeAlias, get_args

from msgspec import UNSET, Struct, UnsetType
from sqlalchemy import Column

from meadow_api.shapes import TEXTS, Task, columns_of, shortened
from meadow_api.store import schema

Field = Literal[
    "uuid",
    "name",
    "state",
    "worker",
    "queue",
    "args",
    "kwargs",
    "result",
    "exception",
    "traceback",
    "sent",
    "received",
    "started",
    "succeeded",
    "failed",
    "retried",
    "revoked",
    "rejected",
    "updated",
    "runtime",
    "retries",
    "eta",
    "expires",
    "root",
    "parent",
    "children",
    "pid",
    "clock",
    "client",
    "exchange",
    "routing_key",
    "lost_since",
    "lost_reason",
]

Text: TypeAlias = str | UnsetType | None
Number: TypeAlias = float | UnsetType | None
Whole: TypeAlias = int | UnsetType | None

FIELDS: tuple[Field, ...] = get_args(Field)
LISTED: tuple[Field, ...] = tuple(f for f in FIELDS if f not in ("traceback", "children", "pid", "clock", "client"))
"""The fields of a list unless others are asked for."""

EXPORTED: tuple[Field, ...] = tuple(f for f in FIELDS if f != "children")


class TaskView(Struct, frozen=True):
    """One task. Times are UTC epoch seconds by the workers' clocks; `updated` is the newest event's.

    `args`, `kwargs` and `result` are reprs as Celery sends them (cut by Celery at 1,024 characters). `cut` names the
    fields that are cut here because a list was asked for; the task by its id has all of them.
    """

    uuid: str | UnsetType = UNSET
    name: Text = UNSET
    state: str | UnsetType = UNSET
    worker: Text = UNSET
    queue: Text = UNSET
    args: Text = UNSET
    kwargs: Text = UNSET
    result: Text = UNSET
    exception: Text = UNSET
    traceback: Text = UNSET
    sent: Number = UNSET
    received: Number = UNSET
    started: Number = UNSET
    succeeded: Number = UNSET
    failed: Number = UNSET
    retried: Number = UNSET
    revoked: Number = UNSET
    rejected: Number = UNSET
    updated: float | UnsetType = UNSET
    runtime: Number = UNSET
    retries: Whole = UNSET
    eta: Text = UNSET
    expires: Text = UNSET
    root: Text = UNSET
    parent: Text = UNSET
    children: list[str] | UnsetType = UNSET
    pid: Whole = UNSET
    clock: Whole = UNSET
    client: Text = UNSET
    exchange: Text = UNSET
    routing_key: Text = UNSET
    lost_since: Number = UNSET
    lost_reason: Text = UNSET
    cut: list[str] | UnsetType = UNSET


_Columns: TypeAlias = dict[str, Sequence[Any]]
_OTHER_NAMES = {"updated": "timestamp", "root": "root_id", "parent": "parent_id"}


def values_of(task: Task, fields: tuple[Field, ...]) -> dict[str, Any]:
    """The values of those fields, in that order."""
    return {field: task[_OTHER_NAMES.get(field, field)] for field in fields}


def view_of(task: Task, fields: tuple[Field, ...]) -> TaskView:
    """The task with those fields, its texts whole."""
    return views_of([task], fields)[0]


def views_of(tasks: Sequence[Task], fields: tuple[Field, ...], longest: int | None = None) -> list[TaskView]:
    """The tasks with those fields, their texts cut to `longest` characters if that is given."""
    if not tasks:
        return []
    columns: _Columns = {field: [task[_OTHER_NAMES.get(field, field)] for task in tasks] for field in fields}
    return _views(columns, len(tasks), longest)


def columns_for(fields: tuple[Field, ...]) -> tuple[Column[Any], ...]:
    """The columns of the table of tasks from which `views_of_rows` makes these fields; `children` are in none."""
    names = dict.fromkeys(_OTHER_NAMES.get(field, field) for field in fields if field != "children")
    return tuple(schema.tasks.c[name] for name in names)


def views_of_rows(rows: Sequence[Any], fields: tuple[Field, ...], longest: int | None) -> list[TaskView]:
    """Rows with the columns `columns_for(fields)` as they stand in the store; `children` are empty."""
    if not rows:
        return []
    found = columns_of(rows) | {"children": [[]] * len(rows)}
    columns: _Columns = {field: found[_OTHER_NAMES.get(field, field)] for field in fields}
    return _views(columns, len(rows), longest)


def _views(columns: _Columns, count: int, longest: int | None) -> list[TaskView]:
    cut = {} if longest is None else _shorten(columns, longest)
    values = (columns.get(field, repeat(UNSET)) for field in FIELDS)
    return list(map(TaskView, *values, (cut.get(number, UNSET) for number in range(count))))


def _shorten(columns: _Columns, longest: int) -> dict[int, list[str]]:
    """Cut the long texts, and name those that were, by the number of the task."""
    cut: dict[int, list[str]] = {}
    for key in TEXTS:
        texts = columns.get(key, ())
        long = [number for number, text in enumerate(texts) if isinstance(text, str) and len(text) > longest]
        if not long:
            continue
        columns[key] = changed = list(texts)
        for number in long:
            changed[number] = shortened(changed[number], longest)
            cut.setdefault(number, []).append(key)
    return cut
