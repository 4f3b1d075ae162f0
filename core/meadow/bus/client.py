"""A nats-py client that is connected, and stays so by itself for as long as it is open."""

import asyncio
import logging

from nats.aio.client import Client
from nats.errors import Error as NatsError

from meadow.errors import BusUnavailable
from meadow.redact import url_without_password

log = logging.getLogger(__name__)

PENDING_BYTES = 64 * 1024 * 1024
CONNECT_SECONDS = 2.0
TRY_AGAIN = 1.0


async def connect(url: str, name: str, patience: float) -> Client:
    """A connected client. Tries again for `patience` seconds; raises `BusUnavailable`."""
    deadline = asyncio.get_running_loop().time() + patience
    told = ""
    while True:
        try:
            return await _connect_once(url, name)
        except (NatsError, OSError, TimeoutError, ValueError) as exc:
            shown, reason = url_without_password(url), reason_of(exc)
            if asyncio.get_running_loop().time() >= deadline:
                raise BusUnavailable(
                    f"NATS cannot be reached at {shown} ({reason}). Start it with 'nats-server -js', "
                    "correct --nats-url, or leave --nats-url out so that Meadow starts its own."
                ) from exc
            if reason != told:
                text = "NATS cannot be reached at %s (%s), trying again."
                log.warning(text, shown, reason, extra={"action": "nats.unreachable"})
            told = reason
            await asyncio.sleep(TRY_AGAIN)


async def _connect_once(url: str, name: str) -> Client:
    """A client that reconnects for ever once it is connected. nats-py would try the first connection for ever, too."""
    client = Client()
    loop = asyncio.get_running_loop()
    refused: asyncio.Future[None] = loop.create_future()

    async def on_error(exc: Exception) -> None:
        if client.is_connected or refused.done():
            log.warning("NATS: %s", reason_of(exc), extra={"action": "nats.error"})
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
            reconnected_cb=_reconnected,
        )
    )
    try:
        await _first_of(connecting, refused)
    except BaseException:
        connecting.cancel()
        await asyncio.wait({connecting})
        await client.close()
        raise
    return client


async def _first_of(connecting: "asyncio.Task[None]", refused: "asyncio.Future[None]") -> None:
    """Return when the connection stands; raise why it does not."""
    async with asyncio.timeout(CONNECT_SECONDS + 1.0):
        await asyncio.wait({connecting, refused}, return_when=asyncio.FIRST_COMPLETED)
    if connecting.done():
        refused.cancel()
        await connecting
    else:
        await refused


async def _reconnected() -> None:
    log.info("Connected to NATS again.", extra={"action": "nats.reconnected"})


def reason_of(exc: BaseException) -> str:
    """What an error says, or its name where it says nothing."""
    return str(exc) or type(exc).__name__
