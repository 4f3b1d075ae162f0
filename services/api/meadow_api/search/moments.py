"""Times and durations as people write them in a search: `-1h`, `2026-11-20`, `now`, `1h30m`, `250ms`."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
MOST_SECONDS = 1e12

_NUMBER = r"\d{1,18}(?:\.\d{1,18})?(?:e[+-]?\d{1,2})?"
_PLAIN = re.compile(_NUMBER)
_STEP = re.compile(rf"({_NUMBER})(ms|[smhdw])")
_DURATION = re.compile(rf"(?:{_NUMBER}(?:ms|[smhdw]))+")
_ABSOLUTE = re.compile(
    r"(\d{4})-(\d{2})(?:-(\d{2})(?:[t ](\d{2})(?::(\d{2})(?::(\d{2})(\.\d{1,6})?)?(z|[+-]\d{2}:?\d{2})?)?)?)?"
)
_DAY = timedelta(days=1)
_SPANS = {
    "day": _DAY,
    "hour": timedelta(hours=1),
    "minute": timedelta(minutes=1),
    "second": timedelta(seconds=1),
    "instant": timedelta(0),
}
_LAYOUTS = {
    "month": "%Y-%m",
    "day": "%Y-%m-%d",
    "hour": "%Y-%m-%dT%H",
    "minute": "%Y-%m-%dT%H:%M",
    "second": "%Y-%m-%dT%H:%M:%S",
    "instant": "%Y-%m-%dT%H:%M:%S.%f",
}


@dataclass(frozen=True)
class Duration:
    """So many seconds."""

    seconds: float

    def __str__(self) -> str:
        return repr(self.seconds)


@dataclass(frozen=True)
class FromNow:
    """So many seconds from now on; negative: before now."""

    seconds: float

    def __str__(self) -> str:
        return f"{self.seconds!r}s" if self.seconds < 0 else f"+{self.seconds!r}s" if self.seconds > 0 else "now"

    def span(self, now: float) -> tuple[float, float]:
        """Begin and end, in epoch seconds."""
        return now + self.seconds, now + self.seconds


@dataclass(frozen=True)
class Calendar:
    """The month, day, hour, minute, second or instant that begins at `start` (UTC)."""

    start: datetime
    unit: str

    def __str__(self) -> str:
        return self.start.strftime(_LAYOUTS[self.unit])

    def span(self, now: float) -> tuple[float, float]:
        """Begin and end, in epoch seconds."""
        begin = self.start.timestamp()
        if self.unit != "month":
            return begin, begin + _SPANS[self.unit].total_seconds()
        after = (self.start + timedelta(days=31)).replace(day=1)
        return begin, after.timestamp()


@dataclass(frozen=True)
class Today:
    """The UTC day of now, or one so many days away."""

    days: int

    def __str__(self) -> str:
        return "today" if self.days == 0 else "yesterday"

    def span(self, now: float) -> tuple[float, float]:
        """Begin and end, in epoch seconds."""
        begin = now // 86400 * 86400 + self.days * 86400
        return begin, begin + 86400


Moment = FromNow | Calendar | Today


def duration(text: str) -> Duration | None:
    """`5`, `2.5s`, `1h30m`, `250ms` as seconds; `None` when it is none."""
    text = text.lower()
    if _PLAIN.fullmatch(text):
        seconds = float(text)
    elif _DURATION.fullmatch(text):
        seconds = sum(float(number) * UNITS[unit] for number, unit in _STEP.findall(text))
    else:
        return None
    return Duration(seconds) if seconds <= MOST_SECONDS else None


def moment(text: str) -> Moment | None:
    """`now`, `-1h`, `+30m`, `today`, `yesterday`, `2026-11-20T14:30` (UTC, or with an offset); `None` when none."""
    text = text.lower()
    if text == "now":
        return FromNow(0.0)
    if text in ("today", "yesterday"):
        return Today(0 if text == "today" else -1)
    if text[:1] in ("-", "+") and _DURATION.fullmatch(text[1:]):
        away = duration(text[1:])
        return None if away is None else FromNow(-away.seconds + 0.0 if text[0] == "-" else away.seconds)
    found = _ABSOLUTE.fullmatch(text)
    return None if found is None else _calendar(*found.groups())


def _calendar(*groups: str | None) -> Calendar | None:
    *fields, fraction, zone = groups
    numbers = [int(field) for field in fields if field is not None]
    micro = 0 if fraction is None else int(fraction[1:].ljust(6, "0"))
    year, month, day, hour, minute, second = numbers + [0, 1, 1, 0, 0, 0][len(numbers) :]
    try:
        start = datetime(year, month, day, hour, minute, second, micro, UTC) - _offset(zone)
    except (ValueError, OverflowError):
        return None
    # Far ends of the calendar have no neighbours to compare with.
    unit = "instant" if fraction is not None else ("month", "day", "hour", "minute", "second")[len(numbers) - 2]
    return Calendar(start, unit) if 1000 <= start.year < 9000 else None


def _offset(zone: str | None) -> timedelta:
    if zone is None or zone == "z":
        return timedelta(0)
    hours, minutes = int(zone[1:3]), int(zone[-2:])
    if hours > 14 or minutes > 59:
        raise ValueError("no such offset")
    away = timedelta(hours=hours, minutes=minutes)
    return away if zone[0] == "+" else -away
