"""The api, or the process of it that writes, is killed at random moments while it reads, again and again: nothing is
lost, and nothing is counted twice.

`MEADOW_KILLS=200` kills it that often.
"""

import asyncio
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from meadow import subjects
from meadow.bus import Bus
from meadow.codec import encode_batch
from meadow.events import AnyFact
from meadow.queries import Overview, WorkerList
from meadow.service import Context
from meadow.testing import eventually
from meadow_api.store.database import Database
from meadow_api.store.stats_writes import add_up
from tests.integration.api_service import CLUSTER, ask, serving
from tests.integration.apps.ingest_stories import SHOWN, Stories

MakeContext = Callable[..., Context]

KILLS = int(os.environ.get("MEADOW_KILLS", "5"))
SEED = 20261123
BETWEEN_BATCHES = 0.02 if KILLS < 50 else 0.08
PATIENCE = 60.0 + KILLS
SENT_TWICE = 0.05

# Which old messages are remembered, which texts wait for the index, and how the starts of the last seconds are held
# together until they are judged (in `scores`, which are compared) depends on the groups in which messages were read.
# So does which waits of a retried task are measured: of the statistics the counts are compared, when all is added up.
NOT_COMPARED = ("sqlite_", "digests", "text_", "lives", "stats")


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


def kill_keeper(api: int) -> None:
    for process in psutil.Process(api).children():
        process.kill()


@dataclass
class Publisher:
    """Puts batches on the stream, one every few milliseconds, some of them twice."""

    bus: Bus
    stories: Stories
    last: int = 0
    events: int = 0
    enough: bool = False
    _random: random.Random = field(default_factory=lambda: random.Random(SEED))

    async def run(self) -> None:
        while not self.enough:
            await self.publish(self.stories.next_batch())
            await asyncio.sleep(BETWEEN_BATCHES)

    async def publish(self, facts: list[AnyFact]) -> None:
        data = encode_batch(CLUSTER, "collector-1", facts)
        for _ in range(2 if self._random.random() < SENT_TWICE else 1):
            self.last = await self.bus.append(subjects.events(CLUSTER, subjects.TASKS), data)
        self.events += len(facts)


@dataclass
class Killer:
    """Starts the api on a store and kills it; what it found is in `reached` (positions) and `behind` (in the midst)."""

    bus: Bus
    directory: Path
    reached: list[int] = field(default_factory=list)
    behind: int = 0
    _start: float = 1.0

    @property
    def store(self) -> Path:
        return self.directory / "store.db"

    async def run_until(self, *done: Callable[[], bool]) -> None:
        """Run the api until then, and kill it. Given several, its keeper alone is killed after each but the last."""
        command = [sys.executable, "-m", "tests.integration.apps.api_process", self.bus.url, str(self.directory)]
        process = subprocess.Popen(command)
        try:
            for number, until in enumerate(done):
                if number:
                    await asyncio.to_thread(kill_keeper, process.pid)
                await eventually(until, timeout=PATIENCE, every=0.002)
                assert process.poll() is None, "the api ended by itself"
        finally:
            process.kill()
            process.wait()

    async def measure_start(self) -> None:
        """Find out how long the api takes from its start to its first transaction."""
        begun = time.monotonic()
        await self.run_until(lambda: position(self.store) > 0)
        self._start = time.monotonic() - begun

    async def kill_after(self, share: float, publisher: Publisher) -> None:
        """Kill it after this share of the time that it takes to start."""
        end = time.monotonic() + share * self._start
        await self.run_until(lambda: time.monotonic() > end)
        await self._note(publisher)

    async def kill_in_the_midst(self, *seconds: float, publisher: Publisher) -> None:
        """Kill it so long after it has written something; given several, first its keeper alone."""
        await self.run_until(*(self._written(each) for each in seconds))
        await self._note(publisher)

    def _written(self, seconds: float) -> Callable[[], bool]:
        """Whether so long ago it has written something that was not there when this was asked first."""
        before, ends = list[int](), list[float]()

        def done() -> bool:
            before.append(position(self.store))
            if not ends and before[-1] > before[0]:
                ends.append(time.monotonic() + seconds)
            return bool(ends) and time.monotonic() > ends[0]

        return done

    async def _note(self, publisher: Publisher) -> None:
        now = await asyncio.to_thread(position, self.store)
        if now > (self.reached[-1] if self.reached else 0) and now < publisher.last:
            self.behind += 1
        self.reached.append(now)


