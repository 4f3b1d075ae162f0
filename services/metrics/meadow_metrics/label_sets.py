"""Values by label set, bounded: whoever can send events can make up workers and task names without end."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Labels = tuple[str, ...]

LONGEST_LABEL = 200

V = TypeVar("V")


def label(value: str) -> str:
    """`value` as a label's value: without control characters and lone surrogates, and not too long.

    >>> label("celery@w1"), label("two\\nlines"), len(label("x" * 1000))
    ('celery@w1', 'two lines', 200)
    """
    if not value.isprintable():  # which lone surrogates are not either
        value = "".join(char if char.isprintable() else " " for char in value[:LONGEST_LABEL])
    return value if len(value) <= LONGEST_LABEL else value[: LONGEST_LABEL - 1] + "…"


@dataclass(slots=True)
class Distribution:
    """A histogram's counts, one for each bucket (not cumulative), and the sum of what was observed."""

    counts: list[int]
    sum: float = 0.0

    def observe(self, value: float, bounds: tuple[float, ...]) -> None:
        """Count `value`; the last of the ascending `bounds` is infinite."""
        self.counts[bisect_left(bounds, value)] += 1
        self.sum += value

    def merge(self, other: "Distribution") -> None:
        """Add what another one has counted."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    def copy(self) -> "Distribution":
        """One that no longer changes with this one."""
        return Distribution(self.counts.copy(), self.sum)


@dataclass
class LabelSets(Generic[V]):
    """At most `cap` label sets. The one that was left alone longest makes place for a new one.

    `folds` names the label set that takes over the value of the one that goes, so that sums stay right; without it
    the value is dropped, as is right for gauges. `merge` adds a value to the one that takes over. `folded` counts
    how often that happened.
    """

    cap: int
    folds: Callable[[Labels], Labels] | None = None
    merge: Callable[[V, V], V] | None = None
    folded: int = 0
    values: dict[Labels, V] = field(default_factory=dict)

    def touch(self, labels: Labels, new: Callable[[], V]) -> V:
        """The value of a label set, made by `new` if there is none; it is now the youngest."""
        value = self.values.pop(labels, None)
        if value is None:
            value = new()
        self.values[labels] = value
        while len(self.values) > self.cap:  # once is not enough when the heir is new, too
            self._make_place()
        return value

    def put(self, labels: Labels, value: V) -> None:
        """Set the value of a label set; it is now the youngest."""
        values = self.values
        values.pop(labels, None)
        values[labels] = value
        while len(values) > self.cap:
            self._make_place()

    def forget(self, goes: Callable[[Labels], bool]) -> None:
        """Remove the label sets that `goes` names."""
        for labels in [labels for labels in self.values if goes(labels)]:
            del self.values[labels]

    def _make_place(self) -> None:
        oldest = next(labels for labels in self.values if self.folds is None or labels != self.folds(labels))
        value = self.values.pop(oldest)
        self.folded += 1
        if self.folds is not None and self.merge is not None:
            heir = self.folds(oldest)
            kept = self.values.get(heir)
            self.values[heir] = value if kept is None else self.merge(kept, value)
