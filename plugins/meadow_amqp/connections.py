"""Opens py-amqp connections as Celery would, and turns its many errors into one. No message holds a password."""

import contextlib
import logging
import math
from collections.abc import Iterator
from typing import Any

import amqp
from amqp import exceptions

from meadow.broker import BrokerConfig
from meadow.errors import BrokerUnavailable
from meadow_amqp.addresses import Address, addresses

log = logging.getLogger(__name__)

ANSWER_TIMEOUT = 10.0
"""Seconds that RabbitMQ may take for an answer, or to take what is sent to it."""
PASSED_ON = ("client_properties", "frame_max", "read_timeout", "socket_settings", "write_timeout")
"""The transport options that concern a connection."""

ERRORS = (exceptions.AMQPError, OSError)


def open_connection(config: BrokerConfig, purpose: str) -> Any:
    """An open connection to the first of the URL's brokers that answers; raises `BrokerUnavailable`."""
    try:
        known = addresses(config.url, tls=bool(config.use_ssl))
    except ValueError as exc:
        raise BrokerUnavailable(
            "The broker's URL is not valid; a password with special characters needs %-codes."
        ) from (None if "@" in str(exc) else exc)
    problems = []
    for address in known:
        connection = amqp.Connection(**_arguments(address, config, purpose))
        try:
            connection.connect()
            connection.transport.sock.settimeout(ANSWER_TIMEOUT)
        except (*ERRORS, ValueError, TypeError) as exc:  # a wrong TLS option is a TypeError
            close(connection)
            problems.append((address, exc))
            continue
        return connection
    reasons = "; ".join(f"{address.host_and_port}: {explain(exc)}" for address, exc in problems)
    raise BrokerUnavailable(f"The broker cannot be reached: {reasons}") from problems[-1][1]


def _arguments(address: Address, config: BrokerConfig, purpose: str) -> dict[str, Any]:
    options = {key: value for key, value in config.transport_options.items() if key in PASSED_ON}
    settings = options.get("socket_settings")
    if isinstance(settings, dict):  # JSON made words of the numbers
        options["socket_settings"] = {int(key): value for key, value in settings.items()}
    name = {"connection_name": f"Meadow {purpose} ({config.cluster})"}
    return {
        **options,
        "host": address.host_and_port,
        "userid": address.user,
        "password": address.password,
        "virtual_host": address.virtual_host,
        "login_method": config.login_method or "PLAIN",
        "ssl": _tls(address, config),
        "connect_timeout": config.connection_timeout,
        "heartbeat": math.ceil(config.heartbeat),
        "client_properties": {**name, **options.get("client_properties", {})},
        "on_blocked": _note_blocked,
        "on_unblocked": _note_unblocked,
    }


def _tls(address: Address, config: BrokerConfig) -> Any:
    if not isinstance(config.use_ssl, dict):
        return address.tls
    options = dict(config.use_ssl)
    if "server_hostname" in options and options["server_hostname"] is None:
        options["server_hostname"] = address.host
    return options


def _note_blocked(reason: str) -> None:
    log.warning(
        "RabbitMQ is short of memory or disk and takes no messages from publishers; what waits is read on.",
        extra={"action": "broker.blocked"},
    )


def _note_unblocked() -> None:
    log.info("RabbitMQ takes messages from publishers again.", extra={"action": "broker.unblocked"})


@contextlib.contextmanager
def broker_errors() -> Iterator[None]:
    """Within it, what means that the broker cannot be used is raised as `BrokerUnavailable`."""
    try:
        yield
    except ERRORS as exc:
        raise BrokerUnavailable(f"The connection to the broker was lost: {explain(exc)}") from exc


def close(connection: Any) -> None:
    """Let go of the socket, whatever state it is in."""
    try:
        connection.collect()
    except ERRORS as exc:
        log.debug("A broken connection could not be closed properly: %s", exc)


def leave(connection: Any) -> None:
    """Close it in good order, if it still can."""
    try:
        connection.close()
    except ERRORS as exc:
        log.debug("A broken connection was left: %s", exc)
        close(connection)


def explain(exc: BaseException) -> str:
    """The error in words."""
    text = getattr(exc, "reply_text", None) or str(exc)
    return str(text) or type(exc).__name__
