"""Celery's events on Redis, read from the socket itself.

Celery publishes events to channels of kombu's fanout exchange, and Redis cuts off a subscriber that is 32 MB behind.
So nothing stands between the socket and the decoder but hiredis. A subscription needs no queue and no binding: nothing
is ever written to Redis, and nothing can be left behind.
"""

import logging
import select
import socket
import ssl
import threading
import time
from collections import deque
from typing import Any, NamedTuple

import hiredis

from meadow.broker import BrokerConfig, Connected, Deliver, Discard, JsonBodies
from meadow.errors import BrokerUnavailable, InvalidEvent
from meadow_redis.backlog import Backlog, Piece
from meadow_redis.channels import event_patterns
from meadow_redis.connections import Door, Link, explain
from meadow_redis.envelope import decode_message, json_body

log = logging.getLogger(__name__)

PIECE = 256 * 1024
"""Bytes that are read at once, at most."""
BACKLOG = 64 * 1024 * 1024
"""Bytes of messages that may wait to be decoded."""
REST = 0.015
"""Seconds of rest when all is read: events that come one by one are cheaper to read together."""
TICK = 1.0
QUIET = 3.0
DEAD = 8.0
MOVED_EVERY = 9.0
RECENT = 1000
PING = b"*1\r\n$4\r\nPING\r\n"

CUT_OFF = (
    "Redis closed the connection. It stopped, a client was told to kill it, or this reader fell behind by more than "
    "client-output-buffer-limit allows (pubsub)."
)


class Patience(NamedTuple):
    """Seconds of silence after which something is done."""

    quiet: float
    dead: float
    moved_every: float


class RedisEvents:
    """A pattern subscription to the event exchange's channels.

    At most `backlog` bytes wait to be decoded. After `quiet` seconds without a byte, Redis is asked whether it is
    there; after `dead` seconds it is given up. In a lasting quiet, sentinels are asked every `moved_every` seconds
    whether the master is still the master.
    """

    def __init__(
        self,
        config: BrokerConfig,
        *,
        backlog: int = BACKLOG,
        quiet: float = QUIET,
        dead: float = DEAD,
        moved_every: float = MOVED_EVERY,
    ) -> None:
        self._config = config
        self._backlog = backlog
        self._door = Door(config)
        self._patience = Patience(quiet, dead, moved_every)
        self._stopping = threading.Event()
        self._socket: socket.socket | None = None

    def run(self, deliver: Deliver, discard: Discard, connected: Connected) -> None:
        """Read events until `stop`; raises `BrokerUnavailable`."""
        link = self._door.open()
        backlog = Backlog(self._backlog)
        subscription = _Subscription(self._config, link.database, backlog, deliver, discard, connected)
        try:
            self._socket = link.socket
            self._read(link, subscription)
        except (OSError, hiredis.HiredisError) as exc:
            if not self._stopping.is_set():
                raise BrokerUnavailable(f"The connection to Redis was lost: {explain(exc)}") from exc
        finally:
            self._socket = None
            link.close()
            subscription.deliver_all()

    def stop(self) -> None:
        """Make `run` return at once, or when an attempt to connect has ended."""
        self._stopping.set()
        sock = self._socket
        if sock is not None:
            _hang_up(sock)

    def _read(self, link: Link, subscription: "_Subscription") -> None:
        sock = link.socket
        sock.sendall(subscription.command())
        sock.setblocking(False)
        buffer = bytearray(PIECE)
        silence = _Silence(self._door, link, self._patience)
        rested = True
        while not self._stopping.is_set():
            try:
                size = sock.recv_into(buffer)
            except (BlockingIOError, ssl.SSLWantReadError):
                if subscription.deliver_piece():
                    rested = False
                elif not rested:
                    time.sleep(REST)
                    rested = True
                elif not _readable(sock, min(TICK, self._patience.quiet)):
                    silence.goes_on(time.monotonic())
                continue
            if not size:
                break
            silence.ended(time.monotonic())
            subscription.feed(buffer, size)
        if not self._stopping.is_set():
            raise BrokerUnavailable(CUT_OFF)


