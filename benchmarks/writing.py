"""What folding and writing alone costs: batches as the collector makes them, through `groups` and `Writer` into a file.

The size of a group is what decides: of the events of a task that meet in one group, one row is written.
"""

import asyncio
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.workload import Workload
from meadow.bus import StreamMessage
from meadow.codec import join_batch
from meadow.redact import Redactor
from meadow_api.intake import groups
from meadow_api.store.database import Database
from meadow_api.store.writer import Position, Writer
from meadow_collector.shortcut import Shortcut

TASKS = 24_000
EVENTS_IN_A_MESSAGE = 400
GROUPS = (1, 5, 20)
FIELD_BYTES = 65536
STREAM = "MEADOW_EVENTS"


async def measure() -> None:
    """Print the table."""
    batches = await asyncio.to_thread(lambda: list(messages(TASKS)))
    print("| events in a group | CPU s per 100k events | events/s | slowest group, ms |\n|---|---|---|---|")
    for size in GROUPS:
        with tempfile.TemporaryDirectory() as name:
            await _write(Path(name) / "store.db", batches, size)


def messages(tasks: int) -> Iterator[StreamMessage]:
    """Messages as they stand on the stream."""
    shortcut, waiting, sequence = Shortcut(FIELD_BYTES, Redactor()), list[bytes](), 0
    for message in Workload().messages(tasks):
        content = json.loads(message.body)
        for event in content if isinstance(content, list) else [content]:
            entry = shortcut.take(event, event["timestamp"] + 0.01)
            if entry is None:
                raise SystemExit(f"The collector takes no short way for {event['type']}.")
            waiting.append(entry.data)
        if len(waiting) >= EVENTS_IN_A_MESSAGE:
            sequence += 1
            yield StreamMessage(sequence, "meadow.events.default.tasks", join_batch("default", "c-1", waiting))
            waiting = []


async def _write(path: Path, batches: list[StreamMessage], size: int) -> None:
    database = Database(path)
    await database.open()
    writer, position = Writer(database), Position("benchmark", 0)
    await writer.load()
    await writer.begin_stream(STREAM, position)
    events, slowest = 0, 0.0
    used, begun = _processor(), time.perf_counter()
    for start in range(0, len(batches), size):
        for group in groups(batches[start : start + size], writer.digests):
            before = time.perf_counter()
            await writer.write_group(STREAM, position, group)
            slowest = max(slowest, time.perf_counter() - before)
            position = Position(position.identity, group.sequence)
            events += group.events
    used, taken = _processor() - used, time.perf_counter() - begun
    await database.close()
    figures = (size * EVENTS_IN_A_MESSAGE, used / events * 100_000, events / taken, slowest * 1000)
    print("| {:.0f} | {:.2f} | {:.0f} | {:.0f} |".format(*figures), flush=True)


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
