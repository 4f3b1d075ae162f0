"""The queues of the broker: how deep, since when, and who consumes them."""

from meadow.queries import QueueList, QueueListQuery
from meadow_web import charts
from meadow_web.pages.page import Content, Page, Visit
from meadow_web.verdict import unattended


async def load(visit: Visit) -> Content:
    """All queues with an hour of depths. Flower's `/broker` is 404 where the broker does not tell, so ours is too."""
    queues = await visit.ask.api(QueueListQuery(cluster=visit.cluster), QueueList)
    values = {
        "queues": queues,
        "lines": {row.name: charts.line([depth for _, depth in row.samples]) for row in queues.rows},
        "peaks": {row.name: max((d for _, d in row.samples if d is not None), default=None) for row in queues.rows},
        "unattended": unattended,
    }
    return Content("Queues", values, status=404 if visit.path == "/broker" and not queues.supported else 200)


PAGE = Page("queues", "/queues", frozenset({"queues", "workers"}), load, pace=1.0, section="queues")
BROKER = Page("queues", "/broker", PAGE.topics, load, pace=1.0, section="queues")
