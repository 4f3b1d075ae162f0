"""The streams: declared, appended to, and asked what they hold."""

import logging
from dataclasses import dataclass
from datetime import datetime

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import api
from nats.js import errors as js_errors

from meadow import subjects
from meadow.bus.client import reason_of
from meadow.errors import BusError, BusUnavailable, Superseded

log = logging.getLogger(__name__)

JETSTREAM_SECONDS = 5.0
DUPLICATE_WINDOW = 120.0
NO_JETSTREAM = "This NATS has no JetStream. Start it with 'nats-server -js', or enable jetstream in its configuration."
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


class Streams:
    """Meadow's streams on one connection."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._jetstream = client.jetstream(timeout=JETSTREAM_SECONDS)
        self._limits: StreamLimits | None = None

    async def declare(self, limits: StreamLimits) -> None:
        """Create the streams, or bring their limits up to date; raises `BusError`."""
        self._limits = limits
        await self._declare(_events_stream(limits), ("subjects", "max_age", "max_bytes", "duplicate_window"))
        await self._declare(_audit_stream(), ("subjects",))

    async def available(self) -> None:
        """Raise `BusError` where the server has no JetStream."""
        try:
            await self._jetstream.account_info()
        except js_errors.ServiceUnavailableError as exc:
            raise BusError(NO_JETSTREAM) from exc
        except (js_errors.Error, NatsError) as exc:
            raise BusError(f"JetStream does not answer: {reason_of(exc)}") from exc

    async def _declare(self, config: api.StreamConfig, ours: tuple[str, ...]) -> None:
        try:
            try:
                await self._jetstream.add_stream(config)
            except js_errors.BadRequestError as refused:
                await self._bring_up_to_date(config, ours, refused)
        except js_errors.ServiceUnavailableError as exc:
            raise BusError(NO_JETSTREAM) from exc
        except (js_errors.Error, NatsError) as exc:
            raise BusError(f"The stream {config.name} could not be declared: {reason_of(exc)}") from exc

    async def _bring_up_to_date(self, config: api.StreamConfig, ours: tuple[str, ...], refused: Exception) -> None:
        """The stream is there and differs. Change what is Meadow's to say; replicas and the like are the operator's."""
        try:
            before = (await self._jetstream.stream_info(str(config.name))).config
        except js_errors.NotFoundError:
            raise refused from None  # it is not there: another one has its subjects
        wanted = {name: getattr(config, name) for name in ours}
        changed = {name: value for name, value in wanted.items() if getattr(before, name) != value}
        if not changed:
            return
        await self._jetstream.update_stream(before.evolve(**changed))
        log.warning(
            "The stream %s has new limits: %s. Give all services of a NATS the same --stream-days and --stream-bytes.",
            config.name,
            ", ".join(f"{name} {value}, before {getattr(before, name)}" for name, value in changed.items()),
            extra={"action": "nats.stream-changed"},
        )

    async def make_again(self) -> None:
        """Somebody has deleted a stream: who declared them makes them again."""
        if self._limits is None:
            return
        log.warning("A stream is gone and is made again; what it held is lost.", extra={"action": "nats.stream-gone"})
        try:
            await self.declare(self._limits)
        except BusError as exc:
            log.warning("%s", exc, extra={"action": "nats.stream-not-made"})

    async def state(self, stream: str) -> StreamState:
        """What the stream holds now; raises `BusError`."""
        try:
            info = await self._jetstream.stream_info(stream)
        except (js_errors.Error, NatsError) as exc:
            raise BusError(f"The stream {stream} does not answer: {reason_of(exc)}") from exc
        created: datetime | None = info.created
        identity = created.isoformat() if created is not None else ""
        return StreamState(identity, int(info.state.first_seq), int(info.state.last_seq))

    @property
    def fences(self) -> bool:
        """Whether the server heeds fences on other subjects than the message's own."""
        version = self._client.connected_server_version
        return (version.major, version.minor) >= FENCES_SINCE

    async def append(
        self, subject: str, data: bytes, message_id: str | None, timeout: float, fence: Fence | None
    ) -> int:
        """Store a message and give its sequence; raises `BusUnavailable` or `Superseded`."""
        headers = {"Nats-Msg-Id": message_id} if message_id else {}
        if fence is not None and (fence.subject == subject or self.fences):
            headers["Nats-Expected-Last-Subject-Sequence"] = str(fence.sequence)
            if fence.subject != subject:
                headers["Nats-Expected-Last-Subject-Sequence-Subject"] = fence.subject
        try:
            ack = await self._jetstream.publish(subject, data, timeout=timeout, headers=headers or None)
        except js_errors.APIError as exc:
            refused = Superseded if exc.err_code == WRONG_LAST_SEQUENCE else BusUnavailable
            raise refused(f"NATS did not store a message on {subject}: {reason_of(exc)}") from exc
        except js_errors.NoStreamResponseError as exc:
            await self.make_again()
            raise BusUnavailable(f"NATS has no stream for {subject}.") from exc
        except (js_errors.Error, NatsError, TimeoutError) as exc:
            raise BusUnavailable(f"NATS did not store a message on {subject}: {reason_of(exc)}") from exc
        return int(ack.seq)

    async def last_on(self, stream: str, subject: str) -> api.RawStreamMsg | None:
        """The last message on `subject`, if there is one; raises `BusUnavailable`."""
        try:
            return await self._jetstream.get_last_msg(stream, subject)
        except js_errors.NotFoundError:
            return None
        except (js_errors.Error, NatsError, TimeoutError) as exc:
            raise BusUnavailable(f"The stream {stream} does not answer: {reason_of(exc)}") from exc


def _events_stream(limits: StreamLimits) -> api.StreamConfig:
    return api.StreamConfig(
        name=subjects.EVENTS_STREAM,
        description="Facts about tasks, workers and queues (Meadow)",
        subjects=[subjects.ALL_EVENTS],
        max_age=limits.max_age,
        max_bytes=limits.max_bytes,
        discard=api.DiscardPolicy.OLD,
        storage=api.StorageType.FILE,
        duplicate_window=min(DUPLICATE_WINDOW, limits.max_age or DUPLICATE_WINDOW),
    )


def _audit_stream() -> api.StreamConfig:
    return api.StreamConfig(
        name=subjects.AUDIT_STREAM,
        description="Who did what to which cluster (Meadow)",
        subjects=[subjects.ALL_AUDIT],
        storage=api.StorageType.FILE,
        deny_delete=True,
        deny_purge=True,
    )
