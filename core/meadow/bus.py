"""The connection to NATS: the only module that speaks nats-py. Its errors become those of `meadow.errors`."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext, api
from nats.js import errors as js_errors
from nats.js.kv import KeyValue

from meadow import subjects
from meadow.answering import PATIENCE, Answering, Handler
from meadow.errors import AnswerTimedOut, BusError, BusUnavailable, NobodyAnswers, Superseded

log = logging.getLogger(__name__)

Listener = Callable[[str, bytes], Awaitable[None]]

READ_AHEAD = 64
READ_WAIT = 1.0
READ_PATIENCE = 5.0
PENDING_BYTES = 64 * 1024 * 1024
CONNECT_SECONDS = 2.0
DUPLICATE_WINDOW = 120.0
LEASE_KEPT = 10.0
"""Seconds after which a lease that nobody renews is forgotten. Whoever waits for it has decided long before."""
LEASE_PATIENCE = 0.5
WRONG_LAST_SEQUENCE = 10071
FENCES_SINCE = (2, 11)
"""The first nats-server that compares the sequence of another subject than the message's own."""


@dataclass(frozen=True)
class StreamLimits:
    """How much of the streams is kept: seconds (0: for ever) and bytes (-1: no limit)."""

    max_age: float = 7 * 86400.0
    max_bytes: int = 8 * 1024**3


@dataclass(frozen=True)
class StreamMessage:
    """One message of a stream. `sequence` is its place in the stream."""

    sequence: int
    subject: str
    data: bytes


@dataclass(frozen=True)
class StreamState:
    """What a stream holds. `identity` differs when the stream was deleted and made anew."""

    identity: str
    first: int
    last: int


@dataclass(frozen=True)
class Fence:
    """A message is stored only while the message at `sequence` (0: none) is the last one on `subject`."""

    subject: str
    sequence: int


@dataclass(frozen=True)
class Leased:
    """What stands in a lease: `revision` changes whenever it is written."""

    revision: int
    value: bytes


