"""What the collectors of one cluster tell each other: who stands by, and that somebody has let go of the lease.

Hears and says: `meadow.standby.<cluster>`. It is told and forgotten; nothing depends on it but how soon things happen.
"""

import logging
from collections.abc import Callable

from msgspec import Struct

from meadow import subjects
from meadow.bus import Bus
from meadow.codec import decode, encode
from meadow.errors import InvalidMessage
from meadow_collector.lease import steady

log = logging.getLogger(__name__)

GONE = 3.5
"""Seconds without a word after which a collector does not count as standing by."""
MOST = 32
LONGEST_NAME = 255


class Standing(Struct, frozen=True, omit_defaults=True):
    """What a collector tells the others: that it stands by, and whether it hears the broker; or that it has let go."""

    name: str
    collector: str
    connected: bool = False
    reach: float = 0.0
    let_go: bool = False


class Peers:
    """The other collectors, as far as they say that they are there. `me` is this one's name."""

    def __init__(self, bus: Bus, cluster: str, me: str) -> None:
        self._bus = bus
        self._subject = subjects.standby(cluster)
        self._me = me
        self._heard: dict[str, tuple[float, Standing]] = {}
        self._let_go: Callable[[], None] = lambda: None

    @property
    def standing(self) -> tuple[Standing, ...]:
        """Those who have said lately that they stand by."""
        now = steady()
        return tuple(standing for heard, standing in self._heard.values() if now - heard < GONE)

    async def listen(self, let_go: Callable[[], None]) -> None:
        """Hear the others from now on; `let_go` is called when one says that the lease may be free."""
        self._let_go = let_go
        await self._bus.listen(self._subject, self._hear)

    async def tell(self, standing: Standing) -> None:
        """Say it to those who listen now; raises `BusUnavailable`."""
        await self._bus.tell(self._subject, encode(standing))

    async def _hear(self, subject: str, data: bytes) -> None:
        try:
            standing = decode(data, Standing)
        except InvalidMessage as exc:
            log.warning("A message on %s is not understood: %s", subject, exc, extra={"action": "standby.invalid"})
            return
        if standing.name == self._me or max(len(standing.name), len(standing.collector)) > LONGEST_NAME:
            return
        if standing.let_go:
            self._heard.pop(standing.name, None)
            self._let_go()
            return
        now = steady()
        self._heard = {name: known for name, known in self._heard.items() if now - known[0] < GONE}
        if standing.name in self._heard or len(self._heard) < MOST:
            self._heard[standing.name] = (now, standing)
