"""How complete the picture is: the task starts that arrived against those that workers counted.

A worker's heartbeats carry `processed`, the number of tasks that its process has accepted; for each it sends one
`task-started`. Both carry the process's logical clock, which orders them exactly: of the starts that a heartbeat
counts, all have a smaller clock. So between two heartbeats of one process

    expected = the rise of `processed`        seen = the starts with a clock between theirs

whatever the order in which they arrive. A heartbeat overtakes starts on its way, so it is judged when `SETTLE` seconds
of the stream have passed; starts that come later still heal what was found missing. Pools of threads may count a start
just before or after they send it, so a difference counts when the next heartbeat confirms it.

A process is scored from its first heartbeat after its first event about a task: before, events may have been switched
off. When the heartbeat before that agrees with the starts in between, the score begins there already.

Pure: facts in, scores out. `Life` is all that has to be kept.
"""

import copy
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from msgspec import Struct

from meadow.events import (
    CeleryEvent,
    CustomEvent,
    TaskEvent,
    TaskStarted,
    WorkerEvent,
    WorkerHeartbeat,
    WorkerOffline,
    WorkerOnline,
)

SETTLE = 5.0
SLACK = 1.0
MOST_LIVES = 4
MOST_BEATS = 64
MOST_RUNS = 256
NEW_RUNS = 64
MOST_BETWEEN = 2**31
OLDER = 2**54

BEATS = frozenset({WorkerOnline, WorkerHeartbeat, WorkerOffline})


class Beat(NamedTuple):
    """One heartbeat. `last` says that the worker was shutting down, so that none will follow."""

    clock: int
    processed: int
    timestamp: float
    seen: float
    last: bool = False


class Run(NamedTuple):
    """So many starts with clocks from `first` to `last`."""

    first: int
    last: int
    starts: int


class Score(NamedTuple):
    """Starts expected and seen between two heartbeats; `at`, `start` and `end` are by the collector's clock.

    A start that comes late is a score of its own: nothing expected, one seen, at the time when it was sent.
    """

    at: float
    start: float
    end: float
    expected: int
    seen: int


class Life(Struct, kw_only=True, omit_defaults=True):
    """One process of a worker.

    `began` is when its first known event was sent, `clock` and `timestamp` are those of its newest. `base` is the last
    heartbeat that was judged, `floor` the clock from which starts count (`None`: not scored yet), `since` when that
    was. `beats` and `runs` are heartbeats and starts beyond `base`, by clock. `doubted`: the heartbeat after `base`
    found a difference that is not confirmed yet.
    """

    began: float
    clock: int
    timestamp: float
    first_task: int | None = None
    base: Beat | None = None
    floor: int | None = None
    since: float | None = None
    doubted: bool = False
    beats: tuple[Beat, ...] = ()
    runs: tuple[Run, ...] = ()


Lives = dict[int, Life]
"""The processes of one worker, by pid; the former process of the same pid is at `~pid`, older ones `OLDER` below."""


def copied(lives: Lives) -> Lives:
    """A copy to change, while the original stays what was committed."""
    return {pid: copy.copy(life) for pid, life in lives.items()}


def absorb(lives: Lives, history: Iterable[CeleryEvent]) -> list[Score]:
    """Take the worker's events in, in place; gives scores of starts that came late."""
    late: list[Score] = []
    starts: dict[int, tuple[Life, list[int]]] = {}
    for fact in history:
        kind, clock = type(fact), fact.clock
        if clock <= 0 or kind is CustomEvent:
            continue
        life = lives.get(fact.pid or 0)
        if life is not None and clock > life.clock and fact.timestamp >= life.timestamp:
            life.clock, life.timestamp = clock, fact.timestamp  # nearly all events come in order
        else:
            life = _life_of(lives, fact)
        if life.first_task is None or clock < life.first_task:
            _note_first_task(life, fact)
        if kind is TaskStarted:
            if life.base is None or clock > life.base.clock:
                starts.setdefault(id(life), (life, []))[1].append(clock)
            elif life.floor is not None and clock > life.floor:
                late.append(_late(life.base, fact))
        elif kind in BEATS:
            _add_beat(life, fact)  # type: ignore[arg-type]
    for life, clocks in starts.values():
        life.runs = merged(life.runs, clocks, [beat.clock for beat in life.beats])
    return late


def settle(lives: Lives, now: float) -> list[Score]:
    """Judge the heartbeats that arrived `SETTLE` seconds before `now` (the newest `seen` of the stream), in place."""
    return [score for life in lives.values() for score in _settle(life, now)]


def waiting(lives: Lives, now: float) -> bool:
    """Whether some heartbeat is due to be judged."""
    return any(life.beats and life.beats[0].seen <= now - SETTLE for life in lives.values())


# -- which process -------------------------------------------------------------------------------------------------


def _life_of(lives: Lives, fact: CeleryEvent) -> Life:
    """The process that sent the event."""
    pid = fact.pid or 0
    life = lives.get(pid)
    if life is None or _follows_on(life, fact):
        return _begin(lives, pid, fact)
    if fact.timestamp < life.began - SLACK:
        former = lives.get(~pid)
        if former is not None and not _follows_on(former, fact):
            return former
        life.began = fact.timestamp
    if fact.clock > life.clock:
        life.clock, life.timestamp = fact.clock, fact.timestamp
    return life