class _Subscription:
    """Makes events of bytes: first messages, then, when there is nothing to read, what they say."""

    def __init__(
        self,
        config: BrokerConfig,
        database: int,
        backlog: Backlog,
        deliver: Deliver,
        discard: Discard,
        connected: Connected,
    ) -> None:
        options = config.transport_options
        self._patterns = event_patterns(config.event_exchange, database, options)
        self._accept_pickle = config.accept_pickle
        self._deliver = deliver
        self._discard = discard
        self._connected = connected
        self._reader: Any = hiredis.Reader()
        self._repeated = _Repetitions() if len(self._patterns) > 1 else None
        self._backlog = backlog

    def command(self) -> bytes:
        """What subscribes."""
        words: Any = ("PSUBSCRIBE", *self._patterns)
        packed: bytes = hiredis.pack_command(words)
        return packed

    def feed(self, buffer: bytearray, size: int) -> None:
        """Keep all messages that are complete with these bytes."""
        reader = self._reader
        reader.feed(buffer, 0, size)
        payloads = []
        expected = 4 if self._repeated is None else None
        while (reply := reader.gets()) is not False:
            if type(reply) is list and len(reply) == expected and reply[0] == b"pmessage":  # nearly always
                payloads.append(reply[3])
                continue
            payload = self._payload(reply)
            if payload is not None:
                payloads.append(payload)
        if payloads:
            self._backlog.add(Piece(time.time(), payloads))

    def deliver_piece(self) -> bool:
        """Deliver the events of the oldest messages that wait; whether there were any."""
        piece = self._backlog.take()
        dropped = self._backlog.take_dropped()
        if dropped is not None:
            self._deliver(dropped, dropped.end)
        if piece is None:
            return False
        bodies: list[bytes] = []
        for payload in piece.payloads:
            body = json_body(payload)
            if body is not None:
                bodies.append(body)
                continue
            self._deliver_json(bodies, piece.seen)
            bodies = []
            self._deliver_unusual(payload, piece.seen)
        self._deliver_json(bodies, piece.seen)
        return True

    def _deliver_json(self, bodies: list[bytes], seen: float) -> None:
        if bodies:
            self._deliver(JsonBodies(bodies), seen)

    def _deliver_unusual(self, payload: bytes, seen: float) -> None:
        try:
            body = decode_message(payload, accept_pickle=self._accept_pickle)
        except InvalidEvent as exc:
            self._discard(exc.reason, str(exc))
            return
        self._deliver(body, seen)

    def deliver_all(self) -> None:
        """Deliver whatever has been read."""
        while self.deliver_piece():
            pass

    def _payload(self, reply: Any) -> bytes | None:
        """What was published, if the reply brings something. Calls `connected` when the subscription stands."""
        if isinstance(reply, list) and len(reply) == 4 and reply[0] == b"pmessage":
            payload: bytes = reply[3]
            return None if self._repeated is not None and self._repeated.knows(payload) else payload
        if isinstance(reply, Exception):
            raise BrokerUnavailable(f"Redis refuses the subscription to events: {reply}")
        if isinstance(reply, list) and reply[:1] == [b"psubscribe"] and reply[2] == len(self._patterns):
            self._connected()
        return None  # or the answer to a PING


class _Repetitions:
    """Recognises messages that were published under two names (`sentinel_fanout_compat`). Each carries a unique tag."""

    def __init__(self) -> None:
        self._order: deque[int] = deque()
        self._known: set[int] = set()

    def knows(self, payload: bytes) -> bool:
        """Whether this message came before; remembers it."""
        mark = hash(payload)
        if mark in self._known:
            return True
        self._known.add(mark)
        self._order.append(mark)
        if len(self._order) > RECENT:
            self._known.discard(self._order.popleft())
        return False


class _Silence:
    """Decides what to do while nothing comes."""

    def __init__(self, door: Door, link: Link, patience: Patience) -> None:
        self._door = door
        self._link = link
        self._patience = patience
        self._heard = time.monotonic()
        self._asked = False
        self._looked = self._heard

    def ended(self, now: float) -> None:
        """Something came."""
        self._heard = now
        self._asked = False

    def goes_on(self, now: float) -> None:
        """Nothing comes: ask whether the other side is there; raises `BrokerUnavailable` when it is not."""
        silence = now - self._heard
        if silence >= self._patience.dead:
            raise BrokerUnavailable(f"Redis has not answered for {silence:.0f} s.")
        if silence >= self._patience.quiet and not self._asked:
            self._asked = True
            self._link.socket.sendall(PING)
            if now - self._looked >= self._patience.moved_every:
                self._looked = now
                if self._door.has_moved(self._link):
                    raise BrokerUnavailable("The sentinels name another master now.")


def _readable(sock: socket.socket, seconds: float) -> bool:
    """Wait until there is something to read, or until the connection has ended."""
    waiting = select.poll()
    waiting.register(sock, select.POLLIN)
    return bool(waiting.poll(seconds * 1000.0))


def _hang_up(sock: socket.socket) -> None:
    try:
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # an SSLSocket's own would disturb the thread that reads
    except OSError as exc:
        log.debug("The connection was closed already: %s", exc)
