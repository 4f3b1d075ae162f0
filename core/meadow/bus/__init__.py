"""The bus: all that services can say to and ask of each other over NATS, on one page.

How each of it is done stands in the module of its name: `client` (the connection), `streams` (declaring, appending),
`reading` (of streams), `talking` and `answering` (what is not kept), `shared_keys`, `leases`. Only they speak nats-py,
and its errors become those of `meadow.errors`.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping

from nats.aio.client import Client
from nats.errors import Error as NatsError

from meadow.bus import shared_keys, talking
from meadow.bus.answering import Answering, Handler
from meadow.bus.client import connect, reason_of
from meadow.bus.leases import Leased, Leases
from meadow.bus.reading import READ_AHEAD, Reader, read_back
from meadow.bus.streams import Fence, StreamLimits, StreamMessage, Streams, StreamState
from meadow.bus.talking import Listener

__all__ = [
    "READ_AHEAD",
    "Answering",
    "Bus",
    "Fence",
    "Handler",
    "Leased",
    "Listener",
    "StreamLimits",
    "StreamMessage",
    "StreamState",
]

log = logging.getLogger(__name__)

CLOSE_SECONDS = 2.0


class Bus:
    """One connection to NATS with JetStream. Reconnects for ever by itself."""

    def __init__(self, client: Client, url: str) -> None:
        self._client = client
        self._streams = Streams(client)
        self._leases = Leases(client)
        self._answering: list[Answering] = []
        self.url = url

    @classmethod
    async def connect(cls, url: str, *, name: str, patience: float = 0.0) -> "Bus":
        """Connect, trying again for `patience` seconds; raises `BusUnavailable`."""
        return cls(await connect(url, name, patience), url)

    @property
    def connected(self) -> bool:
        """Whether there is a connection just now."""
        return bool(self._client.is_connected)

    @property
    def reconnections(self) -> int:
        """How often the connection was made anew. What was told while there was none has not been heard."""
        return int(self._client.stats["reconnects"])

    @property
    def max_payload(self) -> int:
        """The largest message, in bytes, that the server takes."""
        return int(self._client.max_payload)

    async def close(self) -> None:
        """Finish the answers under way and close. May be called twice."""
        await asyncio.gather(*(answering.finished(CLOSE_SECONDS) for answering in self._answering))
        if self._client.is_closed:
            return
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._client.flush()
        except (NatsError, OSError, TimeoutError) as exc:
            log.debug("The last messages could not be flushed: %s", reason_of(exc))
        await self._client.close()

    # -- streams: what is kept ------------------------------------------------------------------------------------

    async def declare_streams(self, limits: StreamLimits) -> None:
        """Create Meadow's streams, or bring their limits up to date; raises `BusError`.

        Calling it again changes nothing. From then on, a stream that somebody deletes is made again when it is missed.
        """
        await self._streams.declare(limits)

    async def check_jetstream(self) -> None:
        """Raise `BusError` where the server has no JetStream. Changes nothing there."""
        await self._streams.available()

    async def stream_state(self, stream: str) -> StreamState:
        """What the stream holds now; raises `BusError`."""
        return await self._streams.state(stream)

    @property
    def fences(self) -> bool:
        """Whether the server can refuse what comes from behind a fence that somebody has moved."""
        return self._streams.fences

    async def append(
        self,
        subject: str,
        data: bytes,
        *,
        message_id: str | None = None,
        timeout: float = 5.0,
        fence: Fence | None = None,
    ) -> int:
        """Store one message in the stream that takes `subject`, and give its sequence.

        With a `message_id`, a repetition within two minutes is stored once. Raises `BusUnavailable`, and with a `fence`
        that is not the last message on its subject `Superseded`. Servers before 2.11 heed fences on the message's own
        subject only.
        """
        return await self._streams.append(subject, data, message_id, timeout, fence)

    def read(self, stream: str, *, after: int | None, subject: str) -> AsyncGenerator[list[StreamMessage], None]:
        """Everything on `subject` in `stream` behind sequence `after` (`None`: only what comes from now on), in order,
        until the bus is closed. Yields lists of one or more messages, and an empty list about once a second when
        nothing comes.

        A lost connection or a lost consumer is mended from the last message that was yielded.
        """
        return Reader(self._client, self._streams, stream, subject, after).read()

    def read_since(self, stream: str, since: float, *, subject: str) -> AsyncIterator[list[StreamMessage]]:
        """Everything on `subject` that NATS stored at or after `since` (UTC epoch seconds), up to what is there now,
        in order; then it ends. Raises `BusUnavailable`.
        """
        return read_back(self._client, stream, subject, since)

    async def last_stored(self, stream: str, subject: str) -> float | None:
        """When NATS stored the last message on `subject`, if there is one; raises `BusUnavailable`."""
        last = await self._streams.last_on(stream, subject)
        return last.time.timestamp() if last is not None and last.time is not None else None

    async def last_on(self, stream: str, subject: str) -> StreamMessage | None:
        """The last message on `subject`, if there is one; raises `BusUnavailable`."""
        last = await self._streams.last_on(stream, subject)
        return None if last is None else StreamMessage(int(last.seq or 0), subject, last.data or b"")

    # -- what is not kept -----------------------------------------------------------------------------------------

    async def tell(self, subject: str, data: bytes) -> None:
        """Say it to whoever listens now; raises `BusUnavailable`."""
        await talking.tell(self._client, subject, data)

    async def listen(self, subject: str, listener: Listener) -> None:
        """Hear everything that is told on `subject` from now on, one message at a time."""
        await talking.listen(self._client, subject, listener)

    async def ask(self, subject: str, data: bytes, *, timeout: float = 10.0) -> bytes:
        """Ask and wait for one answer; raises `NobodyAnswers`, `AnswerTimedOut` or `BusUnavailable`."""
        return await talking.ask(self._client, subject, data, timeout)

    async def answer(self, handlers: Mapping[str, Handler], *, group: str) -> Answering:
        """Answer what is asked on each subject, until what is given is stopped. Any member of `group` may answer."""
        answering = await talking.answer(self._client, handlers, group)
        self._answering.append(answering)
        return answering

    # -- what one has for all -------------------------------------------------------------------------------------

    async def shared_key(self, name: str, candidate: bytes, *, patience: float = 15.0) -> bytes:
        """The value under `name` that all services share: `candidate`, unless somebody was first.

        Raises `BusError` when NATS does not answer for `patience` seconds.
        """
        return await shared_keys.shared_key(self._client, name, candidate, patience)

    async def lease(self, name: str) -> Leased | None:
        """What stands in the lease; `None` when nobody has written it for long. Raises `BusUnavailable` soon."""
        return await self._leases.read(name)

    async def write_lease(self, name: str, value: bytes, *, after: int) -> int:
        """Write the lease if its revision is still `after` (0: there is none), and give the new one.

        Raises `Superseded` when somebody else has written it, and soon `BusUnavailable`, which leaves open whether it
        was written.
        """
        return await self._leases.write(name, value, after)
