"""How events arrive: whether any are missing, where they are late, and the gaps."""

from meadow.queries import Pipeline, PipelineQuery
from meadow_web.arrival import arrival, span
from meadow_web.pages.page import Content, Page, Visit
from meadow_web.verdict import gap_words

RANGES = {"1h": 3600.0, "24h": 86400.0, "7d": 604800.0}
DEFAULT_RANGE = "1h"
MOST_WORKERS = 200
VISIBLE_SKEW = 1.0


async def load(visit: Visit) -> Content:
    """One question to the api, then words from its answer."""
    chosen = visit.text("range", DEFAULT_RANGE)
    chosen = chosen if chosen in RANGES else DEFAULT_RANGE
    pipeline = await visit.ask.api(PipelineQuery(cluster=visit.cluster, seconds=RANGES[chosen]), Pipeline)
    found = arrival(pipeline)
    events, *_ = [*pipeline.streams, None]
    values = {
        "verdict": found,
        "pipeline": pipeline,
        "events": events,
        "workers": pipeline.workers[:MOST_WORKERS],
        "more_workers": max(pipeline.workers_known - MOST_WORKERS, 0),
        "surplus": pipeline.total.surplus > 0,
        "lacking": pipeline.total.missing > 0,
        "visible_skew": VISIBLE_SKEW,
        "gaps": [(gap, gap_words([gap])) for gap in pipeline.gaps],
        "discarded": sorted(pipeline.collector.discarded.items(), key=lambda item: (-item[1], item[0])),
        "range": chosen,
        "ranges": tuple(RANGES),
        "span": span(pipeline.seconds),
    }
    return Content("Pipeline", values, mood=found.mood)


PAGE = Page(
    "pipeline",
    "/pipeline",
    frozenset({"pipeline", "collector"}),
    load,
    pace=1.0,
    ages=True,
    section="pipeline",
    parameters=frozenset({"range"}),
)
