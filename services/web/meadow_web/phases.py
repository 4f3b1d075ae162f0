"""The phases of one task, to scale: sent → waited in queue → waited in worker → ran."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NAMES = {
    "queue": ("Waited in queue", "Waiting in queue"),
    "worker": ("Waited in worker", "Waiting in worker"),
    "ran": ("Ran", "Running"),
}
"""What a phase is called once it is over, and while it lasts."""

UNTIL_LOST = {"queue": "Waited in queue until lost", "worker": "Waited in worker until lost", "ran": "Ran until lost"}
"""What the last phase of a task is called whose worker went away."""

STATIONS = (("queue", "sent"), ("worker", "received"), ("ran", "started"))
"""Each phase with the time that begins it."""

REACHED = {"PENDING": 1, "RECEIVED": 2}
"""How many of the phases a task in that state has begun: later times are those of an earlier attempt."""

OVER = frozenset({"SUCCESS", "FAILURE", "REVOKED", "REJECTED", "RETRY", "ABORTED"})
ENDINGS = ("succeeded", "failed", "revoked", "rejected", "retried")
CLOCK_ERROR = 0.001


@dataclass(frozen=True)
class Phase:
    """From `start` for `seconds`, which is `None` while it lasts. `left` and `width` are percent of the whole."""

    name: str
    kind: str
    start: float
    seconds: float | None
    left: float = 0.0
    width: float = 0.0


@dataclass(frozen=True)
class Timeline:
    """All phases. `skewed` says that two machines' clocks disagree, so a wait seemed to be negative."""

    phases: tuple[Phase, ...]
    seconds: float
    skewed: bool = False


@dataclass(frozen=True)
class _Span:
    kind: str
    start: float
    end: float
    lasts: bool


def timeline(task: Mapping[str, Any], now: float) -> Timeline | None:
    """The phases that are known; `None` when nothing but single moments are."""
    starts = _starts(task)
    lost = time_of(task, "lost_since")
    ending = _ending(task) if lost is None else lost
    spans, skewed = _spans(starts, ending, now, lasts=lost is None and str(task.get("state")) not in OVER)
    if not spans:
        return None
    first = spans[0].start
    whole = max(spans[-1].end - first, 1e-9)
    phases = tuple(
        Phase(
            UNTIL_LOST[span.kind] if lost is not None and span is spans[-1] else NAMES[span.kind][span.lasts],
            span.kind,
            span.start,
            None if span.lasts else span.end - span.start,
            100 * (span.start - first) / whole,
            100 * (span.end - span.start) / whole,
        )
        for span in spans
    )
    return Timeline(phases, whole, skewed)


def _starts(task: Mapping[str, Any]) -> list[tuple[str, float]]:
    """(phase, when it began) of those whose beginning is known."""
    reached = STATIONS[: REACHED.get(str(task.get("state")), len(STATIONS))]
    return [(kind, at) for kind, key in reached if (at := time_of(task, key)) is not None]


def _ending(task: Mapping[str, Any]) -> float | None:
    return max((at for key in ENDINGS if (at := time_of(task, key)) is not None), default=None)


def _spans(
    starts: list[tuple[str, float]], ending: float | None, now: float, *, lasts: bool
) -> tuple[list[_Span], bool]:
    """Each phase until the next begins, none of them negative; whether one would have been."""
    spans: list[_Span] = []
    skewed, reached = False, starts[0][1] if starts else 0.0
    for index, (kind, start) in enumerate(starts):
        last = index == len(starts) - 1
        end = (now if lasts else ending) if last else starts[index + 1][1]
        if end is None:
            break
        begin = max(start, reached)
        skewed = skewed or end < start - CLOCK_ERROR
        reached = max(end, begin)
        if reached > begin or kind == "ran":
            spans.append(_Span(kind, begin, reached, lasts and last))
    return spans, skewed


def time_of(task: Mapping[str, Any], name: str) -> float | None:
    """One of the task's times, if it has it and it is one."""
    value = task.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
