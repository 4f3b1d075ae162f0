"""Has everything arrived? Words for the Pipeline page. Pure: the api's answer in, words out."""

from collections.abc import Iterator

from meadow.queries import Pipeline
from meadow_web.formats import duration
from meadow_web.verdict import (
    BAD,
    QUIET,
    WELL,
    Problem,
    Verdict,
    collector_problems,
    gap_problems,
    missing_problems,
    store_problems,
    store_waits,
)

SPANS = {3600.0: "the last hour", 86400.0: "the last 24 hours", 604800.0: "the last 7 days"}
LIMITS = "Counted are task starts, against what each worker's heartbeats say that it has accepted."


def arrival(pipeline: Pipeline) -> Verdict:
    """What a person should be told first."""
    problems = tuple(sorted(_problems(pipeline), key=lambda problem: problem.mood != BAD))
    counted = _counted(pipeline)
    if problems:
        first = problems[0]
        return Verdict(first.mood, first.words, first.since, problems, first.detail or counted)
    if pipeline.total.expected:
        return Verdict(WELL, f"Nothing is missing: {counted}", advice=LIMITS)
    if not pipeline.workers_known:
        advice = "Workers must run with -E, or be reachable for remote control so that Meadow can turn events on."
        return Verdict(QUIET, "No worker has been seen yet", advice=advice)
    return Verdict(QUIET, f"No task start to count in {span(pipeline.seconds)}", advice=_unwatched(pipeline))


def span(seconds: float) -> str:
    """`the last hour`."""
    return SPANS.get(seconds, f"the last {duration(seconds)}")


def _problems(pipeline: Pipeline) -> Iterator[Problem]:
    current = not store_waits(pipeline.streams)
    yield from store_problems(pipeline.streams)
    yield from collector_problems(pipeline.collector, pipeline.now, pipeline.workers_known > 0, current=current)
    yield from missing_problems(pipeline.total)
    yield from gap_problems(pipeline.gaps)


def _counted(pipeline: Pipeline) -> str:
    total = pipeline.total
    if not total.expected:
        return ""
    arrived = total.expected - total.missing
    return f"{arrived:,} task starts seen of {total.expected:,} in {span(pipeline.seconds)}"


def _unwatched(pipeline: Pipeline) -> str:
    """Why there is nothing to count."""
    if any(worker.since is not None for worker in pipeline.workers):
        return LIMITS
    return f"{LIMITS} A worker is counted from its first heartbeat after its first event about a task."
