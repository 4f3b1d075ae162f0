"""Task stores of some size, filled by the real Writer with the traffic of `workload`, and kept for the next run."""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.workload import Workload
from meadow import subjects
from meadow.bus import Bus, StreamLimits, StreamMessage
from meadow.codec import encode_batch
from meadow.redact import Redactor
from meadow_api.intake import Group
from meadow_api.store.database import Database
from meadow_api.store.writer import Position, Writer
from meadow_collector.normalise import Normaliser

CACHE = Path(__file__).resolve().parent.parent / ".bench"
CLUSTER = "default"
STREAM = "FILLED"
TASKS_PER_SECOND = 50
EVENTS_PER_TASK = 4.2
BATCH = 200
FIELD_BYTES = 65_536


async def filled(tasks: int, place: str | None = None) -> Path:
    """A directory with a store of that many tasks; made unless it is there. `place` is a database's URL."""
    directory = CACHE / (f"store-{tasks}" if place is None else f"postgres-{tasks}")
    done = directory / "filled.json"
    if place is None and done.exists():
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    (directory.parent / ".gitignore").write_text("*\n")
    began, used = time.perf_counter(), time.process_time()
    database = Database(directory / "store.db" if place is None else place)
    await database.open()
    try:
        await _write(database, tasks)
    finally:
        await database.close()
    took = {"tasks": tasks, "seconds": time.perf_counter() - began, "processor": time.process_time() - used}
    done.write_text(json.dumps(took))
    print(f"filled {tasks} tasks in {took['seconds']:.0f} s ({took['processor']:.0f} s of processor time)", flush=True)
    return directory


async def _write(database: Database, tasks: int) -> None:
    writer = Writer(database)
    await writer.load()
    position = Position("filled", 0)
    await writer.begin_stream(STREAM, position)
    group = Group()
    for number, data in enumerate(_batches(tasks, Workload()), 1):
        group.add(StreamMessage(sequence=number, subject="", data=data), ())
        if group.full:
            position, group = await _written(writer, position, group), Group()
    if group.sequence:
        await _written(writer, position, group)


async def _written(writer: Writer, position: Position, group: Group) -> Position:
    await writer.write_group(STREAM, position, group)
    return Position(position.identity, group.sequence)


def _batches(tasks: int, workload: Workload, *, present: bool = False) -> Iterator[bytes]:
    """The traffic as batches of facts, as a collector publishes them: of the last hours, or of the present."""
    normaliser = Normaliser(FIELD_BYTES, Redactor())
    step = 1 / (TASKS_PER_SECOND * EVENTS_PER_TASK)
    now = time.time() - tasks / TASKS_PER_SECOND
    facts: list[Any] = []
    for message in workload.messages(tasks):
        content: Any = json.loads(message.body)
        for event in content if isinstance(content, list) else [content]:
            now = time.time() if present else now + step
            facts.append(normaliser.fact(event | {"timestamp": now}, now))
        if len(facts) >= BATCH:
            yield encode_batch(CLUSTER, "filler", facts)
            facts = []
    if facts:
        yield encode_batch(CLUSTER, "filler", facts)


def size_of(directory: Path) -> dict[str, int]:
    """Bytes of the files of a store."""
    return {path.name: path.stat().st_size for path in sorted(directory.iterdir()) if path.name.endswith(".db")}


async def publish(nats: str, rate: float, seconds: float) -> None:
    """Put batches of new tasks on the stream at that rate."""
    bus = await Bus.connect(nats, name="filler")
    began, sent = time.monotonic(), 0
    try:
        await bus.declare_streams(StreamLimits())
        for data in _batches(int(rate * seconds / EVENTS_PER_TASK), Workload(seed=2), present=True):
            await bus.append(subjects.events(CLUSTER, subjects.TASKS), data)
            sent += BATCH
            await asyncio.sleep(max(0.0, began + sent / rate - time.monotonic()))
    finally:
        await bus.close()


if __name__ == "__main__":
    if sys.argv[1] == "publish":
        asyncio.run(publish(sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))
    else:
        asyncio.run(filled(int(sys.argv[1])))
