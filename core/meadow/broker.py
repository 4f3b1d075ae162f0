"""What a broker adapter is: the contract between the collector and the plugins that read brokers."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from msgspec import Struct

from meadow.events import QueueDepth


class BrokerConfig(Struct, frozen=True, kw_only=True):
    """All that is needed to read a cluster's broker, taken from the Celery app's settings.

    `url` may hold several brokers, separated by semicolons, as Celery's `broker_url` may; it holds the password.
    `queues` are the app's configured queue names; workers' own come from inspections.
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


Deliver = Callable[[Any, float], None]
"""Called with a decoded body (one event or a list of them) and the time it arrived. Never blocks."""

Discard = Callable[[str, str], None]
"""Called with a reason and a detail for a message that could not be decoded. Never blocks."""


class EventSource(Protocol):
    """An open event stream. Used from one thread of its own, except `stop`."""

    def run(self, deliver: Deliver, discard: Discard, connected: Callable[[], None]) -> None:
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
    """One kind of broker."""

    name: str

    def fits(self, url: str) -> bool:
        """Whether this adapter reads brokers of this URL."""

    def events(self, config: BrokerConfig) -> EventSource:
        """The cluster's events."""

    def queue_reader(self, config: BrokerConfig) -> QueueReader:
        """The cluster's queue depths."""
