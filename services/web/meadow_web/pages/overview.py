"""The first screen: is it well, what needs attention, how did the last hour go."""

from meadow.queries import Overview, OverviewQuery
from meadow_web import charts
from meadow_web.pages.page import Content, Page, Visit
from meadow_web.pages.workers import occupied, online_first
from meadow_web.verdict import measure, unattended, verdict, waiting

RANGES = {"15m": 900.0, "1h": 3600.0, "6h": 21600.0, "24h": 86400.0}
DEFAULT_RANGE = "1h"
MOST_TYPES = 12
MOST_WORKERS = 12
MOST_QUEUES = 12
MOST_TASKS = 8
PERIODS = {"15m": "last 15 minutes", "1h": "last hour", "6h": "last 6 hours", "24h": "last 24 hours"}


async def load(visit: Visit) -> Content:
    """One question to the api, then words and lines from its answer."""
    span = visit.text("range", DEFAULT_RANGE)
    span = span if span in RANGES else DEFAULT_RANGE
    overview = await visit.ask.api(OverviewQuery(cluster=visit.cluster, seconds=RANGES[span]), Overview)
    found = verdict(overview)
    throughput, failures = charts.rate_charts(overview)
    workers = online_first(overview.workers)
    values = {
        "verdict": found,
        "overview": overview,
        "figures": figures(overview, PERIODS[span]),
        "charts": (throughput, failures),
        "range": span,
        "ranges": tuple(RANGES),
        "workers": workers[:MOST_WORKERS],
        "more_workers": max(len(workers) - MOST_WORKERS, 0),
        "queues": sorted(overview.queues.rows, key=lambda q: (-(q.messages or 0), q.name))[:MOST_QUEUES],
        "more_queues": max(len(overview.queues.rows) - MOST_QUEUES, 0),
        "unattended": unattended,
        "types": sorted(overview.types, key=lambda t: (-t.failed, -t.received, t.name))[:MOST_TYPES],
        "failures": overview.failures[:MOST_TASKS],
        "running": sorted(overview.running, key=lambda t: t.started or t.timestamp)[:MOST_TASKS],
    }
    return Content("Overview", values, mood=found.mood)


def figures(overview: Overview, period: str) -> list[tuple[str, str, str]]:
    """The few numbers worth a glance: (label, value, small print)."""
    rates = measure(overview)
    online = [worker for worker in overview.workers if worker.online]
    busy, places = occupied(online)
    ended = sum(point.succeeded + point.failed for point in overview.points)
    failed = sum(point.failed for point in overview.points)
    depth = waiting(overview)
    return [
        ("Workers online", f"{len(online):,}", f"of {len(overview.workers):,}" if overview.workers else ""),
        ("Running now", f"{busy:,}", f"of {places:,} processes" if places else ""),
        ("Waiting in queues", "–" if depth is None else f"{depth:,}", ""),
        ("Ended per minute", f"{rates.per_minute:,.0f}", ""),
        (f"Succeeded, {period}", f"{ended - failed:,}", ""),
        (f"Failed, {period}", f"{failed:,}", f"{100 * failed / ended:.1f} %" if failed and ended else ""),
    ]


PAGE = Page(
    "overview",
    "/",
    frozenset({"tasks", "workers", "queues", "collector"}),
    load,
    pace=1.0,
    ages=True,
    section="overview",
    parameters=frozenset({"range"}),
)
