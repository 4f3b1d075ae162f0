"""The names of the channels to which kombu publishes events on Redis. Pure.

Source: `kombu.transport.redis.Channel` of kombu 5.7: `keyprefix_fanout`, `_get_publish_topic`, and for the names of
kombu before 5.4 on sentinels `SentinelChannel._get_legacy_publish_topic`.
"""

import re
from collections.abc import Mapping
from typing import Any

FANOUT_PREFIX = "/{db}."
_GLOB = re.compile(r"([*?\[\]\\])")


def event_patterns(exchange: str, database: int, options: Mapping[str, Any]) -> tuple[str, ...]:
    """The patterns for PSUBSCRIBE that match all channels of the event exchange, and nothing else.

    >>> event_patterns("celeryev", 3, {"global_keyprefix": "shop-"})
    ('shop-/3.celeryev/*',)
    """
    prefix = _fanout_prefix(options)
    prefixes = [prefix.replace("{db}", str(database))]
    if options.get("sentinel_fanout_compat"):  # kombu before 5.4 left the braces as they are
        prefixes.append(prefix)
    key_prefix = options.get("global_keyprefix") or ""
    end = "/*" if options.get("fanout_patterns", True) else ""
    names = [_GLOB.sub(r"\\\1", f"{key_prefix}{prefix}{exchange}") + end for prefix in prefixes]
    return tuple(dict.fromkeys(names))


def _fanout_prefix(options: Mapping[str, Any]) -> str:
    chosen = options.get("fanout_prefix", True)
    if isinstance(chosen, str):
        return chosen
    return FANOUT_PREFIX if chosen else ""
