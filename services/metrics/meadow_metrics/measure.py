"""Facts become Flower's six series, with Flower's meaning, and Meadow's own.

Nothing here waits, reads a clock or knows Prometheus' formats. `now` is seconds of a clock that only advances: whether
a worker is online is judged by when Meadow heard of it, whatever the clocks of workers say.

On purpose not as in Flower: a worker that falls silent goes offline, and its gauges to 0 with it (Flower's stay for
ever); a task that is delivered again, or whose worker dies, does not stay in the prefetched gauge.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from meadow.events import CollectorReported
from meadow_metrics.facts import (
    AnyFact,
    CustomEvent,
    QueuesObserved,
    TaskCancelled,
    TaskDetails,
    TaskEvent,
    TaskFailed,
    TaskReceived,
    TaskRejected,
    TaskRetried,
    TaskRevoked,
    TaskSent,
    TaskStarted,
    TaskSucceeded,
    WorkerEvent,
    WorkerHeartbeat,
    WorkerOffline,
    WorkerOnline,
    type_of,
)
from meadow_metrics.label_sets import Distribution, Labels, LabelSets, label

SHORTEST_SILENCE = 5.0
LONGEST_SILENCE = 300.0
COLLECTOR_SILENCE = 30.0

OTHER = "other"
CELERY_TYPES = frozenset(
    f"task-{word}"
    for word in ("sent", "received", "started", "succeeded", "failed", "retried", "revoked", "rejected", "cancelled")
)


@dataclass(frozen=True)
class Limits:
    """How much is remembered: label sets of each family, tasks, and who sends events."""

    label_sets: int = 5_000
    tasks: int = 50_000
    senders: int = 5_000


@dataclass(slots=True)
class _Task:
    """What must be remembered of a task. `holder` is the worker (and which life of it) that has prefetched it."""

    name: str = ""
    eta: bool = False
    received: float | None = None
    started: float | None = None
    holder: tuple[str, int] | None = None


@dataclass(slots=True)
class _Sender:
    """Who sends events: a worker, or (with `worker` false) a publisher. `life` counts a worker's restarts."""

    heard: float = 0.0
    worker: bool = False
    up: bool = False
    silence: float = SHORTEST_SILENCE
    active: int | None = None
    pid: int | None = None
    life: int = 0

    def online(self, now: float) -> bool:
        return self.up and now - self.heard <= self.silence


@dataclass(frozen=True)
class Snapshot:
    """All values at one moment. Nothing in it changes any more, so another thread may read it."""

    bounds: tuple[float, ...]
    events: Mapping[Labels, float]
    runtime: Mapping[Labels, Distribution]
    prefetch_time: Mapping[Labels, float]
    prefetched: Mapping[Labels, float]
    online: Mapping[str, float]
    executing: Mapping[str, float]
    queues: Mapping[str, float]
    folded: Mapping[str, int]
    processed: int
    invalid: int
    lag: float | None
    loop_lag: float
    child_lags: Mapping[str, float]
    collector: CollectorReported | None
    connected: bool


