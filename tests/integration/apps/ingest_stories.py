"""Endless tasks for tests of the store: what workers say in what order, and what must be counted in the end.

What happens follows from the seed, when it happens from the clock that is passed in. The events of a task are spread
over several batches, as they are when it waits and runs.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from meadow.events import (
    AnyFact,
    TaskFailed,
    TaskReceived,
    TaskRetried,
    TaskRevoked,
    TaskSent,
    TaskStarted,
    TaskSucceeded,
    WorkerHeartbeat,
    type_of,
)

NAMES = ("shop.order", "shop.mail", "reports.nightly")
WORKERS = {"w1@h": 71, "w2@h": 72}
ENDINGS = {"task-succeeded": "SUCCESS", "task-failed": "FAILURE", "task-revoked": "REVOKED"}
SHOWN = {"task-received": "received", "task-succeeded": "succeeded", "task-failed": "failed"}
BEGUN_IN_A_BATCH = 6
MOST_OPEN = 18
HEARTBEAT = 2.0

Story = list[Any]
"""The facts about one task that are still to come, without their times."""


@dataclass
class Stories:
    """`next_batch()` gives facts; `states`, `counts` (by worker) and `names` say what all facts so far come to."""

    seed: int
    clock: Callable[[], float]
    begun: int = 0
    states: Counter[str] = field(default_factory=Counter)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    names: Counter[tuple[str, str]] = field(default_factory=Counter)
    _said: int = 0
    _beaten: float = 0.0
    _open: list[tuple[str, Story]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)

    def next_batch(self) -> list[AnyFact]:
        """Some tasks begin, some of the open ones go on; those that are open longest end."""
        self._open += [self._begin() for _ in range(BEGUN_IN_A_BATCH)]
        late = len(self._open) - MOST_OPEN
        batch = [
            self._say(name, story.pop(0))
            for place, (name, story) in enumerate(self._open)
            for _ in range(len(story) if place < late else min(self._dice.randint(0, 2), len(story)))
        ]
        self._open = [(name, story) for name, story in self._open if story]
        if self.clock() - self._beaten >= HEARTBEAT:
            batch += self._heartbeats()
        return batch

    def last_batch(self) -> list[AnyFact]:
        """Every task that is still open comes to its end."""
        batch = [self._say(name, fact) for name, story in self._open for fact in story]
        self._open = []
        return batch + self._heartbeats()

    def _say(self, name: str, fact: Any) -> AnyFact:
        """The fact as it is sent now."""
        self._said += 1
        now, kind = self.clock(), type_of(fact)
        if kind != "task-sent":  # that is a client's, not a worker's
            self.counts[fact.hostname, kind] += 1
        if kind in ENDINGS:
            self.states[ENDINGS[kind]] += 1
        if kind in SHOWN:
            self.names[name, SHOWN[kind]] += 1
        said: AnyFact = msgspec.structs.replace(fact, clock=self._said, timestamp=now, seen=now)
        return said

    def _heartbeats(self) -> list[AnyFact]:
        self._beaten = self.clock()
        return [
            self._say(
                "",
                WorkerHeartbeat(
                    hostname=worker,
                    pid=pid,
                    processed=self.counts[worker, "task-started"],
                    active=0,
                    timestamp=0.0,
                    seen=0.0,
                ),
            )
            for worker, pid in WORKERS.items()
        ]

    def _begin(self) -> tuple[str, Story]:
        number, name = self.begun, self._dice.choice(NAMES)
        self.begun += 1
        worker = self._dice.choice(list(WORKERS))
        uuid = f"{self.seed:08x}-0000-4000-8000-{number:012x}"
        about = {"uuid": uuid, "hostname": worker, "pid": WORKERS[worker], "timestamp": 0.0, "seen": 0.0}
        described = {"name": name, "args": f"({number},)", "kwargs": "{}", "root_id": uuid}
        story: Story = [TaskSent(**{**about, "hostname": "client@h"}, **described, queue="celery")]
        story = [*story[: number % 3 == 0], TaskReceived(**about, **described)]
        if number % 11 == 0:
            return name, [*story, TaskRevoked(**about, expired=True)]
        if number % 7 == 0:
            again = TaskReceived(**about, **described, retries=1)
            retried = TaskRetried(**about, exception="Busy()", traceback="Traceback: Busy")
            story += [TaskStarted(**about), retried, again]
        story.append(TaskStarted(**about))
        if number % 5 == 0:
            return name, [*story, TaskFailed(**about, exception="Boom()", traceback="Traceback: Boom")]
        return name, [*story, TaskSucceeded(**about, result=str(number), runtime=0.125)]
