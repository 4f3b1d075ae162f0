"""Reads Celery's events and queue depths from Redis without kombu: redis-py connects, the rest is hiredis."""

from meadow.broker import BrokerAdapter, BrokerConfig, EventSource, QueueReader
from meadow.hookspecs import hookimpl
from meadow.settings import Settings
from meadow_redis.addresses import SCHEMES, scheme_of
from meadow_redis.event_source import RedisEvents
from meadow_redis.queue_reader import RedisQueues


class RedisAdapter:
    """Fits what kombu's Redis transports fit: `redis`, `rediss`, `redis+socket` and `sentinel`."""

    name = "redis"
    shares = False

    def fits(self, url: str) -> bool:
        """Whether the URL, or the first of several, names a Redis."""
        return scheme_of(url) in SCHEMES

    def events(self, config: BrokerConfig) -> EventSource:
        """The event exchange's channels."""
        return RedisEvents(config)

    def queue_reader(self, config: BrokerConfig) -> QueueReader:
        """The lengths of the queues' lists."""
        return RedisQueues(config)


@hookimpl
def register_broker_adapters(settings: Settings) -> list[BrokerAdapter]:
    """Comes before the kombu adapter, which offers itself last."""
    return [RedisAdapter()]
