"""A task as others see it: Flower's 31 keys, one line of a list, and what `format_task` makes of it."""

import logging
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from types import SimpleNamespace
from typing import Any

from meadow.queries import TaskRow
from meadow_api.store.schema import NO_NUMBER, NO_TEXT, NO_TIME, tasks

log = logging.getLogger(__name__)

Task = dict[str, Any]
"""Flower's 31 keys in Flower's order, then those of `OWN_KEYS`."""

FLOWER_KEYS = (
    "uuid",
    "name",
    "state",
    "received",
    "sent",
    "started",
    "rejected",
    "succeeded",
    "failed",
    "retried",
    "revoked",
    "args",
    "kwargs",
    "eta",
    "expires",
    "retries",
    "worker",
    "result",
    "exception",
    "timestamp",
    "runtime",
    "traceback",
    "exchange",
    "routing_key",
    "clock",
    "client",
    "root",
    "root_id",
    "parent",
    "parent_id",
    "children",
)
OWN_KEYS = ("queue", "pid", "lost_since", "lost_reason")
TEXTS = ("args", "kwargs", "result", "exception", "traceback")
ENDINGS = {"SUCCESS": "succeeded", "FAILURE": "failed", "REVOKED": "revoked", "REJECTED": "rejected"}
"""Each state in which a task ends, and the time that says when."""

TIMES = ("timestamp", "received", "started", "sent", "lost_since")
_KEYS = (*FLOWER_KEYS, *OWN_KEYS)
_flower_values = itemgetter(*FLOWER_KEYS)
_LISTED_KEYS = (*(key for key in FLOWER_KEYS if key != "worker"), "worker")
_listed_values = itemgetter(*_LISTED_KEYS)
SHOWN = tuple(tasks.c[key] for key in _KEYS if key in tasks.c)
"""The columns of the table of tasks from which `tasks_of` makes tasks."""
_STAND_INS = {"name": NO_TEXT, "worker": NO_TEXT, "received": NO_TIME, "started": NO_TIME, "runtime": NO_NUMBER}
HIDDEN = "(hidden: format_task failed for this task)"


def task_of(row: Any, children: Sequence[str] = ()) -> Task:
    """A row of the table of tasks as a task."""
    return tasks_of([row], {row.uuid: children})[0]


def tasks_of(rows: Sequence[Any], children: Mapping[str, Sequence[str]] | None = None) -> list[Task]:
    """Rows with the columns `SHOWN`, whatever else they have, as tasks with the ids of the children of each."""
    return _dicts_of(rows, children or {}, _KEYS)


def flower_lines(rows: Sequence[Any], children: Mapping[str, Sequence[str]]) -> list[Task]:
    """Such rows as lines of Flower's list: what `flower_listed` makes of their tasks."""
    return [_without_unknown_worker(line) for line in _dicts_of(rows, children, _LISTED_KEYS)]


def _dicts_of(rows: Sequence[Any], children: Mapping[str, Sequence[str]], keys: Sequence[str]) -> list[Task]:
    if not rows:
        return []
    columns = columns_of(rows)
    columns["root"], columns["parent"] = columns["root_id"], columns["parent_id"]
    columns["children"] = [list(children.get(uuid, ())) for uuid in columns["uuid"]]
    return [dict(zip(keys, values, strict=True)) for values in zip(*(columns[key] for key in keys), strict=True)]


def columns_of(rows: Sequence[Any]) -> dict[str, Sequence[Any]]:
    """The values of rows of the table of tasks by column, `None` for what is unknown. At least one row.

    Column by column a page is put together by few calls, instead of some for each value.
    """
    columns: dict[str, Sequence[Any]] = dict(zip(rows[0]._fields, zip(*rows, strict=True), strict=True))
    for key, unknown in _STAND_INS.items():
        if unknown in columns.get(key, ()):
            columns[key] = [None if value == unknown else value for value in columns[key]]
    return columns


def ended_at(task: Task) -> float | None:
    """When the task came to its end, if it has."""
    key = ENDINGS.get(task["state"])
    at: float | None = None if key is None else task[key]
    return at


def flower_task(task: Task) -> Task:
    """Exactly Flower's keys."""
    return dict(zip(FLOWER_KEYS, _flower_values(task), strict=True))


def flower_listed(task: Task) -> Task:
    """As in Flower's task list: `worker` comes last, and is missing where there is none."""
    return _without_unknown_worker(dict(zip(_LISTED_KEYS, _listed_values(task), strict=True)))


def _without_unknown_worker(listed: Task) -> Task:
    if listed["worker"] is None:
        del listed["worker"]
    return listed


def line_of(task: Task, longest: int) -> TaskRow:
    """One line of a list, its texts cut to `longest` characters."""
    return TaskRow(
        uuid=task["uuid"],
        name=task["name"],
        state=task["state"],
        args=shortened(task["args"], longest),
        kwargs=shortened(task["kwargs"], longest),
        result=shortened(task["result"], longest),
        exception=shortened(task["exception"], longest),
        worker=task["worker"],
        queue=task["queue"],
        retries=task["retries"] or 0,
        sent=task["sent"],
        received=task["received"],
        started=task["started"],
        timestamp=task["timestamp"],
        runtime=task["runtime"],
        eta=task["eta"],
        revoked=task["revoked"],
        expires=task["expires"],
        exchange=task["exchange"],
        routing_key=task["routing_key"],
        lost_since=task["lost_since"],
    )


def shortened(text: str | None, longest: int) -> str | None:
    """The text, or its beginning and an ellipsis."""
    return text if text is None or len(text) <= longest else text[:longest] + "…"


class Presenter:
    """Applies the `format_task` of the settings to every task that leaves."""

    def __init__(self, format_task: Callable[[Any], Any] | None) -> None:
        self._format = format_task
        self._failing = False

    @property
    def changes(self) -> bool:
        """Whether tasks may be shown otherwise than they are."""
        return self._format is not None

    def __call__(self, task: Task) -> Task:
        """The task as it may be shown. One for which the function fails is shown without its texts."""
        if self._format is None:
            return task
        try:
            shown = self._format(SimpleNamespace(**{**task, "worker": _worker(task["worker"])}))
            formatted = {key: _plain(getattr(shown, key)) for key in task}
        except Exception as exc:  # noqa: BLE001 -- the function is the user's; whatever it raises hides the task
            self._report(exc)
            return {**task, **{key: HIDDEN for key in TEXTS if task[key] is not None}}
        return self._checked(task, formatted)

    def _checked(self, task: Task, formatted: Task) -> Task:
        """What tasks are found and sorted by stays as it was; the rest may have become text."""
        for key in (*TIMES, "uuid", "state", "children", "retries", "runtime"):
            formatted[key] = task[key]
        return formatted

    def _report(self, exc: Exception) -> None:
        if not self._failing:
            self._failing = True
            log.error(
                "format_task failed, so texts of tasks are hidden: %s: %s",
                type(exc).__name__,
                exc,
                extra={"action": "api.format-task"},
            )


class _Worker(str):
    """A worker's name that also has the attribute by which Flower's functions know it."""

    @property
    def hostname(self) -> str:
        return str(self)


def _worker(name: str | None) -> _Worker | None:
    return None if name is None else _Worker(name)


def _plain(value: Any) -> Any:
    if isinstance(value, _Worker):
        return str(value)
    return value if value is None or isinstance(value, str | int | float | list) else str(value)