class Bus:
    """One connection to NATS with JetStream. Reconnects for ever by itself."""

    def __init__(self, client: Client, url: str) -> None:
        self._client = client
        self._jetstream: JetStreamContext = client.jetstream(timeout=5)
        self._answering: list[Answering] = []
        self._limits: StreamLimits | None = None
        self._brief: JetStreamContext = client.jetstream(timeout=LEASE_PATIENCE)
        self._leases: KeyValue | None = None
        self.url = url

    @classmethod
    async def connect(cls, url: str, *, name: str, patience: float = 0.0) -> "Bus":
        """Connect, trying again for `patience` seconds; raises `BusUnavailable`."""
        deadline = asyncio.get_running_loop().time() + patience
        while True:
            try:
                return cls(await _connect_once(url, name), url)
            except (NatsError, OSError, TimeoutError, ValueError) as exc:
                if asyncio.get_running_loop().time() >= deadline:
                    raise BusUnavailable(
                        f"NATS cannot be reached at {safe_url(url)} ({_reason(exc)}). Start it with 'nats-server -js', "
                        "correct --nats-url, or leave --nats-url out so that Meadow starts its own."
                    ) from exc
                log.warning(
                    "NATS cannot be reached at %s (%s), trying again.",
                    safe_url(url),
                    _reason(exc),
                    extra={"action": "nats.unreachable"},
                )
                await asyncio.sleep(1.0)

    @property
    def connected(self) -> bool:
        """Whether there is a connection just now."""
        return bool(self._client.is_connected)

    @property
    def max_payload(self) -> int:
        """The largest message, in bytes, that the server takes."""
        return int(self._client.max_payload)

    async def close(self) -> None:
        """Finish the answers under way and close. May be called twice."""
        await asyncio.gather(*(answering.finished(2.0) for answering in self._answering))
        if not self._client.is_closed:
            try:
                async with asyncio.timeout(2.0):
                    await self._client.flush()
            except (NatsError, OSError, TimeoutError) as exc:
                log.debug("The last messages could not be flushed: %s", _reason(exc))
            await self._client.close()

    # -- streams --------------------------------------------------------------------------------------------------

    async def declare_streams(self, limits: StreamLimits) -> None:
        """Create Meadow's streams, or bring their limits up to date. Calling it again changes nothing.

        From then on, a stream that somebody deletes is made again when it is missed.
        """
        self._limits = limits
        await self._declare(
            api.StreamConfig(
                name=subjects.EVENTS_STREAM,
                description="Facts about tasks, workers and queues (Meadow)",
                subjects=[subjects.ALL_EVENTS],
                max_age=limits.max_age,
                max_bytes=limits.max_bytes,
                discard=api.DiscardPolicy.OLD,
                storage=api.StorageType.FILE,
                duplicate_window=min(DUPLICATE_WINDOW, limits.max_age or DUPLICATE_WINDOW),
            )
        )
        await self._declare(
            api.StreamConfig(
                name=subjects.AUDIT_STREAM,
                description="Who did what to which cluster (Meadow)",
                subjects=[subjects.ALL_AUDIT],
                storage=api.StorageType.FILE,
                deny_delete=True,
                deny_purge=True,
            )
        )

    async def _declare(self, config: api.StreamConfig) -> None:
        try:
            try:
                await self._jetstream.add_stream(config)
            except js_errors.BadRequestError:  # it exists with other limits
                await self._jetstream.update_stream(config)
        except js_errors.ServiceUnavailableError as exc:
            raise BusError(
                "This NATS has no JetStream. Start it with 'nats-server -js', or enable jetstream in its configuration."
            ) from exc
        except (js_errors.Error, NatsError) as exc:
            raise BusError(f"The stream {config.name} could not be declared: {_reason(exc)}") from exc

    async def _make_again(self) -> None:
        """Somebody has deleted a stream: who declared them makes them again."""
        if self._limits is None:
            return
        log.warning("A stream is gone and is made again; what it held is lost.", extra={"action": "nats.stream-gone"})
        try:
            await self.declare_streams(self._limits)
        except BusError as exc:
            log.warning("%s", exc, extra={"action": "nats.stream-not-made"})

    async def stream_state(self, stream: str) -> StreamState:
        """What the stream holds now; raises `BusError`."""
        try:
            info = await self._jetstream.stream_info(stream)
        except (js_errors.Error, NatsError) as exc:
            raise BusError(f"The stream {stream} does not answer: {_reason(exc)}") from exc
        created: datetime | None = info.created
        identity = created.isoformat() if created is not None else ""
        return StreamState(identity, int(info.state.first_seq), int(info.state.last_seq))

    @property
    def fences(self) -> bool:
        """Whether the server can refuse what comes from behind a fence that somebody has moved."""
        version = self._client.connected_server_version
        return (version.major, version.minor) >= FENCES_SINCE

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
        headers = {"Nats-Msg-Id": message_id} if message_id else {}
        if fence is not None and (fence.subject == subject or self.fences):
            headers["Nats-Expected-Last-Subject-Sequence"] = str(fence.sequence)
            if fence.subject != subject:
                headers["Nats-Expected-Last-Subject-Sequence-Subject"] = fence.subject
        try:
            ack = await self._jetstream.publish(subject, data, timeout=timeout, headers=headers or None)
        except js_errors.APIError as exc:
            refused = Superseded if exc.err_code == WRONG_LAST_SEQUENCE else BusUnavailable
            raise refused(f"NATS did not store a message on {subject}: {_reason(exc)}") from exc
        except js_errors.NoStreamResponseError as exc:
            await self._make_again()
            raise BusUnavailable(f"NATS has no stream for {subject}.") from exc
        except (js_errors.Error, NatsError, TimeoutError) as exc:
            raise BusUnavailable(f"NATS did not store a message on {subject}: {_reason(exc)}") from exc
        return int(ack.seq)

    async def read(self, stream: str, *, after: int | None, subject: str) -> AsyncGenerator[list[StreamMessage], None]:
        """Everything on `subject` in `stream` behind sequence `after` (`None`: only what comes from now on), in order,
        until the bus is closed. Yields lists of one or more messages, and an empty list about once a second when
        nothing comes.

        A lost connection or a lost consumer is mended from the last message that was yielded.
        """
        position = after
        while not self._client.is_closed:  # nats-py says that instead of passing a cancellation on
            try:
                position = await self._still(stream, position)
                subscription = await self._open(stream, position, subject)
            except js_errors.NotFoundError:
                await self._make_again()
                yield []
                await asyncio.sleep(0.5)
                continue
            except (js_errors.Error, NatsError, TimeoutError) as exc:
                log.warning("Reading %s has to wait: %s", stream, _reason(exc), extra={"action": "nats.read-waits"})
                yield []
                await asyncio.sleep(0.5)
                continue
            try:
                while True:
                    try:
                        raw = await subscription.fetch(READ_AHEAD, timeout=READ_WAIT)
                    except (NatsTimeout, TimeoutError):
                        yield []
                        if not await self._consumer_lives(subscription):
                            break
                        continue
                    messages = [StreamMessage(m.metadata.sequence.stream, m.subject, m.data) for m in raw]
                    if position is not None:
                        messages = [m for m in messages if m.sequence > position]
                    if messages:
                        position = messages[-1].sequence
                        yield messages
            except (js_errors.Error, NatsError) as exc:
                log.warning("Reading %s was cut: %s", stream, _reason(exc), extra={"action": "nats.read-cut"})
                await asyncio.sleep(0.2)
            finally:
                await _forget(subscription)

    async def read_since(self, stream: str, since: float, *, subject: str) -> AsyncIterator[list[StreamMessage]]:
        """Everything on `subject` that NATS stored at or after `since` (UTC epoch seconds), up to what is there now,
        in order; then it ends. Raises `BusUnavailable`.
        """
        config = api.ConsumerConfig(
            deliver_policy=api.DeliverPolicy.BY_START_TIME,
            opt_start_time=datetime.fromtimestamp(max(since, 0.0), UTC),
            ack_policy=api.AckPolicy.NONE,
            inactive_threshold=60.0,
            mem_storage=True,
            num_replicas=1,
        )
        try:
            subscription = await self._jetstream.pull_subscribe(
                subject, stream=stream, config=config, pending_bytes_limit=PENDING_BYTES
            )
            try:
                left = (await subscription.consumer_info()).num_pending or 0
                while left > 0:
                    raw = await subscription.fetch(min(left, READ_AHEAD), timeout=READ_PATIENCE)
                    left -= len(raw)
                    yield [StreamMessage(m.metadata.sequence.stream, m.subject, m.data) for m in raw]
            finally:
                await _forget(subscription)
        except (js_errors.Error, NatsError, TimeoutError) as exc:
            raise BusUnavailable(f"The stream {stream} could not be read back: {_reason(exc)}") from exc

    async def last_stored(self, stream: str, subject: str) -> float | None:
        """When NATS stored the last message on `subject`, if there is one; raises `BusUnavailable`."""
        try:
            message = await self._jetstream.get_last_msg(stream, subject)
        except js_errors.NotFoundError:
            return None
        except (js_errors.Error, NatsError, TimeoutError) as exc:
            raise BusUnavailable(f"The stream {stream} does not answer: {_reason(exc)}") from exc
        return message.time.timestamp() if message.time is not None else None

    async def last_on(self, stream: str, subject: str) -> StreamMessage | None:
        """The last message on `subject`, if there is one; raises `BusUnavailable`."""
        try:
            message = await self._jetstream.get_last_msg(stream, subject)
        except js_errors.NotFoundError:
            return None
        except (js_errors.Error, NatsError, TimeoutError) as exc:
            raise BusUnavailable(f"The stream {stream} does not answer: {_reason(exc)}") from exc
        return StreamMessage(int(message.seq or 0), subject, message.data or b"")

    async def _still(self, stream: str, position: int | None) -> int | None:
        """The position, or the beginning of a stream that was made anew meanwhile."""
        if not position:
            return position
        return position if (await self._jetstream.stream_info(stream)).state.last_seq >= position else 0

    async def _consumer_lives(self, subscription: JetStreamContext.PullSubscription) -> bool:
        if not self.connected:
            return True
        try:
            await subscription.consumer_info()
        except js_errors.NotFoundError:
            return False
        except (js_errors.Error, NatsError, TimeoutError):
            return True
        return True

    async def _open(self, stream: str, after: int | None, subject: str) -> JetStreamContext.PullSubscription:
        config = api.ConsumerConfig(
            deliver_policy=api.DeliverPolicy.NEW if after is None else api.DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=None if after is None else after + 1,
            ack_policy=api.AckPolicy.NONE,
            inactive_threshold=60.0,
            mem_storage=True,
            num_replicas=1,
        )
        return await self._jetstream.pull_subscribe(
            subject, stream=stream, config=config, pending_bytes_limit=PENDING_BYTES
        )

    # -- core NATS ------------------------------------------------------------------------------------------------

    async def tell(self, subject: str, data: bytes) -> None:
        """Say it to whoever listens now."""
        try:
            await self._client.publish(subject, data)
        except NatsError as exc:
            raise BusUnavailable(f"Nothing can be published on {subject}: {_reason(exc)}") from exc

    async def listen(self, subject: str, listener: Listener) -> None:
        """Hear everything that is told on `subject` from now on, one message at a time."""

        async def heard(message: Msg) -> None:
            try:
                await listener(message.subject, message.data)
            except Exception:
                log.exception("A message on %s was not understood.", message.subject, extra={"action": "bus.listener"})

        await self._client.subscribe(subject, cb=heard)
        await self._subscribed()

    async def ask(self, subject: str, data: bytes, *, timeout: float = 10.0) -> bytes:
        """Ask and wait for one answer; raises `NobodyAnswers`, `AnswerTimedOut` or `BusUnavailable`."""
        try:
            patience = {PATIENCE: f"{timeout:g}"}
            message = await self._client.request(subject, data, timeout=timeout, headers=patience)
        except NoRespondersError as exc:
            raise NobodyAnswers(f"No service listens on {subject}.") from exc
        except (NatsTimeout, TimeoutError) as exc:
            raise AnswerTimedOut(f"There was no answer on {subject} within {timeout:g} s.") from exc
        except NatsError as exc:
            raise BusUnavailable(f"Nothing can be asked on {subject}: {_reason(exc)}") from exc
        return bytes(message.data)

    async def answer(self, handlers: Mapping[str, Handler], *, group: str) -> Answering:
        """Answer what is asked on each subject, until what is given is stopped. Any member of `group` may answer."""
        answering = Answering()
        self._answering.append(answering)
        for subject, handler in handlers.items():
            await answering.listen(self._client, subject, handler, group)
        await self._subscribed()
        return answering

    async def _subscribed(self) -> None:
        """Wait until the server knows of the subscriptions, so that nothing said from now on is missed."""
        if not self.connected:
            return  # they are made again with the next connection
        try:
            await self._client.flush()
        except (NatsError, TimeoutError) as exc:
            log.debug("A subscription could not be confirmed: %s", _reason(exc))

    # -- keys shared by all services --------------------------------------------------------------------------------

    async def shared_key(self, name: str, candidate: bytes, *, patience: float = 15.0) -> bytes:
        """The value under `name` that all services share: `candidate`, unless somebody was first.

        Raises `BusError` when NATS does not answer for `patience` seconds.
        """
        deadline = asyncio.get_running_loop().time() + patience
        while True:
            try:
                return await self._first_or_mine(name, candidate)
            except (js_errors.Error, NatsError, OSError, TimeoutError) as exc:
                if asyncio.get_running_loop().time() >= deadline:
                    raise BusError(f"The shared key {name!r} could not be read from NATS: {_reason(exc)}") from exc
                await asyncio.sleep(0.5)

    async def _first_or_mine(self, name: str, candidate: bytes) -> bytes:
        bucket = await self._bucket(subjects.KEYS_BUCKET)
        try:
            await bucket.create(name, candidate)
        except js_errors.KeyWrongLastSequenceError:
            entry = await bucket.get(name)
            return bytes(entry.value or b"")
        return candidate

    async def _bucket(self, name: str) -> KeyValue:
        try:
            return await self._jetstream.key_value(name)
        except js_errors.NotFoundError:
            return await self._jetstream.create_key_value(api.KeyValueConfig(bucket=name))

    # -- leases -----------------------------------------------------------------------------------------------------

    async def lease(self, name: str) -> Leased | None:
        """What stands in the lease; `None` when nobody has written it for long. Raises `BusUnavailable` soon."""
        async with self._lease_bucket() as bucket:
            try:
                entry = await bucket.get(name)
            except js_errors.KeyNotFoundError:
                return None
            return Leased(int(entry.revision or 0), bytes(entry.value or b""))

    async def write_lease(self, name: str, value: bytes, *, after: int) -> int:
        """Write the lease if its revision is still `after` (0: there is none), and give the new one.

        Raises `Superseded` when somebody else has written it, and soon `BusUnavailable`, which leaves open whether it
        was written.
        """
        async with self._lease_bucket() as bucket:
            try:
                return int(await bucket.update(name, value, last=after))
            except js_errors.KeyWrongLastSequenceError as exc:
                raise Superseded(f"Somebody else has written the lease {name!r}.") from exc

    @asynccontextmanager
    async def _lease_bucket(self) -> AsyncIterator[KeyValue]:
        if not self.connected:
            raise BusUnavailable("There is no connection to NATS.")
        try:
            if self._leases is None:
                self._leases = await self._open_leases()
            yield self._leases
        except (js_errors.Error, NatsError, OSError, TimeoutError) as exc:
            self._leases = None
            raise BusUnavailable(f"The leases do not answer: {_reason(exc)}") from exc

    async def _open_leases(self) -> KeyValue:
        try:
            return await self._brief.key_value(subjects.LEASES_BUCKET)
        except js_errors.NotFoundError:
            config = api.KeyValueConfig(bucket=subjects.LEASES_BUCKET, ttl=LEASE_KEPT)
            return await self._brief.create_key_value(config)


