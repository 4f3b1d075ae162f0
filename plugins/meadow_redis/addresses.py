"""Where a Redis is and how to connect to it, read from the broker's URL and Celery's options. Pure.

The rules are those of kombu 5.7 (`kombu.utils.url.parse_url`, `kombu.transport.redis.Channel._connparams`), so that
the events are read from where the workers send them. URLs themselves are taken apart by redis-py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from redis import connection

from meadow.broker import BrokerConfig
from meadow.errors import BrokerUnavailable

SCHEMES = {"redis": "redis", "rediss": "redis", "sentinel": "redis", "redis+socket": "unix"}
"""The schemes that kombu knows, and how redis-py names what is meant."""

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 6379
DEFAULT_SENTINEL_PORT = 26379
SOCKET_TIMEOUT = 5.0

PASSED_ON = ("socket_timeout", "socket_connect_timeout", "socket_keepalive", "socket_keepalive_options", "client_name")
"""The transport options that concern a connection."""

NOT_OURS = frozenset(
    {
        "connection_class",
        "db",
        "decode_responses",
        "encoding",
        "health_check_interval",
        "max_connections",
        "protocol",
        "retry_on_error",
        "retry_on_timeout",
        "timeout",
        "virtual_host",
    }
)
"""What a URL may say to redis-py's pools and clients, or is read here."""

parse_url: Any = connection.parse_url
"""redis-py's own annotations are incomplete."""

TCP_ONLY = ("socket_keepalive", "socket_keepalive_options", "ssl_")

CERTIFICATE_NEEDS = {"CERT_NONE": "none", "CERT_OPTIONAL": "optional", "CERT_REQUIRED": "required"}

NOT_UNDERSTOOD = (
    "The broker's URL is not understood. It should look like redis://user:password@host:6379/0, and special characters "
    "in the password have to be percent-encoded."
)


@dataclass(frozen=True)
class Address:
    """One Redis, or the sentinels that know one. `options` are keyword arguments of redis-py's connections."""

    options: Mapping[str, Any]
    database: int
    tls: bool = False
    sentinels: tuple[tuple[str, int], ...] = ()


def scheme_of(url: str) -> str:
    """The scheme, as `redis+socket` in `redis+socket:///run/redis.sock`; empty where there is none."""
    scheme, separator, _ = url.partition("://")
    return scheme if separator else ""


def addresses(config: BrokerConfig) -> list[Address]:
    """The addresses that the broker's URL names, in its order; all sentinels together are one.

    Raises `BrokerUnavailable` for a URL that makes no sense.
    """
    urls = [part.strip() for part in config.url.split(";") if part.strip()]
    found = [_address(url, config) for url in urls]
    if not found:
        raise BrokerUnavailable(NOT_UNDERSTOOD)
    if scheme_of(urls[0]) != "sentinel":
        return found
    hosts = [address.options for url, address in zip(urls, found, strict=True) if scheme_of(url) == "sentinel"]
    first = found[0]
    options = {name: value for name, value in first.options.items() if name not in ("host", "port")}
    sentinels = tuple((host["host"], host["port"]) for host in hosts)
    return [Address(options, first.database, first.tls, sentinels)]


def _address(url: str, config: BrokerConfig) -> Address:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise BrokerUnavailable(NOT_UNDERSTOOD)
    plain = f"{SCHEMES[scheme]}://{rest}"
    try:
        from_url: dict[str, Any] = parse_url(plain)
        path = urlsplit(plain).path
    except ValueError:  # its message may hold a piece of the password
        raise BrokerUnavailable(NOT_UNDERSTOOD) from None
    local = scheme == "redis+socket"
    database = _database(from_url.get("virtual_host") or ("" if local else path.strip("/")) or from_url.get("db"))
    tls = _tls_options(scheme, from_url, config.use_ssl)
    options = _connection_options(config) | {
        name: value for name, value in from_url.items() if name not in NOT_OURS and not name.startswith("ssl_")
    }
    if local:
        return Address(_without_tcp(options), database)
    options.setdefault("host", DEFAULT_HOST)
    options.setdefault("port", DEFAULT_SENTINEL_PORT if scheme == "sentinel" else DEFAULT_PORT)
    return Address(options | tls, database, tls=bool(tls))


def _database(virtual_host: Any) -> int:
    """The number of the database that a virtual host names; none is 0."""
    bare = str(virtual_host or "").lstrip("/")
    if not bare:
        return 0
    if not (bare.isascii() and bare.isdigit()):
        raise BrokerUnavailable("The broker's URL should end with the number of a database, as in redis://host:6379/0.")
    return int(bare)


def _connection_options(config: BrokerConfig) -> dict[str, Any]:
    """What Celery's options say about connections."""
    options = {name: config.transport_options[name] for name in PASSED_ON if name in config.transport_options}
    options.setdefault("socket_timeout", SOCKET_TIMEOUT)
    options.setdefault("socket_connect_timeout", config.connection_timeout)
    keepalive = options.get("socket_keepalive_options")
    if isinstance(keepalive, dict):  # JSON made words of the numbers
        options["socket_keepalive_options"] = {int(key): value for key, value in keepalive.items()}
    return options


def _without_tcp(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if not name.startswith(TCP_ONLY)}


def _tls_options(scheme: str, from_url: Mapping[str, Any], use_ssl: Any) -> dict[str, Any]:
    """redis-py's `ssl_…` options; empty without TLS.

    As in kombu, the URL's replace `broker_use_ssl` as a whole, `broker_use_ssl` counts when it is a dictionary, and
    `rediss://` without either encrypts, but checks no certificate.
    """
    options = {name: value for name, value in from_url.items() if name.startswith("ssl_")}
    if not options and isinstance(use_ssl, dict):
        options = dict(use_ssl)
    if not options and scheme == "rediss":
        options = {"ssl_cert_reqs": "none"}
    need = options.get("ssl_cert_reqs")
    if isinstance(need, str):
        options["ssl_cert_reqs"] = CERTIFICATE_NEEDS.get(need, need)
    return options
