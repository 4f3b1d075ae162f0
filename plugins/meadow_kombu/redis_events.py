"""Celery's events on Redis, read from the socket itself.

On Redis, Celery publishes events with PUBLISH to `/<db>.celeryev/<routing key>`, each in kombu's envelope, and Redis
cuts off a subscriber that is 32 MB behind. So this reader leaves out everything that kombu does between the socket and
the message; kombu opens the connection, with all that its URL and options may say. A subscription needs no queue and
no binding, so nothing can be left behind.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import hiredis

from meadow.broker import BrokerConfig, Deliver, Discard
from meadow.errors import BrokerUnavailable, InvalidEvent
from meadow_kombu.connections import broker_errors, close, open_connection
from meadow_kombu.decoding import decode_envelope

POLL = 0.5
PIECE = 256 * 1024
SILENCE = 5.0
DEAD = 15.0
PING = b"*1\r\n$4\r\nPING\r\n"


class RedisEvents:
    """A pattern subscription to the event exchange's channels."""

    def __init__(self, config: BrokerConfig) -> None:
        self._config = config
        self._stopping = threading.Event()

    def run(self, deliver: Deliver, discard: Discard, connected: Callable[[], None]) -> None:
        """Read events until `stop`; raises `BrokerUnavailable`."""
        connection = open_connection(self._config)
        try:
            with broker_errors(connection):
                channel = connection.channel()
                link = channel.client.connection_pool.get_connection()
                try:
                    link.send_command(
                        "PSUBSCRIBE", channel.global_keyprefix + topic(channel, self._config.event_exchange)
                    )
                    self._read(link._sock, deliver, discard, connected)
                finally:
                    link.disconnect()
        finally:
            close(connection)

    def stop(self) -> None:
        """Make `run` return within half a second or so."""
        self._stopping.set()

    def _read(self, sock: Any, deliver: Deliver, discard: Discard, connected: Callable[[], None]) -> None:
        reader = hiredis.Reader(protocolError=BrokerUnavailable, replyError=BrokerUnavailable)
        sock.settimeout(POLL)
        heard = time.monotonic()
        asked = False
        while not self._stopping.is_set():
            try:
                data = sock.recv(PIECE)
            except TimeoutError:
                asked = _check_silence(sock, time.monotonic() - heard, asked=asked)
                continue
            if not data:
                raise BrokerUnavailable("Redis closed the connection.")
            heard, asked = time.monotonic(), False
            seen = time.time()
            reader.feed(data)
            events: list[Any] = []
            while (reply := reader.gets()) is not False:
                payload = published(reply, connected)
                if payload is not None:
                    self._decode_into(events, payload, discard)
            if events:
                deliver(events, seen)

    def _decode_into(self, events: list[Any], payload: bytes, discard: Discard) -> None:
        try:
            body = decode_envelope(payload, accept_pickle=self._config.accept_pickle)
        except InvalidEvent as exc:
            discard(exc.reason, str(exc))
            return
        if isinstance(body, list):
            events += body
        else:
            events.append(body)


def published(reply: Any, connected: Callable[[], None]) -> bytes | None:
    """The payload that was published, if the reply brings one. Calls `connected` when the subscription stands."""
    if isinstance(reply, BrokerUnavailable):
        raise BrokerUnavailable(f"Redis refuses the subscription to events: {reply}")
    if not isinstance(reply, list) or not reply:
        return None  # the answer to a PING
    if reply[0] == b"pmessage":
        payload: bytes = reply[3]
        return payload
    if reply[0] == b"psubscribe":
        connected()
    return None


def topic(channel: Any, exchange: str) -> str:
    """The pattern of channels to which kombu publishes what is sent to a fanout exchange."""
    name: str = channel._get_publish_topic(exchange, "*")
    return name


def _check_silence(sock: Any, silence: float, *, asked: bool) -> bool:
    """After some silence, ask whether the other side is there; after more, give up."""
    if silence > DEAD:
        raise BrokerUnavailable(f"Redis has not answered for {silence:.0f} s.")
    if silence > SILENCE and not asked:
        sock.sendall(PING)
        return True
    return asked
