"""One worker: Flower's tabs, with Flower's controls."""

from dataclasses import dataclass
from typing import Any

from meadow.queries import WorkerAnswer, WorkerQuery, WorkerRow
from meadow_web.inspection import Inspection
from meadow_web.pages.page import Content, Page, Visit, as_dicts, unknown, whole_number

TABS = ("pool", "broker", "queues", "tasks", "limits", "config", "system", "other")
FROM = {
    "pool": "stats",
    "broker": "stats",
    "queues": "active_queues",
    "tasks": "active",
    "limits": "registered",
    "config": "conf",
    "system": "stats",
    "other": "stats",
}
DEFAULT_LIMIT = 50
OFFLINE = "The worker is offline."
UNKNOWN = (
    "It has sent no event and answers no inspection. If it has just been started, this page fills in with its first "
    "heartbeat; workers that left long ago are forgotten."
)


@dataclass(frozen=True)
class Reasons:
    """Why a control cannot work; `None` where it can."""

    any: str | None = None
    resize: str | None = None
    autoscale: str | None = None
    restart: str | None = None


async def load(visit: Visit) -> Content:
    """The worker as its events and its last inspections show it. One that is not known yet is waited for."""
    name = visit.params["name"]
    answer = await visit.ask.api(WorkerQuery(cluster=visit.cluster, hostname=name), WorkerAnswer)
    if answer.worker is None and not answer.inspection and not visit.inspected:
        return unknown("worker", name, UNKNOWN)
    worker = answer.worker or WorkerRow(hostname=name, online=bool(visit.inspected))
    inspection = Inspection({**answer.inspection, **visit.inspected})
    tab = visit.text("tab", TABS[0])
    tab = tab if tab in TABS else TABS[0]
    values: dict[str, Any] = {
        "worker": worker,
        "inspection": inspection,
        "tab": tab,
        "tabs": TABS,
        "inspected": visit.now if FROM[tab] in visit.inspected else answer.inspected.get(FROM[tab]),
        "size": inspection.pool_size or worker.concurrency,
        "why": reasons(worker, inspection, visit.closed),
        "limit": max(whole_number(visit.text("limit", str(DEFAULT_LIMIT)) or str(DEFAULT_LIMIT)), 0),
        "recent": as_dicts(answer.recent),
        "audit": answer.audit,
    }
    return Content(name, values, watched=frozenset({name}))


def reasons(worker: WorkerRow, inspection: Inspection, closed: str | None) -> Reasons:
    """Why each control is inert, the most general reason first."""
    blocked = closed or (None if worker.online else OFFLINE)
    if blocked:
        return Reasons(blocked, blocked, blocked, blocked)
    if not inspection.known:
        return Reasons()
    solo = "The solo pool has one place and cannot change." if inspection.implementation == "solo" else None
    return Reasons(
        resize=solo,
        autoscale=None if inspection.autoscaler else "This worker was started without --autoscale.",
        restart=None if inspection.pool_restarts else "Pool restarts are not enabled: set worker_pool_restarts = True.",
    )


PAGE = Page(
    "worker",
    "/worker/{name:(?s:.+)}",
    frozenset({"workers", "audit"}),
    load,
    pace=0.5,
    ages=True,
    section="workers",
    parameters=frozenset({"tab", "limit"}),
)
