"""Queue depths by passive declarations, which answer with a queue's length and change nothing."""

from collections.abc import Sequence
from typing import Any

import msgspec
from amqp import exceptions

from meadow.broker import BrokerConfig
from meadow.errors import BrokerUnavailable
from meadow.events import QueueDepth
from meadow_amqp.connections import broker_errors, explain, leave, open_connection

UNKNOWN = (403, 404, 405)
"""RabbitMQ's codes for a queue that is not there or is somebody else's."""


class AmqpQueues:
    """Keeps a connection of its own open, and opens it again after an error."""

    supported = True

    def __init__(self, config: BrokerConfig) -> None:
        # Nobody would send heartbeats between two readings.
        self._config = msgspec.structs.replace(config, heartbeat=0.0)
        self._connection: Any | None = None

    def read(self, names: Sequence[str]) -> list[QueueDepth]:
        """The depth of each queue; one that does not exist has a depth of `None`. Raises `BrokerUnavailable`."""
        connection = self._connection or open_connection(self._config, "queue depths")
        self._connection = connection
        try:
            with broker_errors():
                return self._read_from(connection, names)
        except Exception:
            self.close()
            raise

    def _read_from(self, connection: Any, names: Sequence[str]) -> list[QueueDepth]:
        channel = connection.channel()
        depths = []
        for name in names:
            try:
                answer = channel.queue_declare(queue=name, passive=True)
            except exceptions.ChannelError as exc:
                if exc.reply_code not in UNKNOWN:
                    raise BrokerUnavailable(f"The broker does not tell about {name!r}: {explain(exc)}") from exc
                depths.append(QueueDepth(name=name))  # py-amqp has opened the channel again
                continue
            waiting, consumers = answer.message_count, answer.consumer_count
            depths.append(QueueDepth(name=name, messages=waiting, ready=waiting, consumers=consumers))
        channel.close()
        return depths

    def close(self) -> None:
        """Let go of the connection. May be called twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            leave(connection)
