"""Is it well? One line of words, and what needs attention, worst first. Pure: an overview in, words out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from meadow.queries import (
    CollectorState,
    Completeness,
    GapRow,
    Overview,
    QueueRow,
    RatePoint,
    StreamProgress,
    TaskTypeRow,
    WorkerRow,
)
from meadow_web.formats import duration, plural, share
from meadow_web.observed import observed

BAD, WARN, WELL, QUIET = "bad", "warn", "well", "quiet"

RECENT = 600.0
GONE_RECENTLY = 3600.0
GAP_RECENT = 3600.0
SILENT = 20.0
SKEW = 30.0
FAILING_SHARE = 0.1
MOST_NAMED = 3


@dataclass(frozen=True)
class Problem:
    """Something that needs attention. `since` is when it began; `page` and `about` say where to look; `detail` is what
    somebody else said about it."""

    mood: str
    words: str
    since: float | None = None
    page: str = "overview"
    about: dict[str, str] = field(default_factory=dict)
    detail: str = ""


@dataclass(frozen=True)
class Verdict:
    """`mood` is bad, warn, well, or quiet when nothing was seen yet. `advice` says more, or what to do."""

    mood: str
    words: str
    since: float | None = None
    problems: tuple[Problem, ...] = ()
    advice: str = ""


@dataclass(frozen=True)
class Rates:
    """What happened per minute of late, and how much ended in the last ten minutes."""

    per_minute: float = 0.0
    ended: int = 0
    failed: int = 0


def verdict(overview: Overview) -> Verdict:
    """What a person should be told first."""
    rates = measure(overview)
    problems = tuple(_worst_first(_problems(overview, rates)))
    if problems and problems[0].mood == BAD:
        return Verdict(BAD, problems[0].words, problems[0].since, problems, problems[0].detail)
    if _never_saw_anything(overview):
        return Verdict(
            QUIET,
            "No events yet",
            problems=problems,
            advice="Workers must run with -E, or be reachable for remote control so that Meadow can turn events on.",
        )
    if problems:
        return Verdict(WARN, problems[0].words, problems[0].since, problems)
    return Verdict(WELL, f"All well: {summary(overview, rates)}")


def summary(overview: Overview, rates: Rates) -> str:
    """`3 workers, 340 tasks/min, nothing waiting`."""
    online = sum(worker.online for worker in overview.workers)
    return f"{plural(online, 'worker')}, {_rate(rates.per_minute)}, {_waiting(overview)}"


def measure(overview: Overview) -> Rates:
    """Rates of the last minute that was observed, and counts of the last ten."""
    minute = overview.now - max(60.0, overview.step) - overview.step
    latest = [point for point in observed(overview) if point.at >= minute]
    recent = [point for point in overview.points if point.at >= overview.now - RECENT - overview.step]
    seconds = len(latest) * overview.step
    return Rates(
        per_minute=60.0 * sum(_ended(point) for point in latest) / seconds if seconds else 0.0,
        ended=sum(_ended(point) for point in recent),
        failed=sum(point.failed for point in recent),
    )


def waiting(overview: Overview) -> int | None:
    """Messages in all queues, `None` where the broker does not tell."""
    counts = [queue.messages for queue in overview.queues.rows if queue.messages is not None]
    return sum(counts) if counts else None


def _problems(overview: Overview, rates: Rates) -> Iterator[Problem]:
    known = bool(overview.workers or overview.tasks_stored)
    waits = store_waits(overview.streams)
    yield from store_problems(overview.streams)
    yield from collector_problems(overview.collector, overview.now, known, current=not waits)
    yield from missing_problems(overview.completeness)
    yield from gap_problems([gap for gap in overview.gaps if gap.end >= overview.now - GAP_RECENT])
    if overview.collector.connected and not waits:  # else silence says nothing about workers and queues
        yield from _worker_problems(overview)
        yield from _queue_problems(overview)
    yield from _failure_problems(overview, rates)


def store_waits(streams: Sequence[StreamProgress]) -> bool:
    """Whether something keeps what arrives from being written: then what is known of it is old."""
    return any(stream.error is not None for stream in streams)


def store_problems(streams: Sequence[StreamProgress]) -> Iterator[Problem]:
    """What keeps the store from being up to date."""
    for error in dict.fromkeys(stream.error for stream in streams if stream.error is not None):
        yield Problem(BAD, "The store has to wait; what is shown here is old", page="pipeline", detail=error)
    for stream in streams:
        if stream.error is None and stream.behind and stream.lag is not None and stream.lag > SILENT:
            words = f"The store is {duration(stream.lag)} late; {plural(stream.behind, 'batch', 'batches')} wait"
            yield Problem(WARN, words, page="pipeline")


def collector_problems(
    collector: CollectorState, now: float, known: bool, *, current: bool = True
) -> Iterator[Problem]:
    """What keeps events from being read; `known` says that there was a time when they were, `current` that the
    collector's reports reach the store."""
    if collector.reported is None:
        if known:
            words = "The collector does not report; nothing new is read from the broker"
            yield Problem(BAD, words, page="pipeline")
        return
    if not collector.connected:
        words = f"The broker cannot be reached: {collector.broker}"
        yield Problem(BAD, words, collector.since, "pipeline", detail=collector.error or "")
    elif current and now - collector.reported > SILENT:
        words = "The collector has fallen silent; what is shown here is old"
        yield Problem(BAD, words, collector.reported, "pipeline")
    if collector.lag is not None and collector.lag > SILENT:
        yield Problem(WARN, f"Events arrive {duration(collector.lag)} late", page="pipeline")


