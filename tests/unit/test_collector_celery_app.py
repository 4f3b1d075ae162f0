"""What the collector takes from a Celery app survives JSON, and what cannot is named in the log."""

import ssl
from typing import Any

import pytest
from celery import Celery
from kombu import Queue

from meadow.broker import BrokerConfig
from meadow.codec import decode, encode
from meadow.errors import StartRefused
from meadow.settings import Settings
from meadow_collector.celery_app import build_app, describe, load


def described(settings: Settings | None = None, **configuration: Any) -> BrokerConfig:
    app = Celery("t", set_as_current=False)
    app.conf.update(configuration)
    found = describe(app, settings or Settings())
    assert decode(encode(found), BrokerConfig) == found
    return found


@pytest.fixture(autouse=True)
def no_broker_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"):
        monkeypatch.delenv(name, raising=False)


def test_the_read_url_comes_before_the_broker_url_and_the_settings_before_both() -> None:
    both = {"broker_url": "redis://write", "broker_read_url": "redis://read"}
    assert described(broker_url="redis://write").url == "redis://write"
    assert described(**both).url == "redis://read"
    assert described(Settings(broker="redis://mine"), **both).url == "redis://mine"
    assert described().url.startswith("amqp://")


def test_several_brokers_are_separated_by_semicolons() -> None:
    assert described(broker_url=["amqp://a", "amqp://b"]).url == "amqp://a;amqp://b"


def test_names_of_exchanges_and_queues_are_taken_over() -> None:
    found = described(
        broker_url="redis://h",
        event_exchange="ev",
        event_queue_prefix="evq",
        event_queue_ttl=3,
        event_queue_expires=None,
        control_exchange="ctl",
        task_default_queue="main",
        task_queues=[Queue("a"), Queue("b")],
        broker_heartbeat=30,
        broker_login_method="PLAIN",
    )
    assert (found.event_exchange, found.event_queue_prefix, found.control_exchange) == ("ev", "evq", "ctl")
    assert (found.event_queue_ttl, found.event_queue_expires, found.heartbeat) == (3.0, None, 30.0)
    assert found.queues == ("a", "b", "main")


def test_ssl_constants_become_numbers_or_the_words_of_redis() -> None:
    options = {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": "/ca.pem"}
    assert described(broker_url="amqp://h", broker_use_ssl=options).use_ssl == {"cert_reqs": 2, "ca_certs": "/ca.pem"}
    assert described(broker_use_ssl={"ssl_cert_reqs": ssl.CERT_NONE}).use_ssl == {"ssl_cert_reqs": "none"}
    assert described(broker_use_ssl={"ssl_cert_reqs": "required"}).use_ssl == {"ssl_cert_reqs": "required"}
    assert described(broker_use_ssl=True).use_ssl is True
    assert described(broker_use_ssl=False).use_ssl is None


def test_an_option_that_json_cannot_carry_is_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    options = {"visibility_timeout": 5, "queue_order_strategy": lambda queues: queues, "priority_steps": (0, 5)}
    found = described(broker_url="redis://h", broker_transport_options=options)
    assert found.transport_options == {"visibility_timeout": 5, "priority_steps": [0, 5]}
    assert "broker_transport_options['queue_order_strategy']" in caplog.text


@pytest.mark.parametrize("name", ["no_such_module_anywhere", "json:no_such_thing", "json:dumps"])
def test_an_app_that_is_none_stops_the_start_with_a_hint(name: str) -> None:
    with pytest.raises(StartRefused, match="module:attribute"):
        load(name)


def test_without_an_app_the_broker_comes_from_the_settings_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert describe(build_app(Settings()), Settings()).url == "amqp://guest@localhost//"
    assert describe(build_app(Settings(broker="redis://mine")), Settings()).url == "redis://mine"
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://environment")
    assert describe(build_app(Settings()), Settings()).url == "redis://environment"
