"""Reads the broker's events for ever: connects, reads, and connects again. Lives in a thread of its own."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from meadow.broker import Deliver, Discard, EventSource
from meadow.errors import BrokerUnavailable
from meadow_collector.backoff import Backoff

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Link:
    """The state of the connection to the broker, since when, and why there is none."""

    connected: bool
    since: float
    error: str | None = None


class Reader:
    """Keeps an event source running.

    In the reader's thread, `changed` is called with each new state, and `lost` with the times between which events
    were missed because there was no connection.
    """

    def __init__(
        self,
        source: EventSource,
        shown_broker: str,
        deliver: Deliver,
        discard: Discard,
        changed: Callable[[Link], None],
        lost: Callable[[float, float], None],
    ) -> None:
        self._source = source
        self._shown_broker = shown_broker
        self._deliver = deliver
        self._discard = discard
        self._changed = changed
        self._lost = lost
        self._stopping = threading.Event()
        self._had_connection = False
        self.link = Link(connected=False, since=time.time())

    def run(self) -> None:
        """Read until `stop`."""
        backoff = Backoff()
        while not self._stopping.is_set():
            reason = self._read_once()
            if self._stopping.is_set():
                break
            stood = time.time() - self.link.since if self.link.connected else 0.0
            self._note_lost(reason)
            self._stopping.wait(backoff.pause(stood=stood))
        if self.link.connected:
            self._change(Link(connected=False, since=time.time(), error="The collector has stopped."))

    def stop(self) -> None:
        """Make `run` return soon. May be called twice."""
        self._stopping.set()
        self._source.stop()

    def _read_once(self) -> str:
        try:
            self._source.run(self._deliver, self._discard, self._note_connected)
        except BrokerUnavailable as exc:
            return str(exc)
        except Exception as exc:
            log.exception("The event source failed.", extra={"action": "broker.failed"})
            return f"The event source failed: {type(exc).__name__}: {exc}"
        return "The event source ended by itself."

    def _note_connected(self, *, complete: bool = False) -> None:
        now = time.time()
        before = self.link
        self._change(Link(connected=True, since=now))
        log.info("Reading events from %s.", self._shown_broker, extra={"action": "broker.connected"})
        if self._had_connection and not complete:
            self._lost(before.since, now)
        self._had_connection = True

    def _note_lost(self, reason: str) -> None:
        before = self.link
        if before.connected or before.error != reason:
            log.warning("No events from %s: %s", self._shown_broker, reason, extra={"action": "broker.lost"})
        since = time.time() if before.connected else before.since
        self._change(Link(connected=False, since=since, error=reason))

    def _change(self, link: Link) -> None:
        self.link = link
        self._changed(link)
