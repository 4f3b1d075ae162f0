"""The keeper in a process of its own: both ends, the parent's and the child's.

The child says on its standard output how it goes, a `KeeperReport` a line: after commits, and every second.
"""

import asyncio
import contextlib
import logging
import os
import time

import msgspec

from meadow.broker import BrokerConfig
from meadow.codec import encode
from meadow.errors import StartRefused
from meadow.service import ChildContext, Context
from meadow.supervise import ChildProcess, Refusal
from meadow_api.errors import StoreInUse
from meadow_api.keeper import Keeper, KeeperReport
from meadow_api.store.database import Database, place_of
from meadow_api.store.revisions import NoStoreYet

log = logging.getLogger(__name__)

BETWEEN_REPORTS = 0.05
LONGEST_SILENCE = 1.0
TOO_SILENT = 10.0
MOST_TRIES = 100
PREDECESSOR_PATIENCE = 2.0
"""A child that was killed with its parent may hold the store a moment longer."""

_decoder: msgspec.json.Decoder[KeeperReport | Refusal] = msgspec.json.Decoder(KeeperReport | Refusal)


class KeeperProcess:
    """The parent's end. The database here is only read."""

    def __init__(self, context: Context, database: Database) -> None:
        self._context = context
        self._database = database
        self._child = ChildProcess(
            "keeper",
            context.settings,
            context.bus.url,
            children=context.children,
            hear=self._hear,
            ended=self._ended,
        )
        self._report = KeeperReport()
        self._heard = 0.0
        self._refused = False
        self._open: asyncio.Future[None] | None = None

    @property
    def report(self) -> KeeperReport:
        """What it said last, unless that is too long ago."""
        silent = time.monotonic() - self._heard
        if silent > TOO_SILENT and (self._report.ok or self._report.writes):
            return _failing(
                self._report, f"The process that writes the task store has said nothing for {silent:.0f} s."
            )
        return self._report

    async def listen(self) -> None:
        """Start the process and wait until it has opened the store."""
        self._open = asyncio.get_running_loop().create_future()
        child = self._context.watch.start("keeper child", self._child.supervise())
        self._context.watch.child_lags["keeper"] = lambda: self._report.loop_lag
        await asyncio.wait({self._open, child}, return_when=asyncio.FIRST_COMPLETED)
        if not self._open.done():
            self._open.cancel()
            reason = (None if child.cancelled() else child.exception()) or "it was stopped"
            raise StartRefused(f"The process that writes the task store could not be started: {reason}.")
        self._open.result()
        await self._read()

    async def _read(self) -> None:
        """Open the store, which the keeper may put aside just now."""
        for _ in range(MOST_TRIES):
            with contextlib.suppress(NoStoreYet):
                return await self._database.open(create=False, follow=True)
            await asyncio.sleep(BETWEEN_REPORTS)
        return await self._database.open(create=False, follow=True)

    async def speak(self) -> None:
        """It speaks since it has opened the store: whoever listens later asks how things are when it begins."""

    async def stop(self) -> None:
        """Let it finish what is under way."""
        await self._child.stop()

    def _hear(self, line: bytes) -> None:
        try:
            said = _decoder.decode(line)
        except msgspec.DecodeError as exc:
            log.error("The keeper process said what nobody understands: %s", exc, extra={"action": "keeper.unclear"})
            return
        self._heard = time.monotonic()
        self._refused = isinstance(said, Refusal)
        if isinstance(said, KeeperReport):
            self._report = said
            self._opened(None)
        else:
            self._report = _failing(self._report, said.message)
            if self._open is not None and self._open.done():
                log.error("%s", said.message, extra={"action": "keeper.refused"})
            self._opened(StartRefused(said.message))

    def _ended(self, code: int) -> None:
        if not self._refused:
            words = f"The process that writes the task store ended with {code}; it is started again."
            self._report = _failing(self._report, words)
        self._opened(StartRefused("The process that writes the task store ended before it had opened it. See the log."))

    def _opened(self, failure: StartRefused | None) -> None:
        if self._open is None or self._open.done():
            return
        if failure is None:
            self._open.set_result(None)
        else:
            self._open.set_exception(failure)


def _failing(report: KeeperReport, error: str) -> KeeperReport:
    """The last report, when it is true no longer."""
    streams = tuple(msgspec.structs.replace(progress, error=error) for progress in report.streams)
    return KeeperReport(error=error, streams=streams)


class KeeperChild:
    """The child's end: a keeper, its database, and somebody who reports."""

    def __init__(self, context: ChildContext) -> None:
        self._context = context
        # Who wants the store has to stop Meadow: this process would only be started again.
        self._database = Database(place_of(context.settings), owner=f"process {os.getppid()}")
        self._keeper = Keeper(context, self._database)

    async def listen(self) -> None:
        """Open the store, when whoever had it before lets go of it."""
        end = time.monotonic() + PREDECESSOR_PATIENCE
        while True:
            try:
                return await self._keeper.listen()
            except StoreInUse:
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(0.1)

    async def speak(self) -> None:
        """Write, and report."""
        await self._keeper.speak()
        self._context.watch.start("keeper: report", self._tell())

    async def stop(self) -> None:
        """Finish what is under way, and close the store."""
        await self._keeper.stop()
        await self._database.close()

    async def _tell(self) -> None:
        committed = self._keeper.committed
        out = await _writer(self._context.out)
        while True:
            committed.clear()
            out.write(encode(self._keeper.report) + b"\n")
            await out.drain()  # a parent that is busy hears of the newest state only
            await asyncio.sleep(BETWEEN_REPORTS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LONGEST_SILENCE):
                    await committed.wait()


async def _writer(out: int | None) -> asyncio.StreamWriter:
    if out is None:
        raise AssertionError("nobody hears the keeper")
    loop = asyncio.get_running_loop()
    pipe = os.fdopen(out, "wb", buffering=0, closefd=False)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, pipe)
    return asyncio.StreamWriter(transport, protocol, None, loop)


def build(context: ChildContext, broker: BrokerConfig | None) -> KeeperChild:
    """The child, not yet running."""
    return KeeperChild(context)
