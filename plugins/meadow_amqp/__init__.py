"""Reads Celery's events from a durable queue of Meadow's own on RabbitMQ, and acknowledges what is stored."""

from meadow.broker import BrokerAdapter, BrokerConfig, EventSource, QueueReader
from meadow.hookspecs import hookimpl
from meadow.rabbitmq_management import Broker, ManagementApi
from meadow.settings import Settings
from meadow_amqp.addresses import SCHEMES, addresses, scheme_of
from meadow_amqp.event_source import AmqpEvents
from meadow_amqp.queue_reader import AmqpQueues


class AmqpAdapter:
    """Fits what speaks AMQP 0-9-1: `amqp`, `amqps` and `pyamqp`."""

    name = "amqp"
    shares = True

    def fits(self, url: str) -> bool:
        """Whether the URL, or the first of several, names such a broker."""
        return scheme_of(url) in SCHEMES

    def events(self, config: BrokerConfig) -> EventSource:
        """The queue that is bound to Celery's event exchange."""
        return AmqpEvents(config)

    def queue_reader(self, config: BrokerConfig) -> QueueReader:
        """The management API where its address is known, else passive declarations."""
        if config.broker_api:
            first = addresses(config.url)[0]
            return ManagementApi(config.broker_api, Broker(first.virtual_host, first.user, first.password))
        return AmqpQueues(config)


@hookimpl
def register_broker_adapters(settings: Settings) -> list[BrokerAdapter]:
    """Comes before the kombu adapter, which offers itself last."""
    return [AmqpAdapter()]
