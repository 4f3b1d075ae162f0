"""Reading a stream: on and on from a place in it, or back over what it took since some time."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext, api
from nats.js import errors as js_errors

from meadow.bus.client import PENDING_BYTES, reason_of
from meadow.bus.streams import JETSTREAM_SECONDS, StreamMessage, Streams
from meadow.errors import BusUnavailable

log = logging.getLogger(__name__)

READ_AHEAD = 64
"""Messages that are fetched at once, at most."""
READ_WAIT = 1.0
READ_PATIENCE = 5.0
OPEN_AGAIN = 0.5


class Reader:
    """Reads what is on `subject` in one stream, on and on. `position` is the sequence of what was read last."""

    def __init__(self, client: Client, streams: Streams, stream: str, subject: str, position: int | None) -> None:
        self._client = client
        self._jetstream = client.jetstream(timeout=JETSTREAM_SECONDS)
        self._streams = streams
        self._stream = stream
        self._subject = subject
        self._position = position
        self._trouble = ""

    async def read(self) -> AsyncGenerator[list[StreamMessage], None]:
        """What comes, until the bus is closed; an empty list while nothing does."""
        while not self._client.is_closed:  # nats-py says that instead of passing a cancellation on
            subscription = await self._opened()
            if subscription is None:
                yield []
                await asyncio.sleep(OPEN_AGAIN)
                continue
            try:
                async with aclosing(self._fetch(subscription)) as batches:
                    async for messages in batches:
                        yield messages
            except (js_errors.Error, NatsError) as exc:
                self._waits(exc)
                await asyncio.sleep(OPEN_AGAIN)
            finally:
                await _forget(subscription)

    async def _opened(self) -> JetStreamContext.PullSubscription | None:
        """A consumer behind the position; `None` where there can be none just now."""
        try:
            self._position = await self._still_there()
            where: dict[str, Any] = {"deliver_policy": api.DeliverPolicy.NEW}
            if self._position is not None:
                where = {"deliver_policy": api.DeliverPolicy.BY_START_SEQUENCE, "opt_start_seq": self._position + 1}
            found = await _subscribe(self._jetstream, self._stream, self._subject, **where)
        except (js_errors.Error, NatsError, TimeoutError) as exc:
            self._waits(exc)
            if isinstance(exc, js_errors.NotFoundError):
                await self._streams.make_again()
            return None
        self._goes_on()
        return found

    async def _still_there(self) -> int | None:
        """The position, or the beginning of a stream that was made anew meanwhile."""
        if not self._position:
            return self._position
        last = (await self._jetstream.stream_info(self._stream)).state.last_seq
        return self._position if last >= self._position else 0

    async def _fetch(
        self, subscription: JetStreamContext.PullSubscription
    ) -> AsyncGenerator[list[StreamMessage], None]:
        """What the consumer gives, for as long as NATS knows of it."""
        while True:
            try:
                raw = await subscription.fetch(READ_AHEAD, timeout=READ_WAIT)
            except (NatsTimeout, TimeoutError):
                yield []
                if not await self._lives(subscription):
                    return
                continue
            messages = [_message(each) for each in raw]
            if self._position is not None:
                messages = [message for message in messages if message.sequence > self._position]
            if messages:
                self._position = messages[-1].sequence
                yield messages

    async def _lives(self, subscription: JetStreamContext.PullSubscription) -> bool:
        if not self._client.is_connected:
            return True
        try:
            await subscription.consumer_info()
        except js_errors.NotFoundError:
            return False
        except (js_errors.Error, NatsError, TimeoutError):
            return True
        return True

    def _waits(self, exc: Exception) -> None:
        reason = reason_of(exc)
        if reason != self._trouble:
            log.warning("Reading %s has to wait: %s", self._stream, reason, extra={"action": "nats.read-waits"})
        self._trouble = reason

    def _goes_on(self) -> None:
        if self._trouble:
            log.info("Reading %s goes on.", self._stream, extra={"action": "nats.read-goes-on"})
        self._trouble = ""


async def read_back(client: Client, stream: str, subject: str, since: float) -> AsyncIterator[list[StreamMessage]]:
    """What NATS stored on `subject` from `since` (UTC epoch seconds) until now; raises `BusUnavailable`."""
    jetstream = client.jetstream(timeout=JETSTREAM_SECONDS)
    try:
        subscription = await _subscribe(
            jetstream,
            stream,
            subject,
            deliver_policy=api.DeliverPolicy.BY_START_TIME,
            opt_start_time=datetime.fromtimestamp(max(since, 0.0), UTC),
        )
        try:
            left = (await subscription.consumer_info()).num_pending or 0
            while left > 0:
                raw = await subscription.fetch(min(left, READ_AHEAD), timeout=READ_PATIENCE)
                left -= len(raw)
                yield [_message(each) for each in raw]
        finally:
            await _forget(subscription)
    except (js_errors.Error, NatsError, TimeoutError) as exc:
        raise BusUnavailable(f"The stream {stream} could not be read back: {reason_of(exc)}") from exc


async def _subscribe(
    jetstream: JetStreamContext, stream: str, subject: str, **where: Any
) -> JetStreamContext.PullSubscription:
    """A consumer that NATS forgets by itself when nobody uses it for a minute."""
    config = api.ConsumerConfig(
        ack_policy=api.AckPolicy.NONE, inactive_threshold=60.0, mem_storage=True, num_replicas=1, **where
    )
    return await jetstream.pull_subscribe(subject, stream=stream, config=config, pending_bytes_limit=PENDING_BYTES)


async def _forget(subscription: JetStreamContext.PullSubscription) -> None:
    try:
        await subscription.unsubscribe()
    except (NatsError, js_errors.Error) as exc:
        log.debug("A subscription was already gone: %s", reason_of(exc))


def _message(raw: Msg) -> StreamMessage:
    return StreamMessage(raw.metadata.sequence.stream, raw.subject, raw.data)
