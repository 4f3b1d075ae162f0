"""The publisher's way into the stream. On brokers where every collector hears everything, one of them may use it."""

from typing import Protocol

from meadow.bus import Bus, Fence
from meadow.errors import BusUnavailable, Superseded
from meadow_collector.lease import Lease


class Stream(Protocol):
    """Where batches go: a bus, or the way to it that a lease opens."""

    @property
    def connected(self) -> bool:
        """Whether there is a connection to NATS just now."""

    @property
    def max_payload(self) -> int:
        """The largest message, in bytes."""

    async def append(self, subject: str, data: bytes, *, message_id: str | None = None, timeout: float = 5.0) -> int:
        """Store one message; raises `BusUnavailable`."""


class LeasedStream:
    """Stores only while this collector holds the lease, and only behind the fence that it has put up itself.

    The lease keeps a collector that was paused from beginning to send. The fence keeps out what it had begun to send:
    NATS itself refuses that once another collector has put up a newer one.
    """

    def __init__(self, bus: Bus, lease: Lease) -> None:
        self._bus = bus
        self._lease = lease
        self.fence: Fence | None = None
        self.newest = 0
        """The sequence of the newest message that was stored."""
        self.refused = False
        """Whether NATS has refused a message because of the fence."""

    @property
    def connected(self) -> bool:
        """Whether there is a connection to NATS just now."""
        return self._bus.connected

    @property
    def max_payload(self) -> int:
        """The largest message, in bytes."""
        return self._bus.max_payload

    async def append(self, subject: str, data: bytes, *, message_id: str | None = None, timeout: float = 5.0) -> int:
        """Store one message; raises `BusUnavailable` when this collector may not."""
        if self.fence is None or not self._lease.held:
            raise BusUnavailable("This collector does not hold the lease on publishing.")
        try:
            sequence = await self._bus.append(subject, data, message_id=message_id, timeout=timeout, fence=self.fence)
        except Superseded:
            self.refused = True
            raise
        self.newest = max(self.newest, sequence)
        return sequence
