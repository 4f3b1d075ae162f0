"""Which slices of an overview count: those that are over, since anybody looked."""

from meadow.queries import Overview, RatePoint


def observed(overview: Overview) -> list[RatePoint]:
    """Before a worker was first seen nobody was looking, so nothing is known; the last slice is still filling, and
    would look like a fall."""
    seen = [worker.first_seen for worker in overview.workers if worker.first_seen is not None]
    began = min(seen, default=0.0)
    busy = next((point.at for point in overview.points if point.received or point.succeeded or point.failed), began)
    first = min(began, busy) - overview.step
    return [point for point in overview.points if point.at >= first and point.at + overview.step <= overview.now]
