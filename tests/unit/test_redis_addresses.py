"""A broker's URL and Celery's options say where the events are, in kombu's way."""

from typing import Any

import pytest

from meadow.broker import BrokerConfig
from meadow.errors import BrokerUnavailable
from meadow_redis import RedisAdapter
from meadow_redis.addresses import Address, addresses
from meadow_redis.channels import event_patterns


def only(url: str, **config: Any) -> Address:
    (address,) = addresses(BrokerConfig(url=url, **config))
    return address


@pytest.mark.parametrize(
    ("url", "host", "port", "database"),
    [
        ("redis://", "127.0.0.1", 6379, 0),
        ("redis:///2", "127.0.0.1", 6379, 2),
        ("redis://h", "h", 6379, 0),
        ("redis://h:6380/", "h", 6380, 0),
        ("redis://h//3", "h", 6379, 3),
        ("redis://[::1]:6380/7", "::1", 6380, 7),
        ("rediss://h/1", "h", 6379, 1),
        ("redis://h/1?virtual_host=4", "h", 6379, 4),
        ("redis://h?db=5", "h", 6379, 5),
    ],
)
def test_host_port_and_database(url: str, host: str, port: int, database: int) -> None:
    address = only(url)
    assert (address.options["host"], address.options["port"], address.database) == (host, port, database)


def test_user_and_password_are_decoded() -> None:
    address = only("redis://ada:p%40ss%2Fw%3Ard@h/0")
    assert (address.options["username"], address.options["password"]) == ("ada", "p@ss/w:rd")


def test_a_socket_has_a_path_a_virtual_host_and_nothing_of_tcp() -> None:
    options = {"socket_keepalive": True, "socket_keepalive_options": {"1": 2}, "socket_timeout": 7.0}
    address = only("redis+socket://:pw@/run/redis.sock?virtual_host=3", transport_options=options)
    assert address.database == 3
    assert address.options == {
        "path": "/run/redis.sock",
        "password": "pw",
        "socket_timeout": 7.0,
        "socket_connect_timeout": 4.0,
    }


def test_options_of_celery_are_passed_on_and_those_of_the_url_win() -> None:
    address = only(
        "redis://h/0?socket_timeout=9&max_connections=4&health_check_interval=3&protocol=3",
        connection_timeout=2.0,
        transport_options={
            "socket_timeout": 1.0,
            "socket_keepalive": True,
            "socket_keepalive_options": {"4": 60},
            "client_name": "eye",
            "visibility_timeout": 3600,
            "max_connections": 3,
        },
    )
    assert address.options == {
        "host": "h",
        "port": 6379,
        "socket_timeout": 9.0,
        "socket_connect_timeout": 2.0,
        "socket_keepalive": True,
        "socket_keepalive_options": {4: 60},
        "client_name": "eye",
    }


@pytest.mark.parametrize(
    ("url", "use_ssl", "expected"),
    [
        ("redis://h/0", None, {}),
        ("redis://h/0", True, {}),
        ("redis://h/0", {"ssl_ca_certs": "ca"}, {"ssl_ca_certs": "ca"}),
        ("rediss://h/0", None, {"ssl_cert_reqs": "none"}),
        ("rediss://h/0", True, {"ssl_cert_reqs": "none"}),
        ("rediss://h/0", {"ssl_cert_reqs": "CERT_REQUIRED"}, {"ssl_cert_reqs": "required"}),
        ("rediss://h/0?ssl_cert_reqs=optional", {"ssl_ca_certs": "ca"}, {"ssl_cert_reqs": "optional"}),
        ("redis://h/0?ssl_cert_reqs=CERT_NONE", None, {"ssl_cert_reqs": "none"}),
        (
            "rediss://h/0?ssl_check_hostname=false&ssl_certfile=c&ssl_keyfile=k",
            None,
            {"ssl_check_hostname": False, "ssl_certfile": "c", "ssl_keyfile": "k"},
        ),
    ],
)
def test_tls_options(url: str, use_ssl: Any, expected: dict[str, Any]) -> None:
    address = only(url, use_ssl=use_ssl)
    assert {name: value for name, value in address.options.items() if name.startswith("ssl_")} == expected
    assert address.tls is bool(expected)


def test_several_brokers_are_several_addresses() -> None:
    found = addresses(BrokerConfig(url="redis://a/1; redis://b:7/2 ;"))
    assert [(address.options["host"], address.database) for address in found] == [("a", 1), ("b", 2)]


def test_several_sentinels_are_one_address_with_the_first_ones_credentials() -> None:
    address = only("sentinel://:pw@a/2;sentinel://b:7/3", use_ssl={"ssl_ca_certs": "ca"})
    assert address.sentinels == (("a", 26379), ("b", 7))
    assert (address.database, address.tls, address.options["password"]) == (2, True, "pw")
    assert not {"host", "port"} & set(address.options)


@pytest.mark.parametrize(
    "url",
    [
        "",
        ";",
        "redis",
        "redis://:hun/ter2@h:6379/0",
        "redis://:hunter2@h:port/0",
        "redis://:hunter2@h:99999/0",
        "redis://:hunter2@[::1/0",
        "redis://:hunter2@h/0?socket_timeout=soon",
        "redis://:hunter2@h/shop",
        "redis://:hunter2@h/-1",
        "redis://:hunter2@h/\u0663",
        "redis://h;amqp://:hunter2@h",
    ],
)
def test_a_url_that_makes_no_sense_is_refused_without_showing_any_of_it(url: str) -> None:
    with pytest.raises(BrokerUnavailable, match="The broker's URL") as caught:
        addresses(BrokerConfig(url=url))
    assert not any(piece in str(caught.value) for piece in ("hunter2", "hun", "ter2"))
    assert caught.value.__cause__ is None


def test_the_adapter_fits_what_names_a_redis() -> None:
    fits = RedisAdapter().fits
    assert all(fits(url) for url in ("redis://", "rediss://h/0", "redis+socket:///s", "sentinel://a;sentinel://b"))
    assert not any(fits(url) for url in ("amqp://", "redis", "unix:///s", "filesystem://", "redis+amqp://", ""))


@pytest.mark.parametrize(
    ("options", "patterns"),
    [
        ({}, ("/3.celeryev/*",)),
        ({"fanout_patterns": False}, ("/3.celeryev",)),
        ({"fanout_prefix": False}, ("celeryev/*",)),
        ({"fanout_prefix": "/all."}, ("/all.celeryev/*",)),
        ({"fanout_prefix": "/{db}/{db}."}, ("/3/3.celeryev/*",)),
        ({"global_keyprefix": "shop-"}, ("shop-/3.celeryev/*",)),
        ({"global_keyprefix": "a*[b]?\\"}, ("a\\*\\[b\\]\\?\\\\/3.celeryev/*",)),
        ({"sentinel_fanout_compat": True}, ("/3.celeryev/*", "/{db}.celeryev/*")),
        ({"sentinel_fanout_compat": True, "fanout_prefix": "/all."}, ("/all.celeryev/*",)),
    ],
)
def test_channels_are_named_as_kombu_names_them(options: dict[str, Any], patterns: tuple[str, ...]) -> None:
    assert event_patterns("celeryev", 3, options) == patterns
