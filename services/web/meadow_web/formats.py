"""How values look on pages: numbers, durations, times, ids. Pure functions, used as template filters."""

import hashlib
from datetime import UTC, datetime
from typing import Any

NOTHING = "–"


def number(value: float | None, digits: int = 0) -> str:
    """With thousands separated; a dash for what is not known.

    >>> number(4120), number(None), number(1.25, 1)
    ('4,120', '–', '1.2')
    """
    return NOTHING if value is None else f"{value:,.{digits}f}"


def duration(seconds: float | None) -> str:
    """A length of time in the two units that matter.

    >>> [duration(x) for x in (0.0004, 0.0123, 1.234, 75, 4000, 200000)]
    ['0.4 ms', '12 ms', '1.2 s', '1 min 15 s', '1 h 6 min', '2 d 7 h']
    """
    if seconds is None:
        return NOTHING
    if seconds < 0:
        return f"−{duration(-seconds)}"
    if seconds < 0.001:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.995:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit} {rest} {name}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def moment(timestamp: float | None) -> datetime | None:
    """Epoch seconds as an aware datetime; `None` for times that no calendar has."""
    if timestamp is None:
        return None
    try:
        return datetime.fromtimestamp(timestamp, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def iso(timestamp: float | None) -> str:
    """For `<time datetime>`."""
    when = moment(timestamp)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z") if when else ""


def clock(timestamp: float | None) -> str:
    """For people without JavaScript: UTC, without the year."""
    when = moment(timestamp)
    return when.strftime("%m-%d %H:%M:%S") if when else NOTHING


def full(timestamp: float | None) -> str:
    """All of a moment, as it stands in tool tips until scripts put the reader's zone there."""
    when = moment(timestamp)
    return when.strftime("%Y-%m-%d %H:%M:%S.%f UTC") if when else NOTHING


def short(text: str | None, head: int = 8, tail: int = 4) -> str:
    """A long id, shortened in the middle.

    >>> short("fa276b7b-97b6-485a-bdd3-2ff046ad9f77")
    'fa276b7b…9f77'
    """
    if text is None:
        return NOTHING
    return text if len(text) <= head + tail + 2 else f"{text[:head]}…{text[-tail:]}"


def name_parts(text: str) -> tuple[str, str, str]:
    """A long node name as (head, tail, rest): the tail of its first label tells pods apart, so it must stay in sight.

    >>> name_parts("celery@worker-7f9c6d5b8-05xkz.prod.eu-west-1.internal")
    ('celery@worker-7f9c6d5', 'b8-05xkz', '.prod.eu-west-1.internal')
    """
    at = text.find("@")
    dot = text.find(".", at + 1) if at >= 0 else -1
    main, rest = (text, "") if dot < 0 else (text[:dot], text[dot:])
    return (main[:-8], main[-8:], rest) if len(text) > 20 else (text, "", "")


def clip(text: str | None, length: int = 400) -> str:
    """Text that fits into a cell."""
    if text is None:
        return ""
    return text if len(text) <= length else text[: length - 1] + "…"


def element_id(text: str, kind: str = "r") -> str:
    """An HTML id for anything that has a name, whatever characters that name has."""
    return f"{kind}-{hashlib.blake2s(text.encode('utf-8', 'replace'), digest_size=8).hexdigest()}"


def share(part: float, whole: float) -> str:
    """A percentage that never shows 0 % for something, nor 100 % for less than all.

    >>> share(1, 1000), share(0, 10), share(999, 1000), share(1, 3)
    ('<1 %', '0 %', '>99 %', '33 %')
    """
    if whole <= 0 or part <= 0:
        return "0 %"
    percent = 100 * part / whole
    if percent < 1:
        return "<1 %"
    if 99 < percent < 100:
        return ">99 %"
    return f"{percent:.0f} %"


def percent(part: float | None, whole: float | None) -> float:
    """How full something is: 0 to 100."""
    if not part or not whole or whole <= 0:
        return 0.0
    return round(min(max(100.0 * part / whole, 0.0), 100.0), 1)


def plural(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun.

    >>> plural(1, "worker"), plural(4120, "task"), plural(2, "process", "processes")
    ('1 worker', '4,120 tasks', '2 processes')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


STATE_MARKS = {
    "PENDING": "○",
    "RECEIVED": "◔",
    "STARTED": "◐",
    "SUCCESS": "✓",
    "FAILURE": "✕",
    "RETRY": "↻",
    "REVOKED": "⊘",
    "REJECTED": "⊘",
    "ABORTED": "⊘",
}


def state_mark(state: str) -> str:
    """The shape that goes with a task state."""
    return STATE_MARKS.get(state, "◆")


def state_class(state: str) -> str:
    """The style of a task state; states of one's own share one."""
    return state.lower() if state in STATE_MARKS else "custom"


FILTERS: dict[str, Any] = {
    "number": number,
    "duration": duration,
    "iso": iso,
    "clock": clock,
    "full": full,
    "short": short,
    "clip": clip,
    "name_parts": name_parts,
    "element_id": element_id,
    "percent": percent,
    "state_mark": state_mark,
    "state_class": state_class,
}
