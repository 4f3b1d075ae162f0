"""From messages of the stream to one group that is written in one transaction. Pure: bytes in, sorted facts out."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from meadow import subjects
from meadow.bus import StreamMessage
from meadow.codec import decode_batch
from meadow.errors import InvalidMessage
from meadow.events import (
    AnyFact,
    CeleryEvent,
    CollectorGap,
    CollectorReported,
    CustomEvent,
    QueuesObserved,
    TaskCancelled,
    TaskEvent,
    TaskFact,
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
    WorkerInspected,
    WorkerOffline,
    WorkerOnline,
)

_ABOUT: dict[type[Any], type[Any]] = {
    TaskSent: TaskSent,
    **dict.fromkeys(
        (TaskReceived, TaskStarted, TaskSucceeded, TaskFailed, TaskRetried, TaskRevoked, TaskRejected, TaskCancelled),
        TaskEvent,
    ),
    **dict.fromkeys((WorkerHeartbeat, WorkerOnline, WorkerOffline), WorkerEvent),
}
"""What nearly all facts are about: a task as its worker tells, a task as its client tells, or a worker."""

GROUP_EVENTS = 32_000
GROUP_BYTES = 16 * 1024 * 1024


@dataclass
class ClusterFacts:
    """The facts about one cluster, sorted by what they are about. `latest` is when the collector saw the newest."""

    tasks: defaultdict[str, list[TaskFact]] = field(default_factory=lambda: defaultdict(list))
    workers: defaultdict[str, list[CeleryEvent]] = field(default_factory=lambda: defaultdict(list))
    inspections: dict[tuple[str, str], tuple[float, Any]] = field(default_factory=dict)
    observations: list[QueuesObserved] = field(default_factory=list)
    reports: list[CollectorReported] = field(default_factory=list)
    gaps: list[CollectorGap] = field(default_factory=list)
    latest: float = 0.0

    def add(self, facts: Iterable[AnyFact]) -> None:
        """Put the facts where they belong."""
        tasks, workers = self.tasks, self.workers
        fact: Any
        for fact in facts:
            about = _ABOUT.get(type(fact))
            if about is TaskEvent:
                tasks[fact.uuid].append(fact)
                workers[fact.hostname].append(fact)
            elif about is TaskSent:  # its hostname is a client's
                tasks[fact.uuid].append(fact)
            elif about is WorkerEvent:
                workers[fact.hostname].append(fact)
            else:
                self._add_rare(fact)

    def _add_rare(self, fact: AnyFact) -> None:
        if isinstance(fact, CustomEvent):
            if fact.uuid is not None:
                self.tasks[fact.uuid].append(fact)
            self.workers[fact.hostname].append(fact)
        elif isinstance(fact, WorkerInspected):
            self.inspect(fact.hostname, fact.seen, fact.replies)
        elif isinstance(fact, QueuesObserved):
            self.observations.append(fact)
        elif isinstance(fact, CollectorReported):
            self.reports.append(fact)
        elif isinstance(fact, CollectorGap):
            self.gaps.append(fact)

    def inspect(self, hostname: str, at: float, replies: dict[str, Any]) -> None:
        """Keep the newest answer to each inspection."""
        for method, answer in replies.items():
            known = self.inspections.get((hostname, method))
            if known is None or at >= known[0]:
                self.inspections[hostname, method] = (at, answer)


@dataclass
class Group:
    """What one transaction writes: facts by cluster, and how far in the stream it reaches. `oldest` is when the first
    of its facts was seen."""

    sequence: int = 0
    events: int = 0
    size: int = 0
    clusters: dict[str, ClusterFacts] = field(default_factory=dict)
    digests: dict[bytes, int] = field(default_factory=dict)
    invalid: list[tuple[int, str]] = field(default_factory=list)
    repeated: int = 0
    oldest: float | None = None

    @property
    def full(self) -> bool:
        """Whether the next message should go into another group."""
        return self.events >= GROUP_EVENTS or self.size >= GROUP_BYTES

    def add(self, message: StreamMessage, known: Iterable[bytes]) -> None:
        """Sort the message's facts in. A message that was there before, or that is invalid, only moves the position.

        `known` are digests of former messages: a collector that did not hear that its batch was stored sends it again.
        """
        self.sequence = message.sequence
        self.size += len(message.data)
        digest = blake2b(message.data, digest_size=16).digest()
        if digest in self.digests or digest in known:
            self.repeated += 1
            return
        try:
            batch = decode_batch(_without_nul(message.data))
            cluster = _cluster(batch.cluster)
        except InvalidMessage as exc:
            self.invalid.append((message.sequence, str(exc)))
            return
        self.digests[digest] = message.sequence
        facts = self.clusters.setdefault(cluster, ClusterFacts())
        facts.add(batch.events)
        self.events += len(batch.events)
        if batch.events:
            self._note_times(facts, batch.events[0].seen, batch.events[-1])

    def _note_times(self, facts: ClusterFacts, first: float, last: AnyFact) -> None:
        self.oldest = first if self.oldest is None else min(self.oldest, first)
        if not isinstance(last, WorkerInspected):  # those are timed by the controller's clock
            facts.latest = max(facts.latest, last.seen)


def groups(messages: Iterable[StreamMessage], known: Iterable[bytes]) -> Iterator[Group]:
    """The messages in groups of bounded size, in order."""
    group = Group()
    for message in messages:
        group.add(message, known)
        if group.full:
            yield group
            group = Group()
    if group.sequence:
        yield group


_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")


def _without_nul(data: bytes) -> bytes:
    """JSON whose texts PostgreSQL can hold too. The collector sees to it already; others may publish as well."""
    return _NUL.sub(rb"\1\\ufffd", data) if b"\\u0000" in data else data


def _cluster(name: str) -> str:
    if subjects.CLUSTER_NAME.fullmatch(name) is None:
        raise InvalidMessage(f"{name[:100]!r} is not the name of a cluster.")
    return name
