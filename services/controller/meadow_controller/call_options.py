"""Options of a task call as people write them, turned into what Celery takes."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

DATE_FORMAT = "%Y-%m-%d %H:%M:%S.%f"
"""Flower's, without a time zone: Celery reads it in the app's."""


def normalise(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with `eta`, `countdown` and `expires` as Celery takes them.

    Raises ValueError where a text cannot be read, TypeError where it is none (as Flower's own reading does).
    """
    result = dict(options)
    if "eta" in result:
        result["eta"] = datetime.strptime(result["eta"], DATE_FORMAT)
    if "countdown" in result:
        result["countdown"] = _finite(result["countdown"])
    if "expires" in result:
        result["expires"] = _expires(result["expires"])
    return result


def _expires(value: Any) -> float | datetime:
    try:
        number = float(value)
    except ValueError:
        return datetime.strptime(value, DATE_FORMAT)
    return _finite(number)


def _finite(value: Any) -> float:
    number = float(value)
    if number - number != 0:
        raise ValueError(f"{value!r} is not a number of seconds")
    return number
