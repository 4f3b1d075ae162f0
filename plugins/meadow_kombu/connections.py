"""Opens kombu connections as Celery would, and turns kombu's many errors into one."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import kombu.connection
from kombu.exceptions import KombuError, OperationalError

from meadow.broker import BrokerConfig
from meadow.errors import BrokerUnavailable

log = logging.getLogger(__name__)

Connection: Any = kombu.connection.Connection
"""kombu's annotations are too incomplete to be checked against."""

SOCKET_TIMEOUT = 5.0
FILESYSTEM_POLLING = 0.1
REDIS = frozenset({"redis", "rediss", "sentinel"})


def scheme_of(url: str) -> str:
    """The kind of broker, as `redis` in `redis+socket:///run/redis.sock`."""
    return url.partition("://")[0].partition("+")[0]


def new_connection(config: BrokerConfig) -> Any:
    """A connection that is not open yet; raises `BrokerUnavailable` for a URL that kombu does not understand."""
    try:
        return Connection(
            config.url,
            ssl=config.use_ssl or None,
            login_method=config.login_method,
            connect_timeout=config.connection_timeout,
            heartbeat=config.heartbeat,
            transport_options=transport_options(config),
        )
    except Exception as exc:
        raise BrokerUnavailable(f"kombu does not understand the broker's URL: {exc}") from exc


def transport_options(config: BrokerConfig) -> dict[str, Any]:
    """Celery's options, and limits to how long a socket may be silent in the middle of something."""
    options = dict(config.transport_options)
    scheme = scheme_of(config.url)
    if scheme in REDIS:
        options.setdefault("socket_timeout", SOCKET_TIMEOUT)
        options.setdefault("socket_connect_timeout", config.connection_timeout)
        keepalive = options.get("socket_keepalive_options")
        if isinstance(keepalive, dict):  # JSON made words of the numbers
            options["socket_keepalive_options"] = {int(key): value for key, value in keepalive.items()}
    if scheme == "filesystem":
        options.setdefault("polling_interval", FILESYSTEM_POLLING)
    return options


def open_connection(config: BrokerConfig) -> Any:
    """An open connection to the first of the URL's brokers that answers; raises `BrokerUnavailable`."""
    connection = new_connection(config)
    attempts = max(len(connection.alt or ()), 1)
    try:
        connection.ensure_connection(max_retries=attempts, interval_start=0, interval_step=0, interval_max=0)
    except Exception as exc:  # a missing library, a wrong port, a refused password: all mean the same to the caller
        close(connection)
        raise BrokerUnavailable(f"The broker cannot be reached: {explain(exc)}") from exc
    return connection


@contextmanager
def broker_errors(connection: Any) -> Iterator[None]:
    """Within it, what means that the broker cannot be used is raised as `BrokerUnavailable`."""
    try:
        yield
    except unavailable(connection) as exc:
        raise BrokerUnavailable(f"The connection to the broker was lost: {explain(exc)}") from exc


def unavailable(connection: Any) -> tuple[type[BaseException], ...]:
    """The exceptions that mean that the broker cannot be used."""
    return (*connection.connection_errors, *connection.channel_errors, OperationalError, KombuError, OSError)


def close(connection: Any) -> None:
    """Close it whatever state it is in."""
    try:
        connection.release()
    except Exception:  # it was broken already, and a new one will be made
        log.debug("A broken connection could not be closed properly.", exc_info=True)


def explain(exc: BaseException) -> str:
    """The error in words."""
    return str(exc) or type(exc).__name__
