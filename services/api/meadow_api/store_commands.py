"""What `meadow store …` does. Each command says what it found or did, line by line, through `say`."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import BinaryIO

import msgspec
from sqlalchemy import func, select

from meadow import subjects
from meadow.bus import Bus, StreamState
from meadow.errors import BusError, StartRefused
from meadow.settings import Settings
from meadow_api.housekeeping import Housekeeping
from meadow_api.store import checks, retention, revisions, schema, transfer
from meadow_api.store.checks import Finding, StoredPosition
from meadow_api.store.database import Database, place_of
from meadow_api.store.retention import Limits

Say = Callable[[str], None]

LONG = 86400.0
"""Nobody waits for a page here: questions may take as long as they need."""


async def describe(settings: Settings) -> str:
    """In one sentence, whether the store can be used; raises `MeadowError`."""
    place = Database(place_of(settings)).place
    try:
        async with _opened(settings, write=False) as database:
            stored = await database.read(lambda c: c.execute(select(func.sum(schema.clusters.c.tasks))).scalar())
            return f"{place} has schema {revisions.HEAD} and holds {int(stored or 0):,} tasks."
    except revisions.NoStoreYet:
        return f"{place} will be made when Meadow starts."


async def check(settings: Settings, say: Say) -> bool:
    """Say what the store holds and whether it is sound; gives whether all is well. Works beside a running Meadow."""
    async with _opened(settings, write=False) as database:
        say(f"The task store {database.place}")
        findings = await database.read(lambda c: list(checks.examine(c)), limit=LONG)
        stored = await database.read(checks.positions)
    findings += await _positions(settings, stored)
    for finding in findings:
        say(_line(finding))
    ill = sum(finding.well is False for finding in findings)
    say("All is well." if not ill else f"{ill} of {len(findings)} checks failed.")
    return not ill


async def prune(settings: Settings, say: Say, *, dry_run: bool) -> None:
    """Delete what the settings say is too old or too much; with `dry_run`, only say how much that is."""
    limits, now = Limits.of(settings), time.time()
    async with _opened(settings, write=not dry_run) as database:
        if dry_run:
            await _say_surplus(database, limits, now, say)
            return
        await database.write(retention.count_again)
        housekeeping = Housekeeping(database, limits)
        await housekeeping.sweep(now)
        reasons = ", ".join(f"{number:,} by {reason}" for reason, number in housekeeping.deleted.items() if number)
        gone = housekeeping.deleted.total()
        say(f"{gone:,} tasks were deleted from {database.place}{f': {reasons}' if reasons else ''}.")


async def migrate(settings: Settings, say: Say) -> None:
    """Bring the tables to this release's schema, which starting Meadow does as well."""
    async with _opened(settings, write=True) as database:
        say(f"The task store {database.place} has schema {revisions.HEAD}.")


async def export(settings: Settings, say: Say, target: BinaryIO) -> None:
    """Write everything as lines of JSON. Works beside a running Meadow."""
    async with _opened(settings, write=False) as database:
        await asyncio.to_thread(target.write, transfer.encode_line(transfer.Header(written=time.time())) + b"\n")
        number = 0
        for page in (transfer.task_lines, transfer.audit_lines):
            lines, after = await database.read(lambda c, p=page: p(c, 0), limit=LONG)  # type: ignore[misc]
            while lines:
                number += await _put(target, lines)
                lines, after = await database.read(lambda c, p=page, a=after: p(c, a), limit=LONG)  # type: ignore[misc]
        number += await _put(target, await database.read(transfer.worker_lines, limit=LONG))
        say(f"{number:,} tasks, workers and audit records were written.")


async def import_(settings: Settings, say: Say, source: BinaryIO) -> None:
    """Merge what `export` wrote into the store; what is there already is not doubled. Raises `StartRefused`."""
    async with _opened(settings, write=True) as database:
        number = read = 0
        while lines := await asyncio.to_thread(_read_lines, source, read):
            number += await database.write(lambda c, lines=lines: transfer.write_lines(c, lines))  # type: ignore[misc]
            read += len(lines)
        say(f"{read:,} lines were read: {number:,} tasks, workers and audit records are new in {database.place}.")


