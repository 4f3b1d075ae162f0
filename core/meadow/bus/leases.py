"""Leases: what one of several holds for as long as it renews it. NATS compares revisions, so only one can write."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import api
from nats.js import errors as js_errors
from nats.js.kv import KeyValue

from meadow import subjects
from meadow.bus.client import reason_of
from meadow.errors import BusUnavailable, Superseded

LEASE_KEPT = 10.0
"""Seconds after which a lease that nobody renews is forgotten. Whoever waits for it has decided long before."""
LEASE_PATIENCE = 0.5


@dataclass(frozen=True)
class Leased:
    """What stands in a lease: `revision` changes whenever it is written."""

    revision: int
    value: bytes


class Leases:
    """The leases of all clusters. Whoever holds one has to know soon, so an answer is not waited for long."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._jetstream = client.jetstream(timeout=LEASE_PATIENCE)
        self._bucket: KeyValue | None = None

    async def read(self, name: str) -> Leased | None:
        """What stands in the lease, if anything; raises `BusUnavailable`."""
        async with self._opened() as bucket:
            try:
                entry = await bucket.get(name)
            except js_errors.KeyNotFoundError:
                return None
            return Leased(int(entry.revision or 0), bytes(entry.value or b""))

    async def write(self, name: str, value: bytes, after: int) -> int:
        """Write the lease if its revision is still `after`; raises `Superseded` or `BusUnavailable`."""
        async with self._opened() as bucket:
            try:
                return int(await bucket.update(name, value, last=after))
            except js_errors.KeyWrongLastSequenceError as exc:
                raise Superseded(f"Somebody else has written the lease {name!r}.") from exc

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[KeyValue]:
        if not self._client.is_connected:
            raise BusUnavailable("There is no connection to NATS.")
        try:
            if self._bucket is None:
                self._bucket = await self._open()
            yield self._bucket
        except (js_errors.Error, NatsError, OSError, TimeoutError) as exc:
            self._bucket = None
            raise BusUnavailable(f"The leases do not answer: {reason_of(exc)}") from exc

    async def _open(self) -> KeyValue:
        try:
            return await self._jetstream.key_value(subjects.LEASES_BUCKET)
        except js_errors.NotFoundError:
            config = api.KeyValueConfig(bucket=subjects.LEASES_BUCKET, ttl=LEASE_KEPT)
            return await self._jetstream.create_key_value(config)
