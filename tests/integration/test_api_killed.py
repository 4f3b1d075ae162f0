"""The api is killed in the midst of writing, again and again: no event is lost and none is counted twice."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from meadow import subjects
from meadow.bus import Bus
from meadow.events import AnyFact
from meadow.testing import eventually
from tests.integration.api_service import publish, task_events

BATCHES = 1000
TASKS_IN_A_BATCH = 8
KILLED_AT = (1, 250, 500, 750)


def query(store: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def position(store: Path) -> int:
    if not store.exists():
        return 0
    try:
        found = dict(query(store, "SELECT stream, sequence FROM positions"))
    except sqlite3.OperationalError:  # the tables are not there yet
        return 0
    return int(str(found.get(subjects.EVENTS_STREAM, 0)))


def spread(batch: int) -> list[AnyFact]:
    """The events of some tasks, of which every other one is finished only in the next batch."""
    facts: list[AnyFact] = []
    for place in range(TASKS_IN_A_BATCH):
        number = batch * TASKS_IN_A_BATCH + place
        facts += task_events(number)[: 1 if place % 2 else 3]
        if place % 2 and batch:
            facts += task_events(number - TASKS_IN_A_BATCH)[1:]
    return facts


async def run_until(bus: Bus, directory: Path, sequence: int) -> None:
    """Run the api until it has written so much, then kill it."""
    command = [sys.executable, "-m", "tests.integration.apps.api_process", bus.url, str(directory)]
    process = subprocess.Popen(command)
    try:
        await eventually(lambda: position(directory / "store.db") >= sequence, timeout=60.0, every=0.002)
    finally:
        process.kill()
        process.wait()


async def test_a_killed_api_goes_on_exactly_where_it_was(bus: Bus, tmp_path: Path) -> None:
    last = 0
    for batch in range(BATCHES):
        last = await publish(bus, *spread(batch))
    reached = []
    for sequence in KILLED_AT:
        await run_until(bus, tmp_path, sequence)
        reached.append(position(tmp_path / "store.db"))
    assert reached[0] < last, "the first kill came too late to test anything"
    await run_until(bus, tmp_path, last)

    store = tmp_path / "store.db"
    tasks = BATCHES * TASKS_IN_A_BATCH
    unfinished = TASKS_IN_A_BATCH // 2  # those of the last batch
    assert query(store, "SELECT count(*), count(DISTINCT uuid) FROM tasks") == [(tasks, tasks)]
    assert query(store, "SELECT tasks FROM clusters") == [(tasks,)]
    assert query(store, "SELECT state, count(*) FROM tasks GROUP BY state ORDER BY state") == [
        ("RECEIVED", unfinished),
        ("SUCCESS", tasks - unfinished),
    ]
    counted = "SELECT type, count FROM worker_counts ORDER BY type"
    assert query(store, counted) == [
        ("task-received", tasks),
        ("task-started", tasks - unfinished),
        ("task-succeeded", tasks - unfinished),
    ]
    sums = "SELECT sum(received), sum(started), sum(succeeded), sum(runtime_count) FROM rollups WHERE step = "
    for step in ("10", "60"):
        assert query(store, sums + step) == [(tasks, *[tasks - unfinished] * 3)]
    assert query(store, "PRAGMA integrity_check") == [("ok",)]
