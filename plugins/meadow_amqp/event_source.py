"""Celery's events from a queue of Meadow's own: durable, shared by the collectors of a group, and acknowledged.

py-amqp connects, signs in and declares; then messages are read from the socket itself.
"""

import selectors
import socket
import struct
import threading
import time
from functools import partial
from typing import Any

from amqp import exceptions, spec

from meadow.broker import BrokerConfig, Connected, Deliver, Discard, JsonBodies
from meadow.errors import BrokerUnavailable, InvalidEvent
from meadow.event_body import JSON, decode_body
from meadow_amqp.acknowledgements import Acknowledgements
from meadow_amqp.connections import ANSWER_TIMEOUT, broker_errors, close, open_connection
from meadow_amqp.frames import METHOD, Frames, Message
from meadow_amqp.subscription import CONSUMER, queue_name, subscribe

POLL = 0.5
PIECE = 256 * 1024
REST = 0.004
"""Seconds of rest before reading: messages that come one by one are cheaper to read together."""
LAST_ACKNOWLEDGEMENTS = 1.2
"""Seconds that a reader which is asked to stop waits for what is under way to be stored."""
GOODBYE = 0.3
CHANNEL_CLOSE = struct.pack(">HH", *spec.Channel.Close)


class AmqpEvents:
    """One queue under one name, whatever happens to the connection."""

    def __init__(self, config: BrokerConfig) -> None:
        self._config = config
        self._stopping = threading.Event()
        self._broker_was_away = False

    def run(self, deliver: Deliver, discard: Discard, connected: Connected) -> None:
        """Read events until `stop`; raises `BrokerUnavailable`."""
        try:
            connection = open_connection(self._config, "events")
        except BrokerUnavailable:
            self._broker_was_away = True  # events are not kept through a restart of RabbitMQ
            raise
        try:
            with broker_errors(), _Waker() as waker:
                channel, new = subscribe(connection, self._config)
                connected(complete=not new and not self._broker_was_away)
                self._broker_was_away = False
                _Consumer(connection, channel, self._config, waker, deliver, discard).run(self._stopping)
        except BrokerUnavailable as exc:
            self._broker_was_away = self._broker_was_away or _shuts_down(exc.__cause__)
            raise
        finally:
            close(connection)

    def stop(self) -> None:
        """Make `run` return within two seconds or so."""
        self._stopping.set()


def _shuts_down(exc: BaseException | None) -> bool:
    return isinstance(exc, exceptions.ConnectionForced) and "shutdown" in str(exc)


class _Waker:
    """Wakes a selector from another thread."""

    def __enter__(self) -> "_Waker":
        self.ear, self._mouth = socket.socketpair()
        self.ear.setblocking(False)
        self._mouth.setblocking(False)
        self._lock = threading.Lock()
        self._open = True
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            self._open = False
            self._mouth.close()
            self.ear.close()

    def wake(self) -> None:
        """May be called from any thread, and after the end."""
        with self._lock:
            if self._open:
                try:
                    self._mouth.send(b"\0")
                except BlockingIOError:
                    return  # it is awake

    def drain(self) -> None:
        """Hear what was said."""
        try:
            self.ear.recv(4096)
        except BlockingIOError:
            return


