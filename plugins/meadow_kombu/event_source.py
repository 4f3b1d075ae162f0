"""Celery's event exchange, consumed as `celery.events.receiver` does it."""

import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import kombu.entity
import kombu.messaging

from meadow.broker import BrokerConfig, Deliver, Discard
from meadow.errors import BrokerUnavailable, InvalidEvent
from meadow_kombu.connections import broker_errors, close, explain, open_connection, unavailable
from meadow_kombu.decoding import accepted, decode

Consumer: Any = kombu.messaging.Consumer
Exchange: Any = kombu.entity.Exchange
Queue: Any = kombu.entity.Queue

POLL = 0.5
HEALTH_EVERY = 5.0
MOST_FAILURES = 100
FANOUT_DRIVERS = frozenset({"redis", "gcpubsub"})  # where Celery publishes events to a fanout exchange


class KombuEvents:
    """One queue of our own on the event exchange, under the same name at every reconnection."""

    def __init__(self, config: BrokerConfig) -> None:
        self._config = config
        self._queue_name = f"{config.event_queue_prefix}.{uuid.uuid4()}"
        self._stopping = threading.Event()

    def run(self, deliver: Deliver, discard: Discard, connected: Callable[[], None]) -> None:
        """Read events until `stop`; raises `BrokerUnavailable`."""
        connection = open_connection(self._config)
        try:
            with broker_errors(connection):
                self._consume(connection, deliver, discard, connected)
        finally:
            close(connection)

    def stop(self) -> None:
        """Make `run` return within half a second or so."""
        self._stopping.set()

    def _consume(self, connection: Any, deliver: Deliver, discard: Discard, connected: Callable[[], None]) -> None:
        accept_pickle = self._config.accept_pickle

        def on_message(message: Any) -> None:
            seen = time.time()
            try:
                body = decode(message.body, message.content_type, message.content_encoding, accept_pickle=accept_pickle)
            except InvalidEvent as exc:
                discard(exc.reason, str(exc))
                return
            deliver(body, seen)

        def on_decode_error(message: Any, exc: Exception) -> None:
            discard("undecodable", explain(exc))

        consumer = Consumer(
            connection.channel(),
            queues=[self._queue(connection)],
            on_message=on_message,
            on_decode_error=on_decode_error,
            accept=accepted(accept_pickle=accept_pickle),
            no_ack=True,
        )
        consumer.consume()
        connected()
        self._drain(connection, discard)
        consumer.cancel()
        for queue in consumer.queues:  # some transports keep a queue, and fill it, after its consumer has gone
            queue.delete()

    def _queue(self, connection: Any) -> Any:
        config = self._config
        fanout = connection.transport.driver_type in FANOUT_DRIVERS
        return Queue(
            self._queue_name,
            exchange=Exchange(config.event_exchange, type="fanout" if fanout else "topic"),
            routing_key="#",
            auto_delete=True,
            durable=False,
            message_ttl=config.event_queue_ttl,
            expires=config.event_queue_expires,
        )

    def _drain(self, connection: Any, discard: Discard) -> None:
        # kombu counts KeyError among Redis's connection errors, but a hostile message can cause one, too.
        broken = tuple(kind for kind in unavailable(connection) if kind is not KeyError)
        next_check = time.monotonic()
        failures = 0
        while not self._stopping.is_set():
            try:
                connection.drain_events(timeout=POLL)
                failures = 0
            except TimeoutError:
                failures = 0
            except broken:
                raise
            except Exception as exc:  # a message that kombu itself stumbles over
                discard("undecodable", f"{type(exc).__name__}: {exc}")
                failures += 1
                if failures > MOST_FAILURES:
                    raise BrokerUnavailable(f"Nothing that arrives can be read: {explain(exc)}") from exc
            if time.monotonic() >= next_check:
                next_check = time.monotonic() + self._check_health(connection)

    def _check_health(self, connection: Any) -> float:
        """Find out whether the other side is still there; gives the seconds until it should be asked again."""
        heartbeat = connection.get_heartbeat_interval() or 0
        if heartbeat:
            connection.heartbeat_check()
        cycle = getattr(connection.transport, "cycle", None)
        check = getattr(cycle, "maybe_check_subclient_health", None)
        if check is not None:
            check()
        return min(heartbeat / 4, HEALTH_EVERY) if heartbeat else HEALTH_EVERY
