"""The task list: search, filters, sort, older and newer."""

import asyncio
from typing import Any

from meadow.queries import Names, NamesQuery, TaskList, TaskListQuery
from meadow.settings import FLOWER_COLUMNS
from meadow_web.pages.page import Content, Page, Visit, as_dicts

DEFAULT_COLUMNS = ("state", "name", "uuid", "args", "worker", "received", "runtime")
COLUMNS = {
    "name": "Name",
    "uuid": "UUID",
    "state": "State",
    "args": "Arguments",
    "kwargs": "Keyword arguments",
    "result": "Result",
    "received": "Received",
    "started": "Started",
    "sent": "Sent",
    "timestamp": "Updated",
    "runtime": "Runtime",
    "worker": "Worker",
    "queue": "Queue",
    "exchange": "Exchange",
    "routing_key": "Routing key",
    "retries": "Retries",
    "revoked": "Revoked",
    "exception": "Exception",
    "expires": "Expires",
    "eta": "ETA",
}
SORTS = frozenset({"name", "state", "received", "started", "runtime", "worker", "timestamp"})
DESCENDING_FIRST = frozenset({"received", "started", "runtime", "timestamp"})
QUICK_STATES = ("RECEIVED", "STARTED", "SUCCESS", "RETRY", "FAILURE", "REVOKED")
STATES = ("PENDING", "RECEIVED", "STARTED", "SUCCESS", "FAILURE", "RETRY", "REVOKED", "REJECTED")
LIMITS = (25, 50, 100, 250)
DEFAULT_SORT = "-received"
PARAMETERS = frozenset({"search", "state", "name", "worker", "sort", "limit", "cursor"})
MOST_OPTIONS = 200
FAILED = ("FAILURE", "RETRY")
LOST = "is:lost"


async def load(visit: Visit) -> Content:
    """A page of tasks, and the names there are to filter by."""
    sort = visit.text("sort", DEFAULT_SORT)
    sort = sort if sort.removeprefix("-") in SORTS else DEFAULT_SORT
    filters = {name: visit.text(name) or None for name in ("state", "name", "worker")}
    query = TaskListQuery(
        cluster=visit.cluster,
        search=visit.text("search"),
        sort=sort,
        limit=page_limit(visit.text("limit")),
        cursor=visit.text("cursor") or None,
        **filters,
    )
    tasks, names = await asyncio.gather(
        visit.ask.api(query, TaskList), visit.ask.api(NamesQuery(cluster=visit.cluster), Names)
    )
    shown = with_reasons(columns(visit.settings.tasks_columns), query.state)
    values = {
        "tasks": tasks,
        "rows": as_dicts(tasks.rows),
        "names": names,
        "states": sorted({*STATES, *names.states}, key=_state_order),
        "quick_states": QUICK_STATES,
        "lost": LOST,
        "columns": [(name, COLUMNS[name]) for name in shown],
        "reasons": "args" in shown and any(row.exception and row.state in FAILED for row in tasks.rows),
        "most_options": MOST_OPTIONS,
        "sorts": SORTS,
        "query": query,
        "link": _Links(visit, query),
        "limits": LIMITS,
        "narrowed": bool(query.search or query.state or query.name or query.worker),
        "unsearched": query.cursor is None,
    }
    return Content("Tasks", values)


def columns(configured: tuple[str, ...]) -> tuple[str, ...]:
    """The columns to show: ours where nobody chose, else what was chosen; unknown names are left out, as in Flower."""
    if configured == FLOWER_COLUMNS:
        return DEFAULT_COLUMNS
    return tuple(name for name in configured if name in COLUMNS)


def with_reasons(shown: tuple[str, ...], state: str | None) -> tuple[str, ...]:
    """Where failures are looked for, what failed must be seen: in place of the arguments, or in a column of its own."""
    return shown if state not in FAILED or {"args", "exception"} & set(shown) else (*shown, "exception")


def page_limit(text: str) -> int:
    """Rows on a page: one of `LIMITS`."""
    return int(text) if text.isdecimal() and int(text) in LIMITS else 50


def _state_order(state: str) -> tuple[int, str]:
    return (STATES.index(state) if state in STATES else len(STATES), state)


class _Links:
    """Links to the same list with something changed."""

    def __init__(self, visit: Visit, query: TaskListQuery) -> None:
        self._urls = visit.urls
        self._now: dict[str, Any] = {
            "search": query.search,
            "state": query.state,
            "name": query.name,
            "worker": query.worker,
            "sort": query.sort if query.sort != DEFAULT_SORT else None,
            "limit": query.limit if query.limit != 50 else None,
        }

    def __call__(self, **changes: object) -> str:
        return self._urls.tasks(**(self._now | changes))

    def state(self, name: str | None) -> str:
        """The tasks in that state; a search for lost ones is a state's place taken, so it goes."""
        search = None if self._now["search"] == LOST else self._now["search"]
        return self(state=name, search=search, cursor=None)

    def sort(self, column: str) -> str:
        """Sorting by a column a second time turns it round."""
        current = self._now["sort"] or DEFAULT_SORT
        first = f"-{column}" if column in DESCENDING_FIRST else column
        other = column if first.startswith("-") else f"-{column}"
        return self(sort=other if current == first else first)


PAGE = Page("tasks", "/tasks", frozenset({"tasks"}), load, pace=0.25, section="tasks", parameters=PARAMETERS)
