"""Queue depths, in the way that each kind of broker offers."""

from collections.abc import Sequence
from typing import Any

from meadow.broker import BrokerConfig, QueueReader
from meadow.errors import BrokerUnavailable
from meadow.events import QueueDepth
from meadow.rabbitmq_management import Broker, ManagementApi
from meadow_kombu.connections import broker_errors, close, explain, new_connection, open_connection


def open_queue_reader(config: BrokerConfig) -> QueueReader:
    """The reader for this broker. Nothing is connected yet."""
    try:
        driver = new_connection(config).get_transport_cls().driver_type
    except (BrokerUnavailable, ImportError, KeyError):
        driver = "unknown"
    if driver == "redis":
        return RedisQueues(config)
    if driver == "amqp":
        return management_api(config, config.broker_api) if config.broker_api else AmqpQueues(config)
    if driver == "filesystem":
        return DeclaredQueues(config)
    return NoQueues()


def management_api(config: BrokerConfig, url: str) -> ManagementApi:
    """The management API at that URL, for this broker."""
    broker = new_connection(config)
    return ManagementApi(url, Broker(broker.virtual_host, broker.userid, broker.password))


class NoQueues:
    """A broker that does not tell how long its queues are."""

    supported = False

    def read(self, names: Sequence[str]) -> list[QueueDepth]:
        """Nothing."""
        return []

    def close(self) -> None:
        """Nothing is open."""


class ConnectedQueues:
    """Keeps a connection of its own open, and opens it again after an error."""

    supported = True

    def __init__(self, config: BrokerConfig) -> None:
        self._config = config
        self._connection: Any | None = None

    def read(self, names: Sequence[str]) -> list[QueueDepth]:
        """The depth of each queue; raises `BrokerUnavailable`."""
        connection = self._connection or open_connection(self._config)
        self._connection = connection
        try:
            with broker_errors(connection):
                return self.read_from(connection, names)
        except Exception:
            self.close()
            raise

    def read_from(self, connection: Any, names: Sequence[str]) -> list[QueueDepth]:
        """The depth of each queue."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the connection. May be called twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            close(connection)


class RedisQueues(ConnectedQueues):
    """A queue is one list for each priority step."""

    def read_from(self, connection: Any, names: Sequence[str]) -> list[QueueDepth]:
        """The lengths of all lists, asked for in one round trip."""
        channel = connection.default_channel
        steps = [channel.priority(step) for step in channel.priority_steps]
        with channel.client.pipeline(transaction=False) as pipe:
            for name in names:
                for step in steps:
                    pipe.llen(f"{name}{channel.sep}{step}" if step else name)
            lengths = pipe.execute(raise_on_error=False)
        depths = []
        for index, name in enumerate(names):
            parts = lengths[index * len(steps) : (index + 1) * len(steps)]
            known = all(isinstance(part, int) for part in parts)  # a key of another type is not a queue
            ready = sum(parts) if known else None
            depths.append(QueueDepth(name=name, messages=ready, ready=ready))
        return depths


class AmqpQueues(ConnectedQueues):
    """Declares each queue passively, which answers with its length and consumers."""

    def read_from(self, connection: Any, names: Sequence[str]) -> list[QueueDepth]:
        """A queue that does not exist has a depth of `None`."""
        channel = connection.channel()
        depths = []
        try:
            for name in names:
                try:
                    answer = channel.queue_declare(queue=name, passive=True)
                except connection.channel_errors as exc:
                    depths.append(QueueDepth(name=name))
                    if getattr(exc, "reply_code", None) not in (403, 404, 405):
                        raise BrokerUnavailable(f"The broker does not tell about {name!r}: {explain(exc)}") from exc
                    continue  # py-amqp has opened the channel again
                depths.append(
                    QueueDepth(
                        name=name,
                        messages=answer.message_count,
                        ready=answer.message_count,
                        consumers=answer.consumer_count,
                    )
                )
        finally:
            channel.close()
        return depths


class DeclaredQueues(ConnectedQueues):
    """kombu's own transports (files): declaring a queue passively counts its messages and changes nothing."""

    def read_from(self, connection: Any, names: Sequence[str]) -> list[QueueDepth]:
        """The number of messages that wait in each queue."""
        channel = connection.default_channel
        depths = []
        for name in names:
            waiting = channel.queue_declare(queue=name, passive=True).message_count
            depths.append(QueueDepth(name=name, messages=waiting, ready=waiting))
        return depths
