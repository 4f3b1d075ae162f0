"""Meadow's own queue on RabbitMQ: what it is called, how it is declared, and what that needs."""

import logging
from typing import Any

from amqp import exceptions

from meadow.broker import BrokerConfig
from meadow.errors import BrokerUnavailable
from meadow_amqp.connections import explain

log = logging.getLogger(__name__)

CONSUMER = "meadow"
PREFETCH = 2000
"""Messages that RabbitMQ may send ahead of their acknowledgement."""
MOST_BYTES = 256 * 1024 * 1024
"""What the queue holds while no collector reads it; then the oldest messages go."""
EXPIRES = 24 * 3600 * 1000
"""Milliseconds after which RabbitMQ deletes a queue that no collector has read."""


def queue_name(config: BrokerConfig) -> str:
    """The queue that all collectors of a group share.

    >>> queue_name(BrokerConfig(cluster="shop", group="7f3a"))
    'meadow.shop.events.7f3a'
    """
    return ".".join(("meadow", config.cluster, "events", *([config.group] if config.group else [])))


def subscribe(connection: Any, config: BrokerConfig) -> tuple[Any, bool]:
    """Consume from the queue, declared and bound where need be; gives the channel, and whether the queue is new.

    What exists is taken as it is, so that an operator may have made it otherwise. Raises `BrokerUnavailable`.
    """
    queue, exchange = queue_name(config), config.event_exchange
    try:
        channel = connection.channel()
        _see_to_exchange(channel, exchange)
        new = _see_to_queue(channel, queue)
        channel.queue_bind(queue, exchange, routing_key="#")
        channel.basic_qos(0, PREFETCH, False)
        channel.basic_consume(queue, consumer_tag=CONSUMER)
    except exceptions.AccessRefused as exc:
        raise BrokerUnavailable(permission_missing(queue, exchange, explain(exc))) from exc
    except exceptions.ChannelError as exc:
        raise BrokerUnavailable(f"RabbitMQ does not let the queue {queue} be read: {explain(exc)}") from exc
    return channel, new


def permission_missing(queue: str, exchange: str, answer: str) -> str:
    """A sentence that says what to permit."""
    return (
        f"RabbitMQ refuses the queue {queue} to this user ({answer}). It needs the permissions configure '^meadow\\.', "
        f"write '^meadow\\.' and read '^(meadow\\.|{exchange}$)': see 'rabbitmqctl set_permissions'."
    )


def _see_to_exchange(channel: Any, name: str) -> None:
    try:
        channel.exchange_declare(name, "topic", passive=True, auto_delete=False)
    except exceptions.NotFound:  # py-amqp has opened the channel again
        channel.exchange_declare(name, "topic", durable=True, auto_delete=False)  # as Celery does


def _see_to_queue(channel: Any, name: str) -> bool:
    """Whether the queue had to be made."""
    try:
        found = channel.queue_declare(name, passive=True)
    except exceptions.NotFound:
        channel.queue_declare(
            name,
            durable=True,
            exclusive=False,
            auto_delete=False,
            arguments={"x-max-length-bytes": MOST_BYTES, "x-overflow": "drop-head", "x-expires": EXPIRES},
        )
        log.info("The queue %s was declared.", name, extra={"action": "broker.queue-declared", "queue": name})
        return True
    log.info(
        "The queue %s holds %d messages and has %d other readers.",
        name,
        found.message_count,
        found.consumer_count,
        extra={"action": "broker.queue-found", "queue": name},
    )
    return False
