"""The workers, and what each is doing."""

from collections.abc import Sequence

from meadow.queries import WorkerList, WorkerListQuery, WorkerRow
from meadow_web.pages.page import Content, Page, Visit

VISIBLE_SKEW = 1.0
TOTALS = ("task-received", "task-failed", "task-succeeded")


async def load(visit: Visit) -> Content:
    """All workers, those online first."""
    answer = await visit.ask.api(WorkerListQuery(cluster=visit.cluster), WorkerList)
    rows = online_first(answer.rows)
    online = [row for row in rows if row.online]
    active, places = occupied(online)
    values = {
        "workers": rows,
        "online": len(online),
        "active": active,
        "places": places,
        "skewed": any(row.skew is not None and abs(row.skew) > VISIBLE_SKEW for row in rows),
        "totals": {name: sum(row.counters.get(name, 0) for row in rows) for name in TOTALS},
    }
    return Content("Workers", values)


def online_first(rows: Sequence[WorkerRow]) -> list[WorkerRow]:
    """Online ones first, then by name."""
    return sorted(rows, key=lambda row: (not row.online, row.hostname))


def occupied(rows: Sequence[WorkerRow]) -> tuple[int, int]:
    """(busy, all) pool processes. A worker may count more tasks as active than it has processes: those wait in its
    pool."""
    busy = sum(min(row.active or 0, row.concurrency or row.active or 0) for row in rows)
    return busy, sum(row.concurrency or 0 for row in rows)


PAGE = Page("workers", "/workers", frozenset({"workers"}), load, pace=0.5, ages=True, section="workers")
