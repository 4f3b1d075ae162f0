"""Opens connections with redis-py, and turns its errors into one. The only module that speaks redis-py."""

import logging
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import redis
import redis.connection
import redis.exceptions
import redis.sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry

from meadow.broker import BrokerConfig
from meadow.errors import BrokerUnavailable
from meadow_redis.addresses import Address, addresses

log = logging.getLogger(__name__)

Sentinel: Any = redis.sentinel.Sentinel
"""redis-py's own annotations are incomplete."""

Target = dict[str, Any]

NotAllowed: Any = redis.exceptions.NoPermissionError


class Link:
    """One open connection: signed in, its database selected."""

    def __init__(self, connection: Any, target: Target, database: int) -> None:
        self._connection = connection
        self.target = target
        self.database = database

    @property
    def socket(self) -> socket.socket:
        """The socket, through TLS where that was asked for. Nothing is under way on it."""
        sock: socket.socket = self._connection._sock  # redis-py has no other door to it
        return sock

    def ask(self, *commands: tuple[str | int, ...]) -> list[Any]:
        """The answers to the commands, asked for in one round trip; an exception for a command that Redis refused."""
        self._connection.send_packed_command(self._connection.pack_commands(commands))
        return [self._answer() for _ in commands]

    def _answer(self) -> Any:
        try:
            return self._connection.read_response()
        except redis.exceptions.ResponseError as exc:
            return exc

    def close(self) -> None:
        """Hang up. May be called twice."""
        try:
            self._connection.disconnect()
        except (OSError, redis.RedisError):  # it was broken already
            log.debug("A broken connection could not be closed properly.", exc_info=True)


class Door:
    """The way to the broker: opens a connection to the first address that answers, beginning with the last that did."""

    def __init__(self, config: BrokerConfig) -> None:
        self._config = config
        self._first = 0

    def open(self) -> Link:
        """A connection; raises `BrokerUnavailable` when no address gives one."""
        found = addresses(self._config)
        reasons = []
        for step in range(len(found)):
            place = (self._first + step) % len(found)
            try:
                link = self._open(found[place])
            except BrokerUnavailable as exc:
                reasons.append(str(exc))
                continue
            self._first = place
            return link
        raise BrokerUnavailable(" ".join(dict.fromkeys(reasons)))

    def has_moved(self, link: Link) -> bool:
        """Whether the sentinels name another master than the one that the link leads to."""
        (address, *_) = addresses(self._config)
        if not address.sentinels:
            return False
        try:
            return self._master(address) != (link.target["host"], link.target["port"])
        except BrokerUnavailable as exc:  # the link may be good all the same
            log.debug("The sentinels were not heard: %s", exc)
            return False

    def _open(self, address: Address) -> Link:
        target = dict(address.options)
        if address.sentinels:
            target["host"], target["port"] = self._master(address)
        with redis_errors():
            connection = _connection_class(address)(**_keywords(target, address.database))
            link = Link(connection, target, address.database)
            try:
                connection.connect()
            except BaseException:
                link.close()
                raise
        return link

    def _master(self, address: Address) -> tuple[str, int]:
        options = self._config.transport_options
        name = options.get("master_name")
        if not name:
            raise BrokerUnavailable("broker_transport_options lack the sentinels' master_name.")
        with redis_errors():
            sentinel = Sentinel(
                address.sentinels,
                min_other_sentinels=int(options.get("min_other_sentinels") or 0),
                sentinel_kwargs=_sentinel_keywords(address, options),
            )
            try:
                host, port = sentinel.discover_master(name)
            except redis.sentinel.MasterNotFoundError:  # its text shows more of the sentinels than anybody needs
                asked = ", ".join(f"{host}:{port}" for host, port in address.sentinels)
                raise BrokerUnavailable(f"No sentinel names a master of {name!r} (asked: {asked}).") from None
            finally:
                for client in sentinel.sentinels:
                    client.close()
        return str(host), int(port)


@contextmanager
def redis_errors() -> Iterator[None]:
    """Within it, whatever goes wrong with a connection is raised as `BrokerUnavailable`."""
    try:
        yield
    except redis.exceptions.AuthenticationError as exc:
        raise BrokerUnavailable(f"Redis refuses the user or the password: {explain(exc)}") from exc
    except redis.exceptions.ResponseError as exc:
        raise BrokerUnavailable(f"Redis refuses the connection: {explain(exc)}") from exc
    except (redis.RedisError, OSError) as exc:
        raise BrokerUnavailable(f"Redis cannot be reached: {explain(exc)}") from exc
    except (TypeError, ValueError, ImportError, AttributeError) as exc:  # what redis-py says to options it cannot use
        raise BrokerUnavailable(f"The broker's options cannot be used: {explain(exc)}") from exc


def explain(exc: BaseException) -> str:
    """The error in words."""
    return str(exc) or type(exc).__name__


def _connection_class(address: Address) -> Any:
    if "path" in address.options:
        return redis.connection.UnixDomainSocketConnection
    return redis.connection.SSLConnection if address.tls else redis.connection.Connection


def _keywords(target: Target, database: int) -> dict[str, Any]:
    keywords = {**target, "db": database, "protocol": 2}
    provider = keywords.get("credential_provider")
    if provider is not None:
        keywords["credential_provider"] = _named_class(provider)()
        keywords.pop("username", None)
        keywords.pop("password", None)
    return keywords


def _named_class(name: str) -> Any:
    """The class that `module:Class` or `module.Class` names, as kombu's `symbol_by_name` reads it."""
    module, _, attribute = name.partition(":") if ":" in name else name.rpartition(".")
    return getattr(import_module(module), attribute)


def _sentinel_keywords(address: Address, options: Mapping[str, Any]) -> dict[str, Any]:
    """How to connect to the sentinels themselves. As in redis-py, only timeouts are shared with the master.

    A sentinel that does not answer is not asked again: the next one is, and the caller tries all of them later.
    """
    keywords = {name: value for name, value in address.options.items() if name.startswith("socket_")}
    own = options.get("sentinel_kwargs")
    if isinstance(own, dict):
        keywords = {"socket_connect_timeout": keywords.get("socket_connect_timeout"), **own}
    return {**keywords, "retry": Retry(NoBackoff(), 0)}