def _follows_on(life: Life, fact: CeleryEvent) -> bool:
    """Whether the event is of another process with the same pid, as in containers: neither a process's logical clock
    nor what it has processed ever falls."""
    if fact.clock < life.clock and fact.timestamp > life.timestamp + SLACK:
        return True
    if not isinstance(fact, WorkerEvent) or fact.processed is None:
        return False
    known = life.beats[-1] if life.beats else life.base
    return known is not None and fact.processed < known.processed and fact.timestamp > known.timestamp + SLACK


def _begin(lives: Lives, pid: int, fact: CeleryEvent) -> Life:
    former, key = lives.pop(pid, None), ~pid
    while former is not None:
        lives[key], former, key = former, lives.get(key), key - OLDER
    while len(lives) >= MOST_LIVES:
        del lives[min(lives, key=lambda known: lives[known].timestamp)]
    life = lives[pid] = Life(began=fact.timestamp, clock=fact.clock, timestamp=fact.timestamp)
    return life


def _note_first_task(life: Life, fact: CeleryEvent) -> None:
    if isinstance(fact, TaskEvent):
        life.first_task = fact.clock


# -- what waits to be judged ---------------------------------------------------------------------------------------


def _late(base: Beat, fact: CeleryEvent) -> Score:
    at = fact.timestamp + base.seen - base.timestamp
    return Score(at, at, at, 0, 1)


def _add_beat(life: Life, fact: WorkerEvent) -> None:
    if fact.processed is None or (life.base is not None and fact.clock <= life.base.clock):
        return
    at = bisect_left(life.beats, (fact.clock,))
    if at < len(life.beats) and life.beats[at].clock == fact.clock:
        return
    beat = Beat(fact.clock, fact.processed, fact.timestamp, fact.seen, isinstance(fact, WorkerOffline))
    beats = (*life.beats[:at], beat, *life.beats[at:])
    # Any of them may be left out: the next one counts the same starts. The newest must stay.
    life.beats = beats if len(beats) <= MOST_BEATS else beats[(len(beats) - 1) % 2 :: 2]


def merged(runs: Iterable[Run], clocks: Iterable[int], cuts: list[int]) -> tuple[Run, ...]:
    """The runs with new starts added. When there are many, neighbours that no heartbeat of `cuts` parts become one."""
    found: list[Run] = []
    for run in sorted([*runs, *_runs_of(sorted(clocks), sorted(cuts))]):
        if found and run.first <= found[-1].last:
            before = found[-1]
            found[-1] = Run(before.first, max(before.last, run.last), before.starts + run.starts)
        else:
            found.append(run)
    if len(found) > MOST_RUNS:
        return tuple(_coarser(found, sorted(cuts), -(-2 * len(found) // MOST_RUNS)))
    return tuple(found)


def _runs_of(clocks: list[int], cuts: list[int]) -> Iterator[Run]:
    size = -(-len(clocks) // NEW_RUNS)
    ends = [*(bisect_right(clocks, cut) for cut in cuts), len(clocks)]
    start = 0
    for end in ends:
        while start < end:
            part = clocks[start : min(start + size, end)]
            yield Run(part[0], part[-1], len(part))
            start += len(part)


def _coarser(runs: list[Run], cuts: list[int], size: int) -> Iterator[Run]:
    """`size` neighbours each in one."""
    current, joined = runs[0], 1
    for run in runs[1:]:
        parted = bisect_left(cuts, current.last) != bisect_left(cuts, run.first)
        if joined >= size or parted:
            yield current
            current, joined = run, 1
        else:
            current, joined = Run(current.first, run.last, current.starts + run.starts), joined + 1
    yield current


# -- judging -------------------------------------------------------------------------------------------------------


def _settle(life: Life, now: float) -> Iterator[Score]:
    judged = 0
    for beat in life.beats:
        if beat.seen > now - SETTLE:
            break
        judged += 1
        score = _judge(life, beat)
        if score is not None:
            yield score
    if judged:
        life.beats = life.beats[judged:]


def _judge(life: Life, beat: Beat) -> Score | None:
    base = life.base
    if base is None:
        _move(life, beat)
        return None
    expected = beat.processed - base.processed
    if expected < 0 or any(run.first <= beat.clock < run.last for run in life.runs):
        return None  # cannot be told exactly; the next heartbeat counts the same starts
    seen = sum(run.starts for run in life.runs if run.last <= beat.clock)
    if not _scored(life, base, beat, expected, seen):
        _move(life, beat)
        return None
    if seen != expected and not life.doubted and not beat.last:
        life.doubted = True
        return None
    _move(life, beat)
    return Score(beat.seen, base.seen, beat.seen, expected, seen) if expected or seen else None


def _scored(life: Life, base: Beat, beat: Beat, expected: int, seen: int) -> bool:
    """Whether the time between the two heartbeats counts; else it may begin to count with this one."""
    if expected > MOST_BETWEEN:  # no worker can do that
        life.floor = life.since = life.first_task = None
    elif life.floor is None and 0 < expected == seen:
        life.floor, life.since = base.clock, base.seen
    elif life.floor is None and life.first_task is not None and beat.clock > life.first_task:
        life.floor, life.since = beat.clock, beat.seen
        return False
    return life.floor is not None


def _move(life: Life, beat: Beat) -> None:
    life.base, life.doubted = beat, False
    life.runs = tuple(run for run in life.runs if run.last > beat.clock)