@pytest.mark.timeout(120 + 12 * KILLS)
async def test_nothing_is_lost_or_doubled_however_often_it_is_killed(
    bus: Bus, make_context: MakeContext, tmp_path: Path
) -> None:
    dice = random.Random(SEED)
    publisher = Publisher(bus, Stories(SEED, clock=time.time))
    killer = Killer(bus, tmp_path / "killed")
    killer.directory.mkdir()
    publishing = asyncio.create_task(publisher.run())
    await killer.measure_start()
    for number in range(KILLS):
        match number % 3:
            case 0:
                await killer.kill_in_the_midst(dice.uniform(0.0, 0.3), publisher=publisher)
            case 1:
                await killer.kill_after(dice.uniform(0.3, 1.5), publisher)
            case 2:
                moments = (dice.uniform(0.0, 0.3), dice.uniform(0.0, 0.3))
                await killer.kill_in_the_midst(*moments, publisher=publisher)
    publisher.enough = True
    await publishing
    await publisher.publish(publisher.stories.last_batch())
    await killer.run_until(lambda: position(killer.store) >= publisher.last)
    print(
        f"{KILLS} kills and {KILLS // 3} of the keeper alone, {killer.behind} of them in the midst of reading; "
        f"{publisher.events} events in {publisher.last} messages, {publisher.stories.begun} tasks"
    )

    assert killer.reached == sorted(killer.reached)
    assert killer.behind >= KILLS // 4, "the kills came at moments that test nothing"
    assert query(killer.store, "PRAGMA integrity_check") == [("ok",)]
    context = make_context()
    settings = replace(context.settings, data_dir=str(killer.directory))
    await everything_is_counted_once(replace(context, settings=settings), publisher)
    await equals_a_store_that_was_never_killed(make_context(), killer.store, publisher.last)
    counted = await statistics(killer.store)
    assert {(label, event): n for (label, event), n in counted.items() if n} == publisher.stories.names


async def everything_is_counted_once(context: Context, publisher: Publisher) -> None:
    """What the doors of the api show is what was published."""
    stories = publisher.stories
    async with serving(context) as (_, client):
        async with client.get("/api/tasks") as response:
            tasks: dict[str, Any] = await response.json()
        workers = await ask(context.bus, "workers", WorkerList)
        overview = await ask(context.bus, "overview", Overview, seconds=3600.0)
    assert len(tasks) == stories.begun
    assert Counter(task["state"] for task in tasks.values()) == stories.states
    counted = {(row.hostname, kind): n for row in workers.rows for kind, n in row.counters.items()}
    assert counted == dict(stories.counts)
    by_name = {
        (row.name, kind): getattr(row, kind) for row in overview.types for kind in ("received", "succeeded", "failed")
    }
    assert by_name == dict(stories.names)
    assert overview.tasks_stored == stories.begun


async def equals_a_store_that_was_never_killed(context: Context, killed: Path, last: int) -> None:
    """The same stream, read in one go into another store, gives the same rows in all tables."""
    async with serving(context) as (service, _):
        await eventually(
            lambda: service.health()["streams"][subjects.EVENTS_STREAM]["position"] >= last, timeout=PATIENCE
        )
    fresh = Path(str(context.settings.data_dir)) / "store.db"
    expected, found = contents(fresh), contents(killed)
    assert found.keys() == expected.keys()
    for table, rows in expected.items():
        missing, more = rows - found[table], found[table] - rows
        assert not missing, f"{table} lacks {missing.total()} of {rows.total()} rows, {next(iter(missing))} among them"
        assert not more, f"{table} has {more.total()} rows too many, {next(iter(more))} among them"


async def statistics(store: Path) -> dict[tuple[str, str], int]:
    """The counts of the statistics by task name and event, those by the minute, which those by the hour equal."""
    database = Database(store)
    await database.open()
    await database.write(lambda connection: add_up(connection, 1))
    await database.close()
    sums = ", ".join(f"sum({event})" for event in SHOWN.values())
    by_step = [
        query(store, f"SELECT label, {sums} FROM stats WHERE dimension = 'name' AND step = {step} GROUP BY label")  # noqa: S608
        for step in (60, 3600)
    ]
    assert by_step[0] == by_step[1]
    return {(row[0], event): n for row in by_step[0] for event, n in zip(SHOWN.values(), row[1:], strict=True)}


def contents(store: Path) -> dict[str, Counter[tuple[Any, ...]]]:
    """All tables with all rows, without the numbers that rows are given in the order of their arrival."""
    names = [str(name) for (name,) in query(store, "SELECT name FROM sqlite_master WHERE type = 'table'")]
    tables = {}
    for name in names:
        if name.startswith(NOT_COMPARED):
            continue
        columns = ", ".join(f'"{row[1]}"' for row in query(store, f"PRAGMA table_info({name})") if row[1] != "id")
        rows = query(store, f"SELECT {columns} FROM {name}")  # noqa: S608
        tables[name] = Counter(tuple(map(_rounded, row)) for row in rows)
    return tables


def _rounded(value: Any) -> Any:
    """Sums of fractions depend on the order in their last digits, and 1 is 1.0, in JSON as well."""
    if isinstance(value, float):
        return float(f"{value:.9g}") if abs(value) < 1e6 else round(value, 3)
    if isinstance(value, str) and value[:1] in ("[", "{"):
        return json.dumps(json.loads(value, parse_int=float), sort_keys=True)
    return value