def missing_problems(found: Completeness) -> Iterator[Problem]:
    """Task starts that workers counted and that never arrived."""
    if found.missing:
        where = found.worst if found.workers == 1 else plural(found.workers, "worker")
        be = "is" if found.missing == 1 else "are"
        words = f"{plural(found.missing, 'task start')} {be} missing on {where}"
        yield Problem(WARN, words, found.missing_since, "pipeline")


def gap_problems(gaps: Sequence[GapRow]) -> Iterator[Problem]:
    """Times without events, those of one reason together."""
    for reason in dict.fromkeys(gap.reason for gap in gaps):
        alike = [gap for gap in gaps if gap.reason == reason]
        yield Problem(WARN, gap_words(alike), max(gap.start for gap in alike), "pipeline")


def gap_words(gaps: Sequence[GapRow]) -> str:
    """What happened in gaps of one reason."""
    reason, events = gaps[0].reason, sum(gap.events or 0 for gap in gaps)
    if reason == "buffer-full":
        return f"The collector had to drop {plural(events, 'event')}" if events else "The collector had to drop events"
    if reason == "broker-unavailable":
        return f"Nothing could be read from the broker for {duration(sum(gap.end - gap.start for gap in gaps))}"
    if reason == "no-collector":
        return f"No collector ran for {duration(sum(gap.end - gap.start for gap in gaps))}"
    if reason == "stream-limit":
        return "Facts were deleted from the stream before they were stored"
    some = plural(events, "event") if events else "Events"
    return f"{some} never arrived: {reason.replace('-', ' ')}"


def _worker_problems(overview: Overview) -> Iterator[Problem]:
    online = [worker for worker in overview.workers if worker.online]
    gone = [worker for worker in overview.workers if not worker.online]
    if overview.workers and not online:
        last = max((worker.last_seen for worker in gone if worker.last_seen is not None), default=None)
        yield Problem(BAD, "No worker is online", last, "workers")
    else:
        recent = [w for w in gone if w.last_seen is not None and overview.now - w.last_seen < GONE_RECENTLY]
        yield from _gone_problems(recent)
    for worker in online:
        if worker.skew is not None and abs(worker.skew) > SKEW:
            side = "ahead" if worker.skew > 0 else "behind"
            words = f"The clock of {worker.hostname} is {duration(abs(worker.skew))} {side}"
            yield Problem(WARN, words, None, "worker", {"name": worker.hostname})


def _gone_problems(gone: list[WorkerRow]) -> Iterator[Problem]:
    if len(gone) > MOST_NAMED:
        last = max(worker.last_seen or 0.0 for worker in gone)
        yield Problem(WARN, f"{len(gone)} workers went offline", last, "workers")
        return
    for worker in gone:
        words = f"Worker {worker.hostname} went offline"
        yield Problem(WARN, words, worker.last_seen, "worker", {"name": worker.hostname})


def _queue_problems(overview: Overview) -> Iterator[Problem]:
    if overview.queues.error:
        words = f"Queue depths cannot be read: {overview.queues.error}"
        yield Problem(WARN, words, overview.queues.observed, "queues")
    for queue in overview.queues.rows:
        if unattended(queue):
            yield Problem(BAD, f"Queue {queue.name} has {queue.messages:,} waiting and no consumer", None, "queues")
    online = [worker for worker in overview.workers if worker.online]
    places = sum(worker.concurrency or 0 for worker in online)
    busy = sum(worker.active or 0 for worker in online)
    late = waiting(overview)
    if places and busy >= places and late and late > 10 * places:
        words = f"All {places} pool processes are busy and {late:,} messages wait"
        yield Problem(WARN, words, None, "queues")


def unattended(queue: QueueRow) -> bool:
    """Whether messages wait in a queue that nobody consumes."""
    return bool(queue.messages) and not queue.consumers and not queue.workers


def _failure_problems(overview: Overview, rates: Rates) -> Iterator[Problem]:
    if not rates.failed:
        return
    worst = _most_failing(overview.types)
    named = "" if worst is None else f": {worst.name}" if rates.failed == 1 else f", most of them {worst.name}"
    part = share(rates.failed, rates.ended)
    words = f"{plural(rates.failed, 'task')} failed in the last 10 minutes, {part} of those that ended{named}"
    failing = rates.failed >= MOST_NAMED and rates.failed >= FAILING_SHARE * rates.ended
    about = {"state": "FAILURE"} | ({"name": worst.name} if worst is not None else {})
    last = max((row.timestamp for row in overview.failures), default=None)
    yield Problem(BAD if failing else WARN, words, last, "tasks", about)


def _most_failing(types: Iterable[TaskTypeRow]) -> TaskTypeRow | None:
    """The task name behind more than half of the failures."""
    rows = [row for row in types if row.failed]
    worst = max(rows, key=lambda row: row.failed, default=None)
    return worst if worst is not None and 2 * worst.failed > sum(row.failed for row in rows) else None


def _worst_first(problems: Iterable[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: problem.mood != BAD)


def _never_saw_anything(overview: Overview) -> bool:
    return not overview.workers and not overview.tasks_stored and not any(_ended(p) for p in overview.points)


def _ended(point: RatePoint) -> int:
    return point.succeeded + point.failed


def _rate(per_minute: float) -> str:
    if per_minute == 0:
        return "no tasks in the last minute"
    return f"{per_minute:,.0f} tasks/min" if per_minute >= 0.95 else "less than 1 task/min"


def _waiting(overview: Overview) -> str:
    count = waiting(overview)
    if count is None:
        return "queue depths unknown"
    return f"{count:,} waiting" if count else "nothing waiting"
