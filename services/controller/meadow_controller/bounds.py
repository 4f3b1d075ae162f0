"""Answers of workers as plain, redacted values of a bounded size. What they hold is never trusted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from meadow.redact import MASK, Redactor

BIGGEST = 2**63 - 1
READ_AHEAD = 4096
"""Characters of a text that are looked at beyond what is kept, so that cutting cannot halve what redaction seeks."""


@dataclass(frozen=True)
class Limits:
    """The most that is kept of one value: characters of a text, items of a list or object, depth, and all in all."""

    text: int = 4096
    items: int = 1000
    depth: int = 12
    nodes: int = 20_000
    total: int = 256 * 1024


WIDE = Limits()
NARROW = Limits(text=256, items=50, depth=8, nodes=2_000, total=16 * 1024)
AUDIT = Limits(text=1000, items=100, depth=8, nodes=1_000, total=32 * 1024)


@dataclass
class Cleaner:
    """Makes one value plain. `cuts` says what was left out, a few words for each place.

    `hides` decides by name what is hidden; numbers under such a name are hidden too, unless `keep_numbers`.
    """

    redactor: Redactor
    limits: Limits = WIDE
    hides: Callable[[str], bool] | None = None
    keep_numbers: bool = False
    cuts: list[str] = field(default_factory=list)
    _nodes: int = 0
    _total: int = 0

    def clean(self, value: Any) -> Any:
        """The value as JSON can hold it, without secrets, cut to the limits."""
        return self._value(value, 0, hidden=False)

    def _value(self, value: Any, depth: int, *, hidden: bool) -> Any:
        self._nodes += 1
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, (int, float)):
            return self._number(value, hidden=hidden)
        if isinstance(value, Mapping):
            return self._mapping(value, depth, hidden=hidden)
        if isinstance(value, (list, tuple, set, frozenset)):
            return self._items(list(value), depth, hidden=hidden)
        return MASK if hidden else self._text(value if isinstance(value, str) else _shown(value))

    def _number(self, value: int | float, *, hidden: bool) -> Any:
        if hidden and not self.keep_numbers:
            return MASK
        if isinstance(value, int):
            return value if -BIGGEST <= value <= BIGGEST else f"{value:#x}"[: self.limits.text]
        return value if value - value == 0 else str(value)  # JSON has neither NaN nor infinity

    def _text(self, text: str) -> str:
        looked_at = text[: self.limits.text + READ_AHEAD].encode("utf-8", "replace").decode("utf-8")
        shown = self.redactor.text(looked_at)
        kept = shown[: self.limits.text]
        if len(text) > self.limits.text and len(kept) < len(text):
            kept = f"{kept}… ({len(text) - self.limits.text} more characters)"
            self._cut("a text")
        self._total += len(kept)
        return kept

    def _mapping(self, value: Mapping[Any, Any], depth: int, *, hidden: bool) -> Any:
        if depth >= self.limits.depth:
            self._cut("what lies deep inside")
            return "…"
        hides = self.hides or self.redactor.hides
        kept: dict[str, Any] = {}
        for position, (key, item) in enumerate(value.items()):
            if position >= self.limits.items or self._full:
                self._cut(f"{position} of {len(value)} kept")
                break
            name = key if isinstance(key, str) else _shown(key)
            kept[self._text(name)] = self._value(item, depth + 1, hidden=hidden or hides(name))
        return kept

    def _items(self, value: list[Any], depth: int, *, hidden: bool) -> Any:
        if depth >= self.limits.depth:
            self._cut("what lies deep inside")
            return "…"
        kept: list[Any] = []
        for position, item in enumerate(value):
            if position >= self.limits.items or self._full:
                self._cut(f"{position} of {len(value)} kept")
                break
            kept.append(self._value(item, depth + 1, hidden=hidden))
        return kept

    @property
    def _full(self) -> bool:
        return self._nodes >= self.limits.nodes or self._total >= self.limits.total

    def _cut(self, what: str) -> None:
        if len(self.cuts) < 5 and what not in self.cuts:
            self.cuts.append(what)


def _shown(value: Any) -> str:
    """`repr`, also of objects whose repr fails."""
    try:
        return repr(value)
    except Exception as exc:  # noqa: BLE001 -- the object is not ours
        return f"<{type(value).__name__}, whose repr raised {type(exc).__name__}>"
