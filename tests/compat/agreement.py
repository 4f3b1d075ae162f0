"""When two answers to the same request agree.

How much must be equal is the step's `check`. `status`: status and media type, and the headers that the step names.
`shape`: also the keys and types of the JSON; more keys are welcome. `keys`: also the order of the keys at the top.
`exact`: also the values, but for times and numbers that no two runs share. The values at the step's `paths` are equal
always.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

VOLATILE = {
    *("timestamp", "received", "started", "succeeded", "failed", "retried", "revoked", "rejected", "sent"),
    *("runtime", "clock", "pid", "traceback"),
}
MISSING = "(missing)"


@dataclass(frozen=True)
class Answer:
    """What was answered: `body` is the JSON, or None and `text` holds what it was instead."""

    status: int
    content_type: str | None
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    text: str | None = None


@dataclass
class Shape:
    """What several JSON values have in common: their types, and the shapes of what they hold."""

    types: set[str] = field(default_factory=set)
    keys: dict[str, "Shape"] = field(default_factory=dict)
    optional: set[str] = field(default_factory=set)
    items: "Shape | None" = None


def differences(step: dict[str, Any], expected: Answer, given: Answer) -> list[str]:
    """Where the answer to a step is not the expected one, in sentences; empty when they agree."""
    found = list(_outside(step, expected, given))
    if step["check"] == "status":
        return found
    if expected.body is None:
        if step["check"] == "exact" and (given.body, given.text) != (None, expected.text):
            found.append(
                f"the body is {_short(given.text if given.body is None else given.body)}, not {expected.text!r}"
            )
        return found
    if given.body is None:
        return [*found, f"the body is not JSON: {_short(given.text)}"]
    return found + list(_inside(step, expected.body, given.body))


def _outside(step: dict[str, Any], expected: Answer, given: Answer) -> Iterator[str]:
    if expected.status != given.status:
        yield f"the status is {given.status}, not {expected.status}"
    (kind, charset), (given_kind, given_charset) = _media(expected.content_type), _media(given.content_type)
    both_images = kind.startswith("image/") and given_kind.startswith("image/")
    if not both_images and (kind != given_kind or (charset and given_charset and charset != given_charset)):
        yield f"the content type is {given.content_type}, not {expected.content_type}"
    for name in step.get("headers_checked", ()):
        if expected.headers.get(name) != given.headers.get(name):
            yield f"the header {name} is {given.headers.get(name)!r}, not {expected.headers.get(name)!r}"


def _media(content_type: str | None) -> tuple[str, str]:
    main, _, rest = (content_type or "").partition(";")
    charset = re.search(r"charset=([\w-]+)", rest)
    return main.strip().lower(), charset.group(1).lower() if charset else ""


def _inside(step: dict[str, Any], expected: Any, given: Any) -> Iterator[str]:
    yield from _unlike(_shape([expected]), _shape([given]), "$")
    check = step["check"]
    if check == "keys" and isinstance(given, dict) and list(expected) != list(given):
        yield f"the order of the keys is {_short(list(given))}, not {_short(list(expected))}"
    if check == "exact" and _without_volatile(expected) != _without_volatile(given):
        yield f"the body is {_short(given)}, not {_short(expected)}"
    for path in step.get("paths", ()):
        wanted, got = (sorted(json.dumps(v, sort_keys=True) for v in _at(body, path)) for body in (expected, given))
        if wanted != got:
            yield f"at {path} there is {_short(got)}, not {_short(wanted)}"


def _kind(value: Any) -> str:
    names = {type(None): "null", bool: "boolean", int: "number", float: "number", str: "string", list: "array"}
    return names.get(type(value), "object")


def _shape(values: list[Any]) -> Shape:
    objects = [value for value in values if isinstance(value, dict)]
    items = [item for value in values if isinstance(value, list) for item in value]
    names = dict.fromkeys(name for value in objects for name in value)
    return Shape(
        types={_kind(value) for value in values},
        keys={name: _shape([value[name] for value in objects if name in value]) for name in names},
        optional={name for name in names if any(name not in value for value in objects)},
        items=_shape(items) if items else None,
    )


def _unlike(expected: Shape, given: Shape, path: str) -> Iterator[str]:
    if expected.types != given.types:
        yield f"{path} is {' or '.join(sorted(given.types))}, not {' or '.join(sorted(expected.types))}"
        return
    for name, inner in expected.keys.items():
        if name in given.keys:
            yield from _unlike(inner, given.keys[name], f"{path}.{name}")
        elif name not in expected.optional:
            yield f"{path} has no key {name!r}"
    if expected.items is not None and given.items is None:
        yield f"{path} is empty"
    elif expected.items is not None and given.items is not None:
        yield from _unlike(expected.items, given.items, f"{path}[]")


def _at(value: Any, path: str) -> list[Any]:
    """All values at a dotted path, where * is any key or place."""
    found = [value]
    for part in path.split("."):
        following: list[Any] = []
        for one in found:
            if isinstance(one, dict):
                following += [one.get(name, MISSING) for name in (one if part == "*" else [part])]
            elif isinstance(one, list):
                following += one if part == "*" else [one[int(part)] if int(part) < len(one) else MISSING]
        found = following
    return found


def _without_volatile(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: f"<{_kind(v)}>" if k in VOLATILE else _without_volatile(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_volatile(item) for item in value]
    return value


def _short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)[:400]
