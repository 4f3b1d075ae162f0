"""What a broker adapter is: the contract between the collector and the plugins that read brokers."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from msgspec import Struct

from meadow.events import QueueDepth


class BrokerConfig(Struct, frozen=True, kw_only=True):
    """All that is needed to read a cluster's broker, taken from the Celery app's settings.

    `url` may hold several brokers, separated by semicolons, as Celery's `broker_url` may; it holds the password.
    `queues` are the app's configured queue names; workers' own come from inspections.
    `cluster` and `group` name what the collectors that write to one stream share on the broker, as a durable queue.
    `in_flight_bytes` bounds the messages that a source may have delivered before it hears that they are stored.
    """

    url: str = "amqp://guest@localhost//"
    transport_options: dict[str, Any] = {}
    use_ssl: Any = None
    login_method: str | None = None
    connection_timeout: float = 4.0
    heartbeat: float = 0.0
    event_exchange: str = "celeryev"
    event_queue_prefix: str = "celeryev"
    event_serializer: str = "json"
    event_queue_ttl: float | None = 5.0
    event_queue_expires: float | None = 60.0
    control_exchange: str = "celery"
    queues: tuple[str, ...] = ("celery",)
    broker_api: str | None = None
    accept_pickle: bool = False
    cluster: str = "default"
    group: str = ""
    in_flight_bytes: int = 8 * 1024 * 1024


class Dropped(Struct, frozen=True, kw_only=True):
    """Delivered instead of a body: so many events arrived from `start` to `end` that they had to be given up unread."""

    events: int
    start: float
    end: float


class JsonBodies(Struct, frozen=True, gc=False):
    """Delivered instead of a decoded body: the bodies of messages of type application/json, in order, as they came.

    An adapter that has them undecoded saves the collector half of its work.
    """

    bodies: Sequence[bytes]


class Deliver(Protocol):
    """Takes what arrives."""

    def __call__(
        self, body: Any, seen: float, stored: Callable[[], None] | None = None, *, redelivered: bool = False
    ) -> None:
        """One decoded body (one event or a list of them), `JsonBodies` or `Dropped`, and the time it arrived.

        Never blocks or raises. `stored` is called once, from any thread, when all its events are in the stream or were
        discarded as invalid; an adapter that has a broker to tell acknowledges then. It is never called when the
        connection was lost before and the broker will deliver the message again. Where the adapter does not share, it
        is called at once: other collectors heard the same. `redelivered`: the broker has
        delivered it before and was never told that it is stored, so its events may be in the stream already.
        """


class Connected(Protocol):
    """Takes the news that a connection stands."""

    def __call__(self, *, complete: bool = False) -> None:
        """`complete`: the broker has kept all that was sent while there was no connection."""


Discard = Callable[[str, str], None]
"""Called with a reason and a detail for a message that could not be decoded. Never blocks."""


class EventSource(Protocol):
    """An open event stream. Used from one thread of its own, except `stop`."""

    def run(self, deliver: Deliver, discard: Discard, connected: Connected) -> None:
        """Read events until `stop`; calls `connected` whenever a connection stands.

        Raises `BrokerUnavailable` when the connection is lost or cannot be made; the caller tries again.
        """

    def stop(self) -> None:
        """Make `run` return soon. May be called from any thread, and twice."""


class QueueReader(Protocol):
    """Reads queue depths without consuming anything. Used from one thread."""

    supported: bool

    def read(self, names: Sequence[str]) -> list[QueueDepth]:
        """The depth of each of these queues; raises `BrokerUnavailable`."""

    def close(self) -> None:
        """Let go of the connection. May be called twice."""


class BrokerAdapter(Protocol):
    """One kind of broker.

    `shares`: the collectors of one cluster share its events, each is given a part. Otherwise each of them hears all,
    and the collectors see to it that one publishes while the others stand by.
    """

    name: str
    shares: bool

    def fits(self, url: str) -> bool:
        """Whether this adapter reads brokers of this URL."""

    def events(self, config: BrokerConfig) -> EventSource:
        """The cluster's events."""

    def queue_reader(self, config: BrokerConfig) -> QueueReader:
        """The cluster's queue depths."""
