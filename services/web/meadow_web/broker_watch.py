"""What the collector says about the broker, for the banner on every page."""

from dataclasses import dataclass

from meadow.codec import decode_batch
from meadow.events import CollectorReported


@dataclass(frozen=True)
class Banner:
    """Something that makes all that is shown old. `since` is when it began."""

    words: str
    since: float | None = None


class BrokerWatch:
    """Remembers the collector's last report. Before the first one nothing is known, so nothing is said."""

    def __init__(self, silent_after: float = 20.0) -> None:
        self._silent_after = silent_after
        self._report: CollectorReported | None = None

    def hear(self, data: bytes) -> bool:
        """Take note of a batch of the collector's facts; whether the banner may have changed."""
        changed = False
        for fact in decode_batch(data).events:
            if isinstance(fact, CollectorReported):
                before = self._report
                changed = changed or before is None or before.connected != fact.connected or before.error != fact.error
                self._report = fact
        return changed

    def banner(self, now: float) -> Banner | None:
        """What every page has to say first, or `None`."""
        report = self._report
        if report is None:
            return None
        if not report.connected:
            reason = f" ({report.error.rstrip('.')})" if report.error else ""
            return Banner(f"The broker cannot be reached: {report.broker}{reason}. What is shown is old", report.since)
        if now - report.seen > self._silent_after:
            return Banner("The collector has fallen silent. What is shown is old", report.seen)
        return None
