"""Celery's remote control on the wire: what kombu's pidbox mailboxes send and answer. Everything here blocks.

Several methods are asked in one round over one connection, each with one broadcast and a ticket of its own, so
that eight inspections take as long as one. A connection is opened for each round: then the first command after a
restart of the broker works, and nothing waits in a pool for ever.
"""

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from celery import Celery
from kombu.exceptions import OperationalError

log = logging.getLogger(__name__)

Replies = dict[str, dict[str, Any]]
"""Worker → method → what it answered."""

CONNECT_SECONDS = 2.0
SOCKET_SECONDS = 5.0
MAX_WORKERS = 10_000
SAFE_CONTENT = ("json", "application/json", "yaml", "application/x-yaml", "msgpack", "application/x-msgpack")
PICKLE = ("pickle", "application/x-python-serialize")


def quick(app: Celery) -> dict[str, Any]:
    """Transport options that give up soon; those of the app come first."""
    servers = _servers(app.conf.broker_write_url)
    options: dict[str, Any] = {
        "max_retries": len(servers),
        "interval_start": 0,
        "interval_step": 0.1,
        "interval_max": 0.2,
        "connect_retries_timeout": CONNECT_SECONDS,
    }
    scheme = servers[0].partition(":")[0]
    if scheme.startswith(("redis", "sentinel")):
        options |= {"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": SOCKET_SECONDS}
    elif scheme.startswith(("amqp", "pyamqp")) or not scheme:
        options |= {"read_timeout": SOCKET_SECONDS, "write_timeout": SOCKET_SECONDS}
    elif scheme in ("filesystem", "memory"):
        options |= {"polling_interval": 0.05}
    given = dict(app.conf.broker_transport_options or {})
    for name in ("max_retries", "interval_start", "interval_step", "interval_max", "connect_retries_timeout"):
        given.pop(name, None)
    return options | given


def _servers(url: Any) -> list[str]:
    """Celery takes one URL, several in one text, or a list of them."""
    texts = url if isinstance(url, (list, tuple)) else str(url or "").split(";")
    return [str(text).strip() for text in texts if str(text).strip()] or [""]


