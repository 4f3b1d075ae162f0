"""Running a task again: its call as JSON, read exactly from the reprs that the worker reported, or why it cannot be.

A call that was cut, hides a secret or holds more than plain data would be another call, so it is not offered. Pure.
"""

import ast
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LARGEST = 64 * 1024
DEEPEST = 40
INTEGERS = range(-(2**63), 2**64)
CUTS = ("...", "…")
MASK = "***"
ONE_LINE = 90

_ESCAPE = re.compile(r"\\(?:[\\'\"nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")


class NotExact(Exception):
    """The text does not say exactly what the call was; the message says why."""


@dataclass(frozen=True)
class Call:
    """A task's call: `args` and `kwargs` are plain data, `queue` is where it was sent (`None`: not known)."""

    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    queue: str | None = None


def call_of(task: Mapping[str, Any]) -> Call:
    """The call of a task with Flower's keys; raises `NotExact`."""
    name = task.get("name")
    if not name:
        raise NotExact("The name of this task is not known.")
    args = literal(task.get("args"), "arguments")
    kwargs = literal(task.get("kwargs"), "keyword arguments")
    if not isinstance(args, list):
        raise NotExact("The arguments are not a list of plain data.")
    if not isinstance(kwargs, dict):
        raise NotExact("The keyword arguments are not a mapping of plain data.")
    return Call(str(name), args, kwargs, str(task["queue"]) if task.get("queue") else None)


def why_not(task: Mapping[str, Any]) -> str | None:
    """Why this task cannot be run again as it was, or `None`."""
    try:
        call_of(task)
    except NotExact as exc:
        return str(exc)
    return None


def literal(text: Any, label: str) -> Any:
    """A repr as plain data, with lists for tuples; raises `NotExact`."""
    if not isinstance(text, str) or not text:
        raise NotExact(f"The {label} are not known.")
    if len(text) > LARGEST:
        raise NotExact(f"The {label} are too long.")
    if any(cut in text for cut in CUTS):
        raise NotExact(f"The {label} were cut before they came here.")
    if MASK in text:
        raise NotExact(f"The {label} hold a hidden value.")
    if "\\" in _ESCAPE.sub("", text):  # no repr writes that, and Python would warn of it
        raise NotExact(f"The {label} are not plain data.")
    try:
        return plain(ast.literal_eval(text))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as exc:
        raise NotExact(f"The {label} are not plain data.") from exc


def plain(value: Any, depth: int = 0) -> Any:
    """The value with lists for tuples, if JSON can say it and everybody who reads it; raises `ValueError`."""
    if depth > DEEPEST:
        raise ValueError("it is nested too deeply")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        if value not in INTEGERS:
            raise ValueError("it holds a number of more than 64 bits")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("it holds a number that JSON does not have")
        return value
    if isinstance(value, list | tuple):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {_text(key): plain(item, depth + 1) for key, item in value.items()}
    raise ValueError("it holds something that JSON does not have")


def _text(text: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("it holds half a character")
    return text


def from_json(text: str) -> Any:
    """What somebody typed; raises `ValueError` with what to correct."""
    if len(text) > LARGEST:
        raise ValueError(f"it is longer than {LARGEST:,} characters")
    try:
        return plain(json.loads(text))
    except json.JSONDecodeError as exc:
        raise ValueError(f"{exc.msg}, in line {exc.lineno} at column {exc.colno}") from exc
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc


def as_json(value: Any) -> str:
    """Plain data as JSON to read and to edit."""
    line = json.dumps(value, ensure_ascii=False)
    return line if len(line) <= ONE_LINE else json.dumps(value, ensure_ascii=False, indent=2)
