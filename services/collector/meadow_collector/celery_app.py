"""The user's Celery app: loading it, and taking from its settings what the collector needs to know of the broker."""

import logging
import os
from typing import Any

import msgspec
from celery import Celery
from celery.app.utils import find_app

from meadow.broker import BrokerConfig
from meadow.errors import StartRefused
from meadow.settings import Settings

log = logging.getLogger(__name__)

DEFAULT_BROKER = "amqp://guest@localhost//"
IN_FLIGHT_SHARE = 8
"""What waits for NATS takes more room in the buffer than it took on the wire."""
CERTIFICATE_NEEDS = {0: "none", 1: "optional", 2: "required"}


def load(name: str) -> Celery:
    """The app that `celery -A name` would find; raises `StartRefused`."""
    try:
        found = find_app(name)
    except Exception as exc:
        raise StartRefused(
            f"The Celery app {name!r} cannot be loaded ({type(exc).__name__}: {exc}). Give -A as module or "
            "module:attribute, and run Meadow in the app's virtual environment and directory (or add --workdir)."
        ) from exc
    if not isinstance(found, Celery):
        raise StartRefused(
            f"{name!r} is a {type(found).__name__}, not a Celery app. Give -A as module:attribute, such as proj:app."
        )
    return found


def build_app(settings: Settings) -> Celery:
    """An app that knows nothing but the broker, for a Meadow that is given no app."""
    url = settings.broker or os.environ.get("CELERY_BROKER_URL") or DEFAULT_BROKER
    return Celery("meadow", broker=url, backend=settings.result_backend, set_as_current=False)


def describe(app: Celery, settings: Settings) -> BrokerConfig:
    """All that is needed to read the app's broker; survives JSON."""
    conf = app.conf
    return BrokerConfig(
        url=settings.broker or _broker_url(app),
        transport_options=_plain("broker_transport_options", dict(conf.broker_transport_options or {})),
        use_ssl=_ssl(conf.broker_use_ssl),
        login_method=conf.broker_login_method,
        connection_timeout=float(conf.broker_connection_timeout or 4.0),
        heartbeat=float(conf.broker_heartbeat or 0.0),
        event_exchange=conf.event_exchange,
        event_queue_prefix=conf.event_queue_prefix,
        event_serializer=conf.event_serializer,
        event_queue_ttl=_seconds(conf.event_queue_ttl),
        event_queue_expires=_seconds(conf.event_queue_expires),
        control_exchange=conf.control_exchange,
        queues=tuple(dict.fromkeys((*map(str, app.amqp.queues), str(conf.task_default_queue)))),
        broker_api=settings.broker_api,
        accept_pickle=settings.accept_pickle,
        cluster=settings.cluster,
        in_flight_bytes=max(settings.buffer_bytes // IN_FLIGHT_SHARE, 1),
    )


def _broker_url(app: Celery) -> str:
    url = app.conf.broker_read_url
    if not url:
        return str(app.connection_for_read().as_uri(include_password=True))
    return url if isinstance(url, str) else ";".join(map(str, url))


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)


def _ssl(value: Any) -> Any:
    """`broker_use_ssl` with numbers for Python's ssl constants, and words where redis-py wants words."""
    if not isinstance(value, dict):
        return bool(value) or None
    options = _plain("broker_use_ssl", value)
    needs = options.get("ssl_cert_reqs")
    if isinstance(needs, int):
        options["ssl_cert_reqs"] = CERTIFICATE_NEEDS.get(needs, "required")
    return options


def _plain(where: str, values: dict[Any, Any]) -> dict[str, Any]:
    """The values that JSON can carry; the log names those it cannot."""
    kept = {}
    for key, value in values.items():
        try:
            kept[str(key)] = msgspec.json.decode(msgspec.json.encode(value, enc_hook=_refuse))
        except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as exc:
            log.warning(
                "%s[%r] cannot be passed on to the collector and is left out (%s).",
                where,
                key,
                exc,
                extra={"action": "broker.option-dropped", "key": str(key)},
            )
    return kept


def _refuse(value: Any) -> Any:
    raise TypeError(f"it is a {type(value).__name__}")