class RemoteControl:
    """Speaks to the workers of one app. May be used from several threads at once."""

    def __init__(self, app: Celery, *, accept_pickle: bool = False) -> None:
        self._app = app
        self._options = quick(app)
        allowed = (*SAFE_CONTENT, *PICKLE) if accept_pickle else SAFE_CONTENT
        self._accept = [name for name in app.conf.accept_content or () if name in allowed] or ["json"]
        self._lock = threading.Lock()
        self._kept: Any = None

    @contextmanager
    def connection(self) -> Iterator[Any]:
        """A connection to the broker that gives up soon."""
        with self._connect() as connection:
            yield connection

    def _connect(self) -> Any:
        return self._app.connection_for_write(connect_timeout=CONNECT_SECONDS, transport_options=self._options)

    def cast(self, method: str, arguments: Mapping[str, Any], workers: Sequence[str] | None = None) -> None:
        """Tell these workers (`None`: all) and wait for nothing."""
        with self.connection() as connection:
            self._publish(connection, method, arguments, workers, {}, 0.0)

    def repeat(self, method: str, arguments: Mapping[str, Any]) -> None:
        """Tell all workers over a connection that is kept for the next time: for what is said every few seconds."""
        with self._lock:
            connected = self._kept is not None
            try:
                self._say(method, arguments)
            except Exception:
                self._let_go()
                if not connected:
                    raise
                self._say(method, arguments)  # the broker may have been restarted in between

    def close(self) -> None:
        """Let go of the kept connection, unless a thread is using it just now."""
        if self._lock.acquire(blocking=False):
            try:
                self._let_go()
            finally:
                self._lock.release()

    def _say(self, method: str, arguments: Mapping[str, Any]) -> None:
        if self._kept is None:
            self._kept = self._connect()
        self._publish(self._kept, method, arguments, None, {}, 0.0)

    def _let_go(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.release()

    def ask(self, questions: Mapping[str, Mapping[str, Any]], workers: Sequence[str] | None, timeout: float) -> Replies:
        """Ask each method with its arguments; gives the answers that came within `timeout` seconds.

        Returns as soon as each of the named workers has answered everything.
        """
        mailbox = self._app.control.mailbox
        tickets = {str(uuid4()): method for method in questions}
        round_ = Round(tickets, workers)
        with self.connection() as connection:
            channel = connection.default_channel
            queue = mailbox.get_reply_queue()(channel)
            queue.declare()
            reply_to = {"exchange": mailbox.reply_exchange.name, "routing_key": queue.routing_key}
            consumer = connection.Consumer(
                [queue],
                channel=channel,
                no_ack=True,
                auto_declare=False,
                accept=self._accept,
                on_message=round_.take,
                on_decode_error=round_.refuse,
            )
            try:
                with consumer:
                    for ticket, method in tickets.items():
                        extra = {"ticket": ticket, "reply_to": reply_to}
                        self._publish(connection, method, questions[method], workers, extra, timeout)
                    _drain(connection, round_, timeout)
            finally:
                channel.after_reply_message_received(queue.name)
        return round_.replies

    def _publish(
        self,
        connection: Any,
        method: str,
        arguments: Mapping[str, Any],
        workers: Sequence[str] | None,
        extra: Mapping[str, Any],
        timeout: float,
    ) -> None:
        mailbox = self._app.control.mailbox
        body = {
            "method": method,
            "arguments": dict(arguments),
            "destination": None if workers is None else list(workers),
            "pattern": None,
            "matcher": None,
            **extra,
        }
        connection.Producer(connection.default_channel, auto_declare=False).publish(
            body,
            exchange=mailbox.exchange.name,
            declare=[mailbox.exchange],
            headers={"clock": mailbox.clock.forward(), "expires": time.time() + timeout if timeout else 0},
            serializer=mailbox.serializer,
            retry=False,
        )


@dataclass
class Round:
    """The answers to one round of questions."""

    tickets: Mapping[str, str]
    workers: Sequence[str] | None
    replies: Replies = field(default_factory=dict)
    _count: int = 0

    @property
    def complete(self) -> bool:
        """Whether every worker that was named has answered everything."""
        return self.workers is not None and self._count >= len(self.tickets) * len(set(self.workers))

    def take(self, message: Any) -> None:
        """Note one answer; what is no answer to this round is left aside."""
        method = self.tickets.get(str(message.headers.get("ticket")))
        try:
            body = message.decode()
        except Exception as exc:  # noqa: BLE001 -- whatever a decoder makes of bytes from anywhere
            self.refuse(message, exc)
            return
        if method is None or not isinstance(body, dict):
            return
        for worker, reply in body.items():
            if not isinstance(worker, str) or (self.workers is not None and worker not in self.workers):
                continue
            if worker not in self.replies and len(self.replies) >= MAX_WORKERS:
                continue
            answers = self.replies.setdefault(worker, {})
            if method not in answers:  # two workers of one name: the first counts
                answers[method] = reply
                self._count += 1

    def refuse(self, message: Any, exc: Exception) -> None:
        """An answer that cannot be decoded, or may not be (pickle)."""
        log.warning(
            "An answer of a worker (%s) was not read: %s",
            message.content_type,
            exc,
            extra={"action": "control.undecodable"},
        )


def _drain(connection: Any, round_: Round, timeout: float) -> None:
    end = time.monotonic() + timeout
    while not round_.complete and (left := end - time.monotonic()) > 0:
        try:
            connection.drain_events(timeout=left)
        except TimeoutError:
            return


OUTAGE_MODULES = frozenset(
    {"amqp", "redis", "pymongo", "sqlalchemy", "pylibmc", "memcache", "botocore", "cassandra", "kafka"}
)
"""Packages whose exceptions, when they come through Celery, are about their server."""


def is_outage(exc: BaseException) -> bool:
    """Whether this error means that a server cannot be reached, refuses us, or went away."""
    module = type(exc).__module__.partition(".")[0]
    return isinstance(exc, (OperationalError, OSError)) or module in OUTAGE_MODULES
