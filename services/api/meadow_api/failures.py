"""Failures that are the same failure: the class of the exception, and where it was raised.

Two failures belong together when the class and the innermost frames agree. Line numbers are left out, so that a
release does not make new failures of old ones; so are directories above the last two names of a path. A failure
without a traceback (a killed worker, a time limit) goes by its message, without what differs from task to task in it:
numbers, addresses, ids, and what stands in quotes.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from msgspec import Struct

FRAMES = 5
LONGEST_MESSAGE = 300
LONGEST_CLASS = 200
TAIL = 16_000
"""Characters of a traceback that are read, from its end: that is where it was raised."""

FRAME = re.compile(r'^ {2,8}File "([^"\n]{0,1000})", line \d+, in ([^\n]{1,200})$', re.MULTILINE)
CLASS = re.compile(r"\s*<?([A-Za-z_][\w.]*)")
HEADER = "Traceback (most recent call last):"
# The machinery that calls a task stands above every failure and says nothing.
MACHINERY = ("celery/app/trace.py", "app/trace.py")

VARIABLE = (
    (re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b"), "<id>"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b"), "<address>"),
    (re.compile(r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{12,}\b"), "<id>"),
    (re.compile(r"\"[^\"\n]{0,500}\"|(?<![A-Za-z])'[^'\n]{0,500}'(?![A-Za-z])"), "<text>"),
    (re.compile(r"(?<![A-Za-z_])[-+]?\d+(?:[.,:]\d+)*"), "<n>"),
)


@dataclass(frozen=True)
class Kind:
    """What makes failures the same: class, innermost frames (the innermost last), message where there are no frames."""

    exception: str
    frames: tuple[str, ...]
    message: str = ""

    @property
    def id(self) -> str:
        """A short name that stays the same as long as the failure does."""
        text = "\n".join((self.exception, *self.frames, self.message))
        return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()


class Failure(Struct, frozen=True):
    """One failed task. `at` is when it failed."""

    uuid: str
    at: float
    name: str | None
    worker: str | None
    exception: str | None
    traceback: str | None


@dataclass
class Group:
    """Failures of one kind. `example` is the newest of them; `trend` counts them by equal parts of the window."""

    kind: Kind
    example: Failure
    first_seen: float
    last_seen: float
    trend: list[int]
    count: int = 0
    names: Counter[str] = field(default_factory=Counter)
    workers: Counter[str] = field(default_factory=Counter)

    def add(self, failure: Failure, part: int) -> None:
        """One more."""
        self.count += 1
        self.trend[part] += 1
        self.first_seen = min(self.first_seen, failure.at)
        if (failure.at, failure.uuid) >= (self.example.at, self.example.uuid):
            self.last_seen, self.example = failure.at, failure
        self.names[failure.name or ""] += 1
        self.workers[failure.worker or ""] += 1


class Grouping:
    """Collects failures between `since` and `until` into groups; the window has `parts` equal parts."""

    def __init__(self, since: float, until: float, parts: int) -> None:
        self.since, self.until, self.parts = since, until, parts
        self.step = max((until - since) / parts, 1e-9)
        self._groups: dict[Kind, Group] = {}
        self._kinds: dict[tuple[str | None, str | None], Kind] = {}

    def add(self, failure: Failure) -> None:
        """Put the failure to its like. One outside the window is left out."""
        if not self.since <= failure.at <= self.until:
            return
        kind = self._kind(failure)
        group = self._groups.get(kind)
        if group is None:
            group = Group(kind, failure, failure.at, failure.at, [0] * self.parts)
            self._groups[kind] = group
        group.add(failure, min(int((failure.at - self.since) / self.step), self.parts - 1))

    def groups(self) -> Iterable[Group]:
        """All groups so far."""
        return self._groups.values()

    def _kind(self, failure: Failure) -> Kind:
        """Failures often carry the same texts to the letter: those are read once."""
        key = (failure.exception, failure.traceback)
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) >= 1000:
                self._kinds.clear()
            kind = self._kinds[key] = kind_of(*key)
        return kind


def kind_of(exception: str | None, traceback: str | None) -> Kind:
    """What kind of failure this is, from the exception's repr and the traceback as Celery sent them.

    >>> kind_of("KeyError('client 42')", None)
    Kind(exception='KeyError', frames=(), message='client <n>')
    """
    name, message = split_repr(exception or "")
    frames = frames_of(traceback or "")
    return Kind(name, frames, "" if frames else normalised(message))


def split_repr(text: str) -> tuple[str, str]:
    """The class and what it was raised with.

    >>> split_repr("ValueError('no', 7)")
    ('ValueError', "'no', 7")
    """
    found = CLASS.match(text)
    if found is None:
        return "(unknown)", text.strip()
    rest = text[found.end() :].strip()
    inner = rest[1:-1] if rest.startswith("(") and rest.endswith(")") else rest.lstrip(":( ")
    return found[1].rpartition(".")[2][:LONGEST_CLASS] or "(unknown)", _unquoted(inner.strip().removesuffix(","))


def _unquoted(text: str) -> str:
    """What stands in the quotes, where the whole text is one quoted text."""
    quote = text[:1]
    return text[1:-1] if quote in ("'", '"') and text.count(quote) == 2 and text.endswith(quote) else text


def frames_of(traceback: str) -> tuple[str, ...]:
    """The innermost frames of the last exception in the traceback, the innermost last: `proj/tasks.py in add`."""
    text = traceback[-TAIL:]
    begin = text.rfind(HEADER)
    found: list[str] = []
    for path, function in FRAME.findall(text[begin:] if begin >= 0 else text):
        parts = [part for part in re.split(r"[/\\]", path) if part]
        frame = f"{'/'.join(parts[-2:]) or path} in {normalised(function)}"
        if not frame.startswith(MACHINERY) and (not found or found[-1] != frame):
            found.append(frame)
    return tuple(found[-FRAMES:])


def normalised(message: str) -> str:
    """The message without what differs from task to task.

    >>> normalised("Worker exited prematurely: signal 9 (SIGKILL) Job: 12.")
    'Worker exited prematurely: signal <n> (SIGKILL) Job: <n>.'
    """
    text = message[: 4 * LONGEST_MESSAGE]
    for pattern, stand_in in VARIABLE:
        text = pattern.sub(stand_in, text)
    return text[:LONGEST_MESSAGE]
