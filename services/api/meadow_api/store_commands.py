"""What `meadow store …` does. Each command says what it found or did, line by line, through `say`."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from typing import BinaryIO

import msgspec
from sqlalchemy import Connection, func, select

from meadow import subjects
from meadow.bus import Bus, StreamState
from meadow.errors import BusError, StartRefused
from meadow.settings import Settings
from meadow_api.errors import StoreDamaged, StoreError
from meadow_api.housekeeping import Housekeeping
from meadow_api.store import checks, retention, revisions, schema, transfer
from meadow_api.store.checks import Finding, StoredPosition
from meadow_api.store.database import Database, place_of
from meadow_api.store.retention import Limits
from meadow_api.store.weight import Kind

Say = Callable[[str], None]

LONG = 86400.0
"""Nobody waits for a page here: questions may take as long as they need."""


async def describe(settings: Settings) -> str:
    """In one sentence, whether the store can be used; raises `MeadowError`."""
    place = Database(place_of(settings)).place
    try:
        async with _opened(settings) as database:
            stored = await database.read(lambda c: c.execute(select(func.sum(schema.clusters.c.tasks))).scalar())
            return f"{place} has schema {revisions.HEAD} and holds {int(stored or 0):,} tasks."
    except revisions.NoStoreYet:
        return f"{place} will be made when Meadow starts."


async def check(settings: Settings, say: Say) -> bool:
    """Say what the store holds and whether it is sound; gives whether all is well. Works beside a running Meadow."""
    findings: list[Finding] = []
    async with _opened(settings) as database:
        say(f"The task store {database.place}")
        for title, part in checks.PARTS:
            findings += await _examine(database, title, part)
        stored = await database.read(checks.positions)
    findings += await _positions(settings, stored)
    for finding in findings:
        say(_line(finding))
    ill = sum(finding.well is False for finding in findings)
    say("All is well." if not ill else f"{ill} of {len(findings)} checks failed.")
    return not ill


async def _examine(database: Database, title: str, part: Callable[[Connection], Iterator[Finding]]) -> list[Finding]:
    try:
        return await database.read(lambda c: list(part(c)), limit=LONG)
    except StoreDamaged as exc:
        return [checks.damage(title, f"cannot be read: {exc}")]


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
    """Write everything as lines of JSON. Works beside a running Meadow. Raises `StartRefused` where it cannot write."""
    async with _opened(settings) as database:
        await _put(target, [transfer.Header(written=time.time())])
        number = 0
        for page in (transfer.task_lines, transfer.audit_lines):
            lines, after = await database.read(lambda c, p=page: p(c, 0), limit=LONG)  # type: ignore[misc]
            while lines:
                number += await _put(target, lines)
                lines, after = await database.read(lambda c, p=page, a=after: p(c, a), limit=LONG)  # type: ignore[misc]
        number += await _put(target, await database.read(transfer.worker_lines, limit=LONG))
        await _put(target, [transfer.End(lines=number)])
        say(f"{number:,} tasks, workers and audit records were written.")


async def _put(target: BinaryIO, lines: Sequence[transfer.Line]) -> int:
    def write() -> None:
        target.writelines(transfer.encode_line(line) + b"\n" for line in lines)
        target.flush()

    try:
        await asyncio.to_thread(write)
    except BrokenPipeError:  # whoever reads has enough
        raise
    except OSError as exc:
        with contextlib.suppress(OSError):  # what waits to be written fails again, and would once more at the exit
            target.close()
        raise StartRefused(f"The export cannot be written: {exc.strerror}. What was written is not whole.") from exc
    return len(lines)


async def import_(settings: Settings, say: Say, source: BinaryIO) -> bool:
    """Merge what `export` wrote into the store; what is there already is not doubled. Gives whether the end was there.

    Raises `StartRefused` for what is no export; the lines before it are imported.
    """
    pages = _pages(source)
    lines = await asyncio.to_thread(next, pages, _NOTHING)
    if not lines:
        raise StartRefused("There is nothing to import: the file is empty.")
    number = read = 0
    whole = False
    async with _opened(settings, write=True, make=True) as database:
        while lines:
            number += await _imported(database, lines, read, say)
            read, whole = read + len(lines), isinstance(lines[-1], transfer.End)
            lines = await asyncio.to_thread(next, pages, _NOTHING)
        say(f"{read:,} lines were read: {number:,} tasks, workers and audit records are new in {database.place}.")
    if not whole:
        say("The last line of an export is missing: it was interrupted, or lines were taken out.")
    return whole


async def _imported(database: Database, lines: Sequence[transfer.Line], before: int, say: Say) -> int:
    try:
        return await database.write(lambda c: transfer.write_lines(c, lines))
    except StoreError:
        say(f"{before:,} lines were imported. Begin again later: what is there is not doubled.")
        raise


_NOTHING: list[transfer.Line] = []


def _pages(source: BinaryIO) -> Iterator[list[transfer.Line]]:
    """Some lines at a time; raises `StartRefused` at one that is none of ours, after those before it."""
    lines: list[transfer.Line] = []
    for number, raw in enumerate(source, 1):
        try:
            lines.append(_decoded(number, raw))
        except StartRefused:
            if lines:
                yield lines
            raise
        if len(lines) == transfer.PAGE:
            yield lines
            lines = []
    if lines:
        yield lines


def _decoded(number: int, raw: bytes) -> transfer.Line:
    try:
        line: transfer.Line = transfer.decode_line(raw)
    except (msgspec.MsgspecError, ValueError) as exc:
        before = "" if number == 1 else " The lines before it were imported."
        raise StartRefused(f"Line {number:,} was not written by 'meadow store export': {exc}.{before}") from exc
    if isinstance(line, transfer.Header) and line.version > transfer.VERSION:
        raise StartRefused("This file was written by a newer Meadow. Import it with that release.")
    if not isinstance(line, transfer.Header | transfer.End) and not subjects.CLUSTER_NAME.fullmatch(line.cluster):
        raise StartRefused(f"Line {number:,}: {line.cluster[:100]!r} is not the name of a cluster.")
    return line


@contextlib.asynccontextmanager
async def _opened(settings: Settings, *, write: bool = False, make: bool = False) -> AsyncIterator[Database]:
    """The store, which has to be there unless it may be made; with `write` nobody else writes it meanwhile.

    Raises `StartRefused`, also if somebody else writes it.
    """
    database = Database(place_of(settings))
    try:
        if write and not make:
            await _require(settings)
        await database.open(create=write)
        if write and not await database.lead():
            raise StartRefused(f"The task store {database.place} is in use by a Meadow that runs. Stop it first.")
        yield database
    except StoreDamaged as exc:
        raise StartRefused(
            f"The task store {database.place} is damaged: {exc}. Stop Meadow and move the file away, or let Meadow do "
            "so: it reads history again from the stream."
        ) from exc
    finally:
        await database.close()


async def _require(settings: Settings) -> None:
    """Raise unless the store is there and sound: opening it for writing would make another one."""
    database = Database(place_of(settings))
    try:
        await database.open(create=False)
    except revisions.OlderStore:
        return
    finally:
        await database.close()


async def _say_surplus(database: Database, limits: Limits, now: float, say: Say) -> None:
    """What each rule would find after those before it."""
    gone: Counter[Kind] = Counter()
    kinds = {True: "failed tasks", False: "tasks that did not fail", None: "tasks"}
    for rule in (
        partial(retention.by_age, limits=limits, now=now),
        partial(retention.by_number, limits=limits, gone=gone),
        partial(retention.by_size, limits=limits, gone=gone),
        partial(retention.oversize, limits=limits, gone=gone),
    ):
        for surplus in await database.read(rule, limit=LONG):
            number = await database.read(partial(retention.count_surplus, surplus=surplus), limit=LONG)
            about = "About " if surplus.reason == "size" else ""
            say(f"{about}{number:,} {kinds[surplus.kind.failed]} would go by {surplus.reason}.")
            gone[surplus.kind] += number
    if not gone.total():
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