@dataclass
class Measures:
    """The values of all series. `buckets` are the ascending upper bounds of the runtime histogram."""

    buckets: tuple[float, ...]
    limits: Limits = Limits()
    processed: int = 0
    invalid: int = 0
    lag: float | None = None
    # A plain dict that loses its first key again and again takes ever longer to find the next one.
    _tasks: OrderedDict[str, _Task] = field(default_factory=OrderedDict)
    _senders: dict[str, _Sender] = field(default_factory=dict)
    _queues: dict[str, float] = field(default_factory=dict)
    _collector: CollectorReported | None = None
    _collector_heard: float = 0.0

    def __post_init__(self) -> None:
        self.bounds = self.buckets if self.buckets[-1] == math.inf else (*self.buckets, math.inf)
        self._events: LabelSets[float] = LabelSets(self.limits.label_sets, _fold_event, lambda kept, more: kept + more)
        self._runtime: LabelSets[Distribution] = LabelSets(self.limits.label_sets, _fold_runtime, _merged)
        self._prefetch_time: LabelSets[float] = LabelSets(self.limits.label_sets)
        self._prefetched: LabelSets[float] = LabelSets(self.limits.label_sets)

    def observe(self, facts: Sequence[AnyFact], now: float) -> None:
        """Count facts, heard together at `now`."""
        self.processed += len(facts)
        hearing = _Hearing(now)
        for fact in facts:
            follow = _FOLLOW.get(type(fact))
            if follow is not None:
                self._observe_task(fact, follow, hearing)  # type: ignore[arg-type]
            else:
                self._observe_other(fact, hearing)
        values = self._events.values
        for labels, count in hearing.counted.items():
            self._events.put(labels, values.get(labels, 0.0) + count)

    def _observe_other(self, fact: AnyFact, hearing: "_Hearing") -> None:
        if isinstance(fact, CustomEvent):
            self._observe_custom(fact, hearing)
        elif isinstance(fact, WorkerEvent):
            self._observe_worker(fact, hearing.now)
        elif isinstance(fact, QueuesObserved):
            self._queues = {label(q.name): float(q.messages) for q in fact.queues if q.messages is not None}
        elif isinstance(fact, CollectorReported):
            self._collector, self._collector_heard = fact, hearing.now

    def purge(self, now: float, threshold: float) -> None:
        """Forget all series of workers that have been offline, and of publishers that have been silent, for
        `threshold` seconds."""
        gone = {n for n, s in self._senders.items() if not s.online(now) and now - s.heard >= threshold}
        if not gone:
            return
        for name in gone:
            del self._senders[name]
        for family in (self._events, self._runtime, self._prefetch_time, self._prefetched):
            family.forget(lambda labels: labels[0] in gone)

    def snapshot(
        self, now: float, loop_lag: float = 0.0, child_lags: Mapping[str, float] = MappingProxyType({})
    ) -> Snapshot:
        """The values at `now`. Copies, so that they can be encoded while new facts come in."""
        workers = {name: sender for name, sender in self._senders.items() if sender.worker}
        away = {name for name, sender in workers.items() if not sender.online(now)}
        return Snapshot(
            bounds=self.bounds,
            events=self._events.values.copy(),
            runtime={labels: value.copy() for labels, value in self._runtime.values.items()},
            prefetch_time=self._prefetch_time.values.copy(),
            prefetched={key: 0.0 if key[0] in away else value for key, value in self._prefetched.values.items()},
            online={name: float(name not in away) for name in workers},
            executing={n: 0.0 if n in away else float(s.active) for n, s in workers.items() if s.active is not None},
            queues=self._queues,
            folded=self._folded(),
            processed=self.processed,
            invalid=self.invalid,
            lag=self.lag,
            loop_lag=loop_lag,
            child_lags=child_lags,
            collector=self._collector,
            connected=self._collector_connected(now),
        )

    def _folded(self) -> dict[str, int]:
        return {
            "flower_events": self._events.folded,
            "flower_task_runtime_seconds": self._runtime.folded,
            "flower_task_prefetch_time_seconds": self._prefetch_time.folded,
            "flower_worker_prefetched_tasks": self._prefetched.folded,
        }

    def _collector_connected(self, now: float) -> bool:
        report = self._collector
        return report is not None and report.connected and now - self._collector_heard <= COLLECTOR_SILENCE

    # -- workers ------------------------------------------------------------------------------------------------------

    def _observe_worker(self, fact: WorkerEvent, now: float) -> None:
        name = label(fact.hostname)
        sender = self._sender(name, now)
        sender.worker = True
        if isinstance(fact, WorkerOffline):
            sender.up = False
            self._begin_life(name, sender)
            return
        restarted = sender.pid is not None and fact.pid is not None and sender.pid != fact.pid
        if restarted or isinstance(fact, WorkerOnline):  # in containers, every life has the same pid
            self._begin_life(name, sender)
        sender.up = True
        sender.pid = fact.pid if fact.pid is not None else sender.pid
        sender.silence = _silence(fact.freq)
        if isinstance(fact, WorkerHeartbeat) and fact.active is not None:
            sender.active = max(fact.active, 0)

    def _begin_life(self, name: str, sender: _Sender) -> None:
        """What the worker had prefetched went with its process or its connection."""
        sender.life += 1
        values = self._prefetched.values
        values.update({labels: 0.0 for labels in values if labels[0] == name})

    def _sender(self, name: str, now: float) -> _Sender:
        sender = self._senders.pop(name, None) or _Sender()
        self._senders[name] = sender
        sender.heard = now
        if len(self._senders) > self.limits.senders:
            del self._senders[next(iter(self._senders))]
        return sender

    # -- tasks --------------------------------------------------------------------------------------------------------

    def _observe_task(self, fact: TaskEvent, follow: "_Follow", hearing: "_Hearing") -> None:
        worker, sender = hearing.senders.get(fact.hostname) or self._hear(fact.hostname, hearing)
        task = self._task(fact.uuid)
        type_, describes, follows = follow
        if describes:
            task.name = label(fact.name) if fact.name else task.name  # type: ignore[attr-defined]
            task.eta = bool(fact.eta)  # type: ignore[attr-defined]
        hearing.count((worker, type_, task.name))
        if follows is not None:
            follows(self, fact, task, worker, sender)

    def _observe_custom(self, fact: CustomEvent, hearing: "_Hearing") -> None:
        """Events of an application's own, as Flower counts them: those that are about a task."""
        if not fact.event.startswith("task-") or fact.uuid is None:
            return
        worker, _ = hearing.senders.get(fact.hostname) or self._hear(fact.hostname, hearing)
        task = self._task(fact.uuid)
        name, runtime = fact.fields.get("name"), fact.fields.get("runtime")
        if isinstance(name, str) and name:
            task.name = label(name)
        hearing.count((worker, label(fact.event), task.name))
        if isinstance(runtime, int | float):
            self._observe_runtime(worker, task.name, runtime)

    def _hear(self, hostname: str, hearing: "_Hearing") -> tuple[str, _Sender]:
        worker = label(hostname)
        known = hearing.senders[hostname] = (worker, self._sender(worker, hearing.now))
        return known

    def _observe_runtime(self, worker: str, name: str, runtime: float | None) -> None:
        if runtime and math.isfinite(runtime) and runtime > 0:
            distribution = self._runtime.touch((worker, name), lambda: Distribution([0] * len(self.bounds)))
            distribution.observe(float(runtime), self.bounds)

    # Prefetching: from the moment a worker takes the message until the task starts. Tasks that wait for a time of
    # their own (eta) say nothing about it.

    def _received(self, fact: TaskReceived, task: _Task, worker: str, sender: _Sender) -> None:
        if task.holder is not None:
            self._release(task)
        task.received = fact.timestamp
        late = task.started is not None and task.started >= fact.timestamp
        if not task.eta and not late:
            task.holder = (worker, sender.life)
            self._hold(worker, task.name, 1.0)

    def _started(self, fact: TaskStarted, task: _Task, worker: str, sender: _Sender) -> None:
        self._release(task)
        task.started = fact.timestamp
        if not task.eta and task.received is not None:
            self._prefetch_time.put((worker, task.name), max(fact.timestamp - task.received, 0.0))

    def _succeeded(self, fact: TaskSucceeded, task: _Task, worker: str, sender: _Sender) -> None:
        self._observe_runtime(worker, task.name, fact.runtime)
        self._ran(fact, task, worker, sender)

    def _ran(self, fact: TaskEvent, task: _Task, worker: str, sender: _Sender) -> None:
        self._release(task)
        if not task.eta and task.received is not None and task.started is not None:
            self._prefetch_time.put((worker, task.name), 0.0)

    def _gone(self, fact: TaskEvent, task: _Task, worker: str, sender: _Sender) -> None:
        self._release(task)

    def _hold(self, worker: str, name: str, change: float) -> None:
        labels = (worker, name)
        self._prefetched.put(labels, max(self._prefetched.values.get(labels, 0.0) + change, 0.0))

    def _release(self, task: _Task) -> None:
        holder, task.holder = task.holder, None
        if holder is None:
            return
        worker, life = holder
        sender = self._senders.get(worker)
        if sender is not None and sender.life == life and (worker, task.name) in self._prefetched.values:
            self._hold(worker, task.name, -1.0)

    def _task(self, uuid: str) -> _Task:
        task = self._tasks.get(uuid)
        if task is not None:
            self._tasks.move_to_end(uuid)
            return task
        task = self._tasks[uuid] = _Task()
        if len(self._tasks) > self.limits.tasks:
            self._release(self._tasks.popitem(last=False)[1])
        return task


