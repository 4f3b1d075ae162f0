"""The workers, and what each is doing."""

from collections.abc import Sequence

from meadow.queries import WorkerList, WorkerListQuery, WorkerRow
from meadow_web import charts
from meadow_web.pages.page import Content, Page, Visit

TOTALS = ("task-received", "task-failed", "task-succeeded")


async def load(visit: Visit) -> Content:
    """All workers, those online first."""
    answer = await visit.ask.api(WorkerListQuery(cluster=visit.cluster), WorkerList)
    rows = shown_workers(answer.rows, visit.settings.purge_offline_workers, visit.now)
    online = [row for row in rows if row.online]
    values = {
        "workers": rows,
        "online": len(online),
        "active": sum(row.active or 0 for row in online),
        "places": sum(row.concurrency or 0 for row in online),
        "totals": {name: sum(row.counters.get(name, 0) for row in rows) for name in TOTALS},
        "known": len(answer.rows),
        "bar": charts.bar,
    }
    return Content("Workers", values)


def shown_workers(rows: Sequence[WorkerRow], purge: int | None, now: float) -> list[WorkerRow]:
    """Online ones first, then by name; without those that are offline for longer than `purge` seconds."""
    kept = [row for row in rows if row.online or purge is None or now - (row.last_seen or 0.0) < purge]
    return sorted(kept, key=lambda row: (not row.online, row.hostname))


PAGE = Page("workers", "/workers", frozenset({"workers"}), load, pace=0.5, ages=True, section="workers")
