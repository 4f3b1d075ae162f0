"""Logs: a sentence for people, `action=` and ids for machines; as text or as one JSON object a line."""

import json
import logging
import sys
import time
from typing import Any

from meadow.settings import Settings

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "none": logging.CRITICAL + 1,
}
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))} | str.maketrans(
    {"\n": "\\n", "\r": "\\r", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)
_NOISY = ("nats", "amqp", "kombu", "celery", "asyncio")


def configure(settings: Settings) -> None:
    """Send all logs to standard error in the chosen form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    level = logging.DEBUG if settings.debug else LEVELS[settings.logging]
    root.setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(level, logging.INFO if settings.debug else logging.WARNING))
    logging.getLogger("aiohttp.server").addFilter(_is_not_a_malformed_request)
    logging.captureWarnings(True)


def _is_not_a_malformed_request(record: logging.LogRecord) -> bool:
    """aiohttp logs each request that is no HTTP with a traceback, and anybody can send a thousand of them."""
    from aiohttp.http_exceptions import HttpProcessingError  # which a process without HTTP need not load

    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)


def extras(record: logging.LogRecord) -> dict[str, Any]:
    """What the caller gave as `extra`."""
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


class TextFormatter(logging.Formatter):
    """`2026-11-22 22:39:46 INFO  sentence  action=… key=…`, in UTC."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """The line without a traceback. What it carries can neither fake another line nor command a terminal."""
        line = super().formatMessage(record)
        pairs = "".join(f" {key}={value}" for key, value in extras(record).items())
        return (f"{line} {pairs}" if pairs else line).translate(_CONTROLS)


class JsonFormatter(logging.Formatter):
    """One object a line: time (epoch seconds), level, logger, message, and the extras."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        content: dict[str, Any] = {
            "time": record.created,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **extras(record),
        }
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return json.dumps(content, default=str, ensure_ascii=False)