class _Consumer:
    """Everything that happens on one connection once it consumes."""

    def __init__(
        self,
        connection: Any,
        channel: Any,
        config: BrokerConfig,
        waker: _Waker,
        deliver: Deliver,
        discard: Discard,
    ) -> None:
        self._connection = connection
        self._channel = channel
        self._config = config
        self._waker = waker
        self._deliver = deliver
        self._discard = discard
        self._socket = connection.transport.sock
        self._frames = Frames(channel.channel_id, connection.frame_max, self._other_frame)
        self._acknowledgements = Acknowledgements(waker.wake)
        self._counted = 0
        self._next_heartbeat = 0.0
        self._hurried = False

    def run(self, stopping: threading.Event) -> None:
        """Read, deliver and acknowledge until `stopping`; then take leave."""
        self._socket.settimeout(ANSWER_TIMEOUT)
        with selectors.DefaultSelector() as selector:
            selector.register(self._waker.ear, selectors.EVENT_READ)
            selector.register(self._socket, selectors.EVENT_READ)
            self._take(self._connection.transport._read_buffer)
            while not stopping.is_set():
                self._turn(selector, POLL)
            self._take_leave(selector)

    def _turn(self, selector: selectors.BaseSelector, patience: float) -> None:
        """Wait for something to happen, and see to it."""
        full = self._acknowledgements.bytes > self._config.in_flight_bytes
        if full == (self._socket in selector.get_map()):
            (selector.unregister if full else partial(selector.register, events=selectors.EVENT_READ))(self._socket)
        waits = not full and getattr(self._socket, "pending", int)() > 0  # TLS has decrypted more than was asked for
        ready = {key.fileobj for key, _ in selector.select(0 if waits else patience)}
        if self._waker.ear in ready:
            self._waker.drain()
        self._acknowledge()
        if waits or self._socket in ready:
            if not (waits or self._hurried):
                time.sleep(REST)
            data = self._receive()
            self._hurried = len(data) == PIECE
            self._take(data)
        self._keep_alive(deaf=full)

    def _receive(self) -> bytes:
        try:
            data: bytes = self._socket.recv(PIECE)
        except TimeoutError as exc:
            raise BrokerUnavailable("RabbitMQ stopped in the middle of a TLS record.") from exc
        if not data:
            raise BrokerUnavailable("RabbitMQ closed the connection.")
        return data

    def _take(self, data: bytes) -> None:
        seen = time.time()
        try:
            messages = self._frames.feed(data)
        except (struct.error, IndexError) as exc:
            raise BrokerUnavailable(f"The broker sent a frame that is cut short ({exc}).") from exc
        together: list[Message] = []
        for message in messages:
            self._acknowledgements.delivered(len(message.body))
            if message.content_type == JSON and not message.redelivered:
                together.append(message)
                continue
            self._hand_over_together(together, seen)
            together = []
            self._hand_over(message, seen)
        self._hand_over_together(together, seen)

    def _hand_over_together(self, messages: list[Message], seen: float) -> None:
        """Usual messages share a receipt, since one acknowledgement is enough for all of them."""
        if messages:
            stored = partial(self._acknowledgements.stored, messages[0].number, messages[-1].number)
            self._deliver(JsonBodies([message.body for message in messages]), seen, stored)

    def _hand_over(self, message: Message, seen: float) -> None:
        stored = partial(self._acknowledgements.stored, message.number, message.number)
        try:
            body = decode_body(message.body, message.content_type, accept_pickle=self._config.accept_pickle)
        except InvalidEvent as exc:
            self._discard(exc.reason, str(exc))
            stored()
            return
        self._deliver(body, seen, stored, redelivered=message.redelivered)

    def _other_frame(self, frame: tuple[int, int, bytes]) -> None:
        """What is no message is py-amqp's: heartbeats, and the broker's reasons to close the connection."""
        kind, channel, payload = frame
        if kind == METHOD and channel == self._channel.channel_id and payload[:4] == CHANNEL_CLOSE:
            reason = payload[7 : 7 + payload[6]].decode("utf-8", "replace")  # py-amqp would open it again, and read
            raise BrokerUnavailable(f"RabbitMQ closed the channel: {reason}")
        try:
            self._connection.on_inbound_frame(frame)
        except exceptions.ConsumerCancelled as exc:
            raise BrokerUnavailable(
                f"RabbitMQ no longer delivers from the queue {queue_name(self._config)}: it was deleted or has moved."
            ) from exc

    def _acknowledge(self) -> None:
        number = self._acknowledgements.due()
        if number is not None:
            self._channel.basic_ack(number, multiple=True)

    def _keep_alive(self, *, deaf: bool) -> None:
        """Send heartbeats and miss the broker's; who does not listen cannot miss them."""
        now = time.monotonic()
        if not self._connection.heartbeat or now < self._next_heartbeat:
            return
        self._next_heartbeat = now + min(self._connection.heartbeat / 4, 1.0)
        self._connection.bytes_recv += self._frames.count - self._counted + deaf
        self._counted = self._frames.count
        self._connection.heartbeat_tick()

    def _take_leave(self, selector: selectors.BaseSelector) -> None:
        """Let no more come, acknowledge what is still being stored, and close in good order."""
        self._channel.send_method(spec.Basic.Cancel, "sb", (CONSUMER, False))
        end = time.monotonic() + LAST_ACKNOWLEDGEMENTS
        while self._acknowledgements and (left := end - time.monotonic()) > 0:
            self._turn(selector, min(left, POLL))
        self._acknowledge()
        self._connection.send_method(spec.Connection.Close, "BsBB", (0, "", 0, 0))
        end = time.monotonic() + GOODBYE
        while self._connection.connected and (left := end - time.monotonic()) > 0:
            if self._socket in {key.fileobj for key, _ in selector.select(left)}:
                self._frames.feed(self._receive())
            else:
                self._waker.drain()