async def _connect_once(url: str, name: str) -> Client:
    """A client that reconnects for ever once it is connected. nats-py would try the first connection for ever, too."""
    client = Client()
    loop = asyncio.get_running_loop()
    refused: asyncio.Future[None] = loop.create_future()

    async def on_error(exc: Exception) -> None:
        if client.is_connected or refused.done():
            await _log_error(exc)
        else:
            refused.set_exception(exc)

    async def on_disconnected() -> None:
        if not client.is_closed:
            log.warning("The connection to NATS was lost.", extra={"action": "nats.disconnected"})

    connecting = loop.create_task(
        client.connect(
            url,
            name=name,
            connect_timeout=int(CONNECT_SECONDS),
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.5,  # type: ignore[arg-type]
            pending_size=PENDING_BYTES,
            error_cb=on_error,
            disconnected_cb=on_disconnected,
            reconnected_cb=_log_reconnected,
        )
    )
    try:
        async with asyncio.timeout(CONNECT_SECONDS + 1.0):
            await asyncio.wait({connecting, refused}, return_when=asyncio.FIRST_COMPLETED)
        if connecting.done():
            await connecting
            refused.cancel()
        else:
            await refused
    except BaseException:
        connecting.cancel()
        await asyncio.wait({connecting})
        await client.close()
        raise
    return client


async def _forget(subscription: JetStreamContext.PullSubscription) -> None:
    try:
        await subscription.unsubscribe()
    except (NatsError, js_errors.Error) as exc:
        log.debug("A subscription was already gone: %s", _reason(exc))


def safe_url(url: str) -> str:
    """The URL without its password.

    >>> safe_url("nats://me:secret@host:4222")
    'nats://me:***@host:4222'
    """
    scheme, separator, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    if not at:
        return url
    user, colon, _ = credentials.partition(":")
    return f"{scheme}{separator}{user}{':***' if colon else ''}@{host}"


def _reason(exc: BaseException) -> str:
    return str(exc) or type(exc).__name__


async def _log_error(exc: Exception) -> None:
    log.warning("NATS: %s", _reason(exc), extra={"action": "nats.error"})


async def _log_reconnected() -> None:
    log.info("Connected to NATS again.", extra={"action": "nats.reconnected"})