class _Hearing:
    """What is heard together: how often each kind of event came, and by hostname who sent them."""

    __slots__ = ("counted", "now", "senders")

    def __init__(self, now: float) -> None:
        self.now = now
        self.counted: dict[Labels, int] = {}
        self.senders: dict[str, tuple[str, _Sender]] = {}

    def count(self, labels: Labels) -> None:
        self.counted[labels] = self.counted.get(labels, 0) + 1


_Follow = tuple[str, bool, Callable[[Measures, Any, _Task, str, _Sender], None] | None]
_FOLLOW: dict[type[Any], _Follow] = {
    kind: (type_of(kind), issubclass(kind, TaskDetails), follow)
    for kind, follow in (
        (TaskSent, None),
        (TaskReceived, Measures._received),
        (TaskStarted, Measures._started),
        (TaskSucceeded, Measures._succeeded),
        (TaskFailed, Measures._ran),
        (TaskRetried, None),
        (TaskRevoked, Measures._gone),
        (TaskRejected, Measures._gone),
        (TaskCancelled, None),
    )
}
"""Of each kind of task event: its type, whether it says what the task is, and what it means for prefetching."""


def _silence(freq: float) -> float:
    """How long a worker may be silent before it counts as offline: two heartbeats and a half, within reason."""
    if not 0 < freq < math.inf:  # nor is a NaN
        return SHORTEST_SILENCE
    return min(max(2.5 * freq, SHORTEST_SILENCE), LONGEST_SILENCE)


def _fold_event(labels: Labels) -> Labels:
    return (OTHER, labels[1] if labels[1] in CELERY_TYPES else OTHER, OTHER)


def _fold_runtime(labels: Labels) -> Labels:
    return (OTHER, OTHER)


def _merged(kept: Distribution, more: Distribution) -> Distribution:
    kept.merge(more)
    return kept