def _read_lines(source: BinaryIO, read: int) -> list[transfer.Line]:
    lines: list[transfer.Line] = []
    for number, raw in enumerate(islice(source, transfer.PAGE), read + 1):
        try:
            line = transfer.decode_line(raw)
        except (msgspec.MsgspecError, ValueError) as exc:
            raise StartRefused(
                f"Line {number} was not written by 'meadow store export': {exc}. The lines before it were imported."
            ) from exc
        if isinstance(line, transfer.Header) and line.version > transfer.VERSION:
            raise StartRefused("This file was written by a newer Meadow. Import it with that release.")
        lines.append(line)
    return lines


async def _put(target: BinaryIO, lines: Sequence[transfer.Line]) -> int:
    if lines:
        await asyncio.to_thread(target.write, b"\n".join(map(transfer.encode_line, lines)) + b"\n")
    return len(lines)


@asynccontextmanager
async def _opened(settings: Settings, *, write: bool) -> AsyncIterator[Database]:
    """The store; with `write` nobody else writes it meanwhile, raises `StartRefused` if somebody does."""
    database = Database(place_of(settings))
    try:
        await database.open(create=write)
        if write and not await database.lead():
            raise StartRefused(f"The task store {database.place} is in use by a Meadow that runs. Stop it first.")
        yield database
    finally:
        await database.close()


async def _say_surplus(database: Database, limits: Limits, now: float, say: Say) -> None:
    total = 0
    for surplus in await database.read(lambda c: retention.surpluses(c, limits, now), limit=LONG):
        number = await database.read(lambda c, s=surplus: retention.count_surplus(c, s), limit=LONG)  # type: ignore[misc]
        kinds = {True: "failed tasks", False: "tasks that did not fail", None: "tasks"}
        say(f"{number:,} {kinds[surplus.kind.failed]} would go by {surplus.reason}.")
        total += number
    used = await database.read(retention.size, limit=LONG)
    if 0 < limits.most_bytes < used:
        say(f"{used:,} bytes are in use, {used - limits.most_bytes:,} more than allowed: the oldest tasks would go.")
    elif not total:
        say("Nothing would go.")


async def _positions(settings: Settings, stored: list[StoredPosition]) -> list[Finding]:
    """Compare with the streams, where their NATS can be reached."""
    if settings.nats_url is None:
        advice = "Meadow's own NATS cannot be asked; with --nats-url the streams are compared."
        return [Finding(each.stream, f"read up to message {each.sequence:,}. {advice}") for each in stored]
    try:
        bus = await Bus.connect(settings.nats_url, name="meadow store check")
    except BusError as exc:
        return [Finding("NATS", str(exc), False, "Start it, or correct --nats-url.")]
    try:
        return [await _position(bus, each) for each in stored]
    finally:
        await bus.close()


async def _position(bus: Bus, stored: StoredPosition) -> Finding:
    try:
        state = await bus.stream_state(stored.stream)
    except BusError as exc:
        return Finding(stored.stream, f"cannot be looked at: {exc}", False, "See whether that NATS is Meadow's.")
    return compare(stored, state)


def compare(stored: StoredPosition, state: StreamState) -> Finding:
    """How the store stands to its stream."""
    title = stored.stream
    if stored.identity != state.identity:
        return Finding(title, "was made anew since it was read: it will be read from its beginning.")
    if stored.sequence > state.last:
        text = f"the store has message {stored.sequence:,}, but the stream ends at {state.last:,}."
        return Finding(title, text, False, "The stream was restored from an older copy: it will be read again.")
    missing = state.first - stored.sequence - 1
    if missing > 0 and title == subjects.EVENTS_STREAM:
        text = f"{missing:,} messages after {stored.sequence:,} were deleted before they were read."
        return Finding(title, text, False, "Start the api; give the stream more with --stream-days, --stream-bytes.")
    return Finding(title, f"read up to message {stored.sequence:,} of {state.last:,}.", True)


def _line(finding: Finding) -> str:
    mark = {True: "ok  ", False: "FAIL", None: "note"}[finding.well]
    line = f"{mark}  {finding.title:18} {finding.text}"
    return f"{line}\n      {'':18} → {finding.advice}" if finding.advice else line
