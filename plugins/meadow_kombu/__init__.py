"""Reads every broker that Celery itself can use, with kombu, the library that Celery uses."""

from kombu.transport import TRANSPORT_ALIASES

from meadow.broker import BrokerAdapter, BrokerConfig, EventSource, QueueReader
from meadow.hookspecs import hookimpl
from meadow.settings import Settings
from meadow_kombu.connections import scheme_of
from meadow_kombu.event_source import KombuEvents
from meadow_kombu.queue_readers import open_queue_reader


class KombuAdapter:
    """Fits whatever kombu has a transport for."""

    name = "kombu"
    shares = False

    def fits(self, url: str) -> bool:
        """Whether kombu knows the scheme, as in `redis://`, `redis+socket://`, or `module:Class://`."""
        scheme = scheme_of(url)
        return scheme in TRANSPORT_ALIASES or ":" in scheme or "." in scheme

    def events(self, config: BrokerConfig) -> EventSource:
        """Celery's event exchange."""
        return KombuEvents(config)

    def queue_reader(self, config: BrokerConfig) -> QueueReader:
        """Queue lengths in the way of this broker."""
        return open_queue_reader(config)


@hookimpl(trylast=True)
def register_broker_adapters(settings: Settings) -> list[BrokerAdapter]:
    """The adapter of last resort: a plugin for one kind of broker comes before it."""
    return [KombuAdapter()]
