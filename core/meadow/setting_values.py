"""How text, and values of files, become values of a setting's type."""

import math
from collections.abc import Callable
from typing import Any, get_args

from meadow.errors import SettingsError
from meadow.setting_rules import option_name
from meadow.settings import TYPES

TRUE_WORDS = frozenset({"1", "true", "t", "yes", "y", "on"})
FALSE_WORDS = frozenset({"0", "false", "f", "no", "n", "off"})


def parse_bool(text: str) -> bool:
    """A truth word as a bool; raises ValueError."""
    word = text.strip().lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def parse(name: str, value: Any) -> Any:
    """`value` (text, or a value from a file) as the type of that setting; raises `SettingsError`."""
    kind, optional = _kind(name)
    if value is None and optional:
        return None
    try:
        return _PARSERS[kind](value)
    except (ValueError, TypeError, OverflowError) as exc:
        raise SettingsError(f"{option_name(name)}: {value!r} is not {_PHRASES[kind]}.") from exc


def _kind(name: str) -> tuple[str, bool]:
    annotation = TYPES[name]
    arms = get_args(annotation)
    optional = type(None) in arms
    if optional:
        annotation = next(arm for arm in arms if arm is not type(None))
    if annotation in (int, float, bool, str):
        return annotation.__name__, optional
    if annotation == tuple[str, ...]:
        return "words", optional
    if annotation == tuple[float, ...]:
        return "numbers", optional
    return "function", optional


def _to_int(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and value != int(value)):
        raise ValueError(value)
    return int(value)


def _to_float(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(float(value)):
        raise ValueError(value)
    return float(value)


def _to_bool(value: Any) -> bool:
    return value if isinstance(value, bool) else parse_bool(str(value))


def _to_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _to_words(value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else list(value)
    return tuple(_to_text(part).strip() for part in parts if _to_text(part).strip())


def _to_numbers(value: Any) -> tuple[float, ...]:
    parts = [part for part in value.split(",") if part.strip()] if isinstance(value, str) else list(value)
    return tuple(float(part) for part in parts)


def _to_function(value: Any) -> Any:
    if not callable(value):
        raise TypeError(value)
    return value


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "int": _to_int,
    "float": _to_float,
    "bool": _to_bool,
    "str": _to_text,
    "words": _to_words,
    "numbers": _to_numbers,
    "function": _to_function,
}
_PHRASES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "words": "a comma separated list",
    "numbers": "a comma separated list of numbers",
    "function": "a function",
}
