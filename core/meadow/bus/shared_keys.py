"""Keys that all services of a NATS share, such as the one that signs who clicked."""

import asyncio

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext, api
from nats.js import errors as js_errors
from nats.js.kv import KeyValue

from meadow import subjects
from meadow.bus.client import reason_of
from meadow.bus.streams import JETSTREAM_SECONDS
from meadow.errors import BusError

TRY_AGAIN = 0.5


async def shared_key(client: Client, name: str, candidate: bytes, patience: float) -> bytes:
    """The value under `name`: `candidate`, unless somebody was first; raises `BusError`."""
    jetstream = client.jetstream(timeout=JETSTREAM_SECONDS)
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        try:
            return await _first_or_mine(await _bucket(jetstream), name, candidate)
        except (js_errors.Error, NatsError, OSError, TimeoutError) as exc:
            if asyncio.get_running_loop().time() >= deadline:
                raise BusError(f"The shared key {name!r} could not be read from NATS: {reason_of(exc)}") from exc
            await asyncio.sleep(TRY_AGAIN)


async def _first_or_mine(bucket: KeyValue, name: str, candidate: bytes) -> bytes:
    try:
        await bucket.create(name, candidate)
    except js_errors.KeyWrongLastSequenceError:
        return bytes((await bucket.get(name)).value or b"")
    return candidate


async def _bucket(jetstream: JetStreamContext) -> KeyValue:
    try:
        return await jetstream.key_value(subjects.KEYS_BUCKET)
    except js_errors.NotFoundError:
        return await jetstream.create_key_value(api.KeyValueConfig(bucket=subjects.KEYS_BUCKET))
