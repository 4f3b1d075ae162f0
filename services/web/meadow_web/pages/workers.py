"""The workers, and what each is doing."""

from collections.abc import Sequence

from meadow.queries import WorkerList, WorkerListQuery, WorkerRow
from meadow_web.pages.page import Content, Page, Visit, whole_number

VISIBLE_SKEW = 1.0
MOST_ROWS = 200
TOTALS = ("task-received", "task-failed", "task-succeeded")


async def load(visit: Visit) -> Content:
    """A page of the workers, those online first. What is summed up is of all that match."""
    answer = await visit.ask.api(WorkerListQuery(cluster=visit.cluster), WorkerList)
    search = visit.text("search")
    rows = [row for row in online_first(answer.rows) if search.lower() in row.hostname.lower()]
    limit = min(max(_number(visit, "limit", MOST_ROWS), 1), MOST_ROWS)
    start = min(max(_number(visit, "start", 0), 0), len(rows))
    online = [row for row in rows if row.online]
    active, places = occupied(online)
    values = {
        "known": len(answer.rows),
        "found": len(rows),
        "workers": rows[start : start + limit],
        "search": search,
        "start": start,
        "limit": limit,
        "paged": {"search": search, "limit": limit if limit != MOST_ROWS else None},
        "online": len(online),
        "active": active,
        "places": places,
        "skewed": any(row.skew is not None and abs(row.skew) > VISIBLE_SKEW for row in rows),
        "totals": {name: sum(row.counters.get(name, 0) for row in rows) for name in TOTALS},
    }
    return Content("Workers", values)


def _number(visit: Visit, name: str, default: int) -> int:
    return whole_number(visit.text(name) or str(default))


def online_first(rows: Sequence[WorkerRow]) -> list[WorkerRow]:
    """Online ones first, then by name."""
    return sorted(rows, key=lambda row: (not row.online, row.hostname))


def occupied(rows: Sequence[WorkerRow]) -> tuple[int, int]:
    """(busy, all) pool processes. A worker may count more tasks as active than it has processes: those wait in its
    pool."""
    busy = sum(min(row.active or 0, row.concurrency or row.active or 0) for row in rows)
    return busy, sum(row.concurrency or 0 for row in rows)


PAGE = Page(
    "workers",
    "/workers",
    frozenset({"workers"}),
    load,
    pace=0.5,
    ages=True,
    section="workers",
    parameters=frozenset({"search", "start", "limit"}),
)
