"""The row of a task holds what its events say together, however they are spread over groups, on both databases.

Rows are written by statements that name the columns which are known, and those which change: so tasks of many shapes
go into one group here, some of them many times and some once.
"""

import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from meadow.events import (
    CustomEvent,
    TaskFact,
    TaskFailed,
    TaskReceived,
    TaskRetried,
    TaskRevoked,
    TaskSent,
    TaskStarted,
    TaskSucceeded,
)
from meadow_api.fold import fold
from meadow_api.store.database import Database
from meadow_api.store.raw import ROWS_AT_ONCE
from meadow_api.store.task_writes import read_record, write_tasks
from meadow_api.store.writer import cluster_id

USUAL = 3 * ROWS_AT_ONCE + 5
RARE = 40


def usual(uuid: str, at: float) -> list[TaskFact]:
    """A task that succeeds."""
    common = {"uuid": uuid, "hostname": "w1@h", "seen": at, "pid": 7}
    return [
        TaskReceived(timestamp=at, clock=1, name="proj.add", args=f"({at},)", **common),  # type: ignore[arg-type]
        TaskStarted(timestamp=at + 1, clock=2, **common),  # type: ignore[arg-type]
        TaskSucceeded(timestamp=at + 2, clock=3, result=str(at), runtime=0.5, **common),  # type: ignore[arg-type]
    ]


def rare(uuid: str, at: float, chance: random.Random) -> list[TaskFact]:
    """A task whose story has some of all that can happen."""
    common = {"uuid": uuid, "hostname": chance.choice(("w1@h", "w2@h")), "seen": at, "pid": chance.choice((None, 7))}
    sent = {"uuid": uuid, "hostname": "client", "seen": at}
    stories: list[TaskFact] = [
        TaskSent(timestamp=at, name="proj.mul", queue="high", routing_key="r", **sent),  # type: ignore[arg-type]
        TaskReceived(timestamp=at + 1, clock=1, name="proj.mul", kwargs="{'a': 1}", eta="2026", **common),  # type: ignore[arg-type]
        TaskStarted(timestamp=at + 2, clock=2, **common),  # type: ignore[arg-type]
        TaskRetried(timestamp=at + 3, clock=3, exception="E()", traceback="…", **common),  # type: ignore[arg-type]
        TaskReceived(timestamp=at + 4, clock=4, name="proj.mul", retries=1, root_id="root", **common),  # type: ignore[arg-type]
        TaskFailed(timestamp=at + 5, clock=5, exception="F()", traceback="t", **common),  # type: ignore[arg-type]
        TaskRevoked(timestamp=at + 6, clock=6, **common),  # type: ignore[arg-type]
        CustomEvent(timestamp=at + 7, clock=7, event="task-progress", **common),  # type: ignore[arg-type]
    ]
    return chance.sample(stories, chance.randint(1, len(stories)))


def spread(stories: Sequence[Sequence[TaskFact]], chance: random.Random) -> list[dict[str, list[TaskFact]]]:
    """The events in three groups, in no order."""
    groups: list[defaultdict[str, list[TaskFact]]] = [defaultdict(list) for _ in range(3)]
    for fact in chance.sample([fact for story in stories for fact in story], sum(map(len, stories))):
        groups[chance.randrange(3)][fact.uuid or ""].append(fact)
    return [dict(group) for group in groups]


async def test_a_row_holds_what_the_events_of_its_task_say_together(store_place: Path | str) -> None:
    chance = random.Random(7)
    stories = {f"usual-{n}": usual(f"usual-{n}", 1000.0 + n) for n in range(USUAL)}
    stories |= {f"rare-{n}": rare(f"rare-{n}", 2000.0 + 10 * n, chance) for n in range(RARE)}
    split = {f"split-{n}": usual(f"split-{n}", 5000.0 + n) for n in range(USUAL)}
    groups = [{uuid: story for uuid, story in stories.items() if uuid.startswith("usual")}]
    groups += spread([story for uuid, story in stories.items() if uuid.startswith("rare")], chance)
    groups += spread(list(split.values()), chance)
    stories |= split
    database = Database(store_place)
    await database.open()
    try:
        cluster = await database.write(lambda c: cluster_id(c, "default"))
        added = 0
        for group in groups:
            added += (await database.write(lambda c, group=group: write_tasks(c, cluster, group))).added  # type: ignore[misc]
        found = await database.read(lambda c: {uuid: read_record(c, cluster, uuid) for uuid in stories})
    finally:
        await database.close()
    assert added == len(stories)
    assert found == {uuid: fold(uuid, story) for uuid, story in stories.items()}
