"""What is said and asked between services that run now; nothing of it is kept."""

import logging
from collections.abc import Awaitable, Callable, Mapping

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout

from meadow.bus.answering import PATIENCE, Answering, Handler
from meadow.bus.client import reason_of
from meadow.errors import AnswerTimedOut, BusUnavailable, NobodyAnswers

log = logging.getLogger(__name__)

Listener = Callable[[str, bytes], Awaitable[None]]


async def tell(client: Client, subject: str, data: bytes) -> None:
    """Say it; raises `BusUnavailable`."""
    try:
        await client.publish(subject, data)
    except NatsError as exc:
        raise BusUnavailable(f"Nothing can be published on {subject}: {reason_of(exc)}") from exc


async def listen(client: Client, subject: str, listener: Listener) -> None:
    """Hear it. A listener that fails has not understood that one message."""

    async def heard(message: Msg) -> None:
        try:
            await listener(message.subject, message.data)
        except Exception:
            log.exception("A message on %s was not understood.", message.subject, extra={"action": "bus.listener"})

    await client.subscribe(subject, cb=heard)
    await _subscribed(client)


async def ask(client: Client, subject: str, data: bytes, timeout: float) -> bytes:
    """Ask and wait; raises `NobodyAnswers`, `AnswerTimedOut` or `BusUnavailable`."""
    try:
        message = await client.request(subject, data, timeout=timeout, headers={PATIENCE: f"{timeout:g}"})
    except NoRespondersError as exc:
        raise NobodyAnswers(f"No service listens on {subject}.") from exc
    except (NatsTimeout, TimeoutError) as exc:
        raise AnswerTimedOut(f"There was no answer on {subject} within {timeout:g} s.") from exc
    except NatsError as exc:
        raise BusUnavailable(f"Nothing can be asked on {subject}: {reason_of(exc)}") from exc
    return bytes(message.data)


async def answer(client: Client, handlers: Mapping[str, Handler], group: str) -> Answering:
    """Answer what is asked on each subject, as one of the group."""
    answering = Answering()
    for subject, handler in handlers.items():
        await answering.listen(client, subject, handler, group)
    await _subscribed(client)
    return answering


async def _subscribed(client: Client) -> None:
    """Wait until the server knows of the subscriptions, so that nothing said from now on is missed."""
    if not client.is_connected:
        return  # they are made again with the next connection
    try:
        await client.flush()
    except (NatsError, TimeoutError) as exc:
        log.debug("A subscription could not be confirmed: %s", reason_of(exc))
