"""Queue depths on Redis: a queue is one list for each priority step, and what workers hold lies in one hash.

The names are kombu's (`kombu.transport.redis.Channel`: `priority_steps`, `sep`, `unacked_key`, `_q_for_pri`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from meadow.broker import BrokerConfig
from meadow.errors import BrokerUnavailable
from meadow.events import QueueDepth
from meadow_redis.connections import Door, Link, NotAllowed, redis_errors

PRIORITY_STEPS = (0, 3, 6, 9)
SEPARATOR = "\x06\x16"
UNACKED = "unacked"
MOST_UNACKED = 1000
MOST_UNACKED_BYTES = 1024 * 1024

_held = msgspec.json.Decoder(tuple[Any, str, str])
"""An unacknowledged message, its exchange and its routing key."""


class RedisQueues:
    """Keeps a connection of its own open, and opens it again after an error."""

    supported = True

    def __init__(self, config: BrokerConfig) -> None:
        self._door = Door(config)
        self._names = Names(config.transport_options)
        self._link: Link | None = None

    def read(self, names: Sequence[str]) -> list[QueueDepth]:
        """The depth of each queue, asked for in one round trip; raises `BrokerUnavailable`."""
        link = self._link or self._door.open()
        self._link = link
        try:
            with redis_errors():
                return self._read(link, names)
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the connection. May be called twice."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _read(self, link: Link, names: Sequence[str]) -> list[QueueDepth]:
        lists = [self._names.lists(name) for name in names]
        *lengths, held, size = link.ask(
            *(("LLEN", key) for keys in lists for key in keys),
            ("HLEN", self._names.unacked),
            ("MEMORY", "USAGE", self._names.unacked),
        )
        for length in lengths:
            if isinstance(length, NotAllowed):
                raise BrokerUnavailable(f"Redis does not tell how long queues are: {length}")
        unacked = self._unacked(link, held, size, names)
        depths = []
        for name, keys in zip(names, lists, strict=True):
            parts, lengths = lengths[: len(keys)], lengths[len(keys) :]
            known = all(isinstance(part, int) for part in parts)  # a key of another type is not a queue
            ready = sum(parts) if known else None
            depths.append(QueueDepth(name=name, messages=ready, ready=ready, unacked=unacked.get(name)))
        return depths

    def _unacked(self, link: Link, held: Any, size: Any, names: Sequence[str]) -> Mapping[str, int]:
        """How many messages of each queue the workers hold; empty where that would take reading too much."""
        if held == 0:
            return dict.fromkeys(names, 0)
        if not (isinstance(held, int) and held <= MOST_UNACKED):
            return {}
        if not (isinstance(size, int) and size <= MOST_UNACKED_BYTES):
            return {}
        (values,) = link.ask(("HVALS", self._names.unacked))
        return unacked_by_queue(values, names) if isinstance(values, list) else {}


class Names:
    """The keys under which kombu keeps queues."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._prefix = options.get("global_keyprefix") or ""
        self._separator = options.get("sep", SEPARATOR)
        self._steps = tuple(options.get("priority_steps") or PRIORITY_STEPS)
        self.unacked = f"{self._prefix}{options.get('unacked_key', UNACKED)}"

    def lists(self, queue: str) -> list[str]:
        """One key for each priority step."""
        return [
            f"{self._prefix}{queue}{self._separator}{step}" if step else self._prefix + queue for step in self._steps
        ]


def unacked_by_queue(values: Iterable[bytes], names: Sequence[str]) -> Mapping[str, int]:
    """The number of held messages of each queue; empty when one of them cannot be assigned to a queue.

    Celery's own queues have a routing key of their own name.
    """
    counts = Counter(dict.fromkeys(names, 0))
    for value in values:
        try:
            _, _, routing_key = _held.decode(value)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return {}
        if routing_key not in counts:
            return {}
        counts[routing_key] += 1
    return counts
