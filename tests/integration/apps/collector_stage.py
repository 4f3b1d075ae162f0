"""Real workers and a real collector, for the collector's tests."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from celery import Celery

from meadow.broker import BrokerAdapter, BrokerConfig
from meadow.bus import Bus
from meadow.codec import decode_batch
from meadow.errors import BusError
from meadow.events import AnyFact
from meadow.service import Context
from meadow.subjects import EVENTS_STREAM
from meadow.testing import eventually
from meadow_collector.service import CollectorService, build

ROOT = Path(__file__).parents[3]

F = TypeVar("F")


@asynccontextmanager
async def running_collector(
    context: Context, broker: BrokerConfig, adapter: BrokerAdapter | None = None
) -> AsyncIterator[CollectorService]:
    """A collector that is connected to the broker, by the adapter that fits best or by another."""
    service = CollectorService(context, broker, adapter) if adapter is not None else build(context, broker)
    await service.listen()
    await service.speak()
    try:
        await eventually(lambda: service.health()["ok"], timeout=20.0)
        yield service
    finally:
        await service.stop()


class Ledger:
    """Everything that the stream holds, read once and kept, so that a test can look again and again."""

    def __init__(self, bus: Bus) -> None:
        self.position = 0
        self.entries: list[tuple[str, AnyFact]] = []
        self._task = asyncio.create_task(self._read(bus), name="ledger")

    async def _read(self, bus: Bus) -> None:
        async for messages in bus.read(EVENTS_STREAM, after=0, subject="meadow.events.>"):
            for message in messages:
                kind = message.subject.rpartition(".")[2]
                self.entries += [(kind, fact) for fact in decode_batch(message.data).events]
                self.position = message.sequence


_ledgers: "WeakKeyDictionary[Bus, Ledger]" = WeakKeyDictionary()


async def facts(bus: Bus, kind: str | None = None) -> list[AnyFact]:
    """All facts of that kind that the stream holds now, in its order. `eventually` may ask while there is no stream."""
    ledger = _ledgers.get(bus) or _ledgers.setdefault(bus, Ledger(bus))
    try:
        last = (await bus.stream_state(EVENTS_STREAM)).last
    except BusError as exc:
        raise AssertionError(str(exc)) from exc
    await eventually(lambda: ledger.position >= last)
    return [fact for its_kind, fact in ledger.entries if kind in (None, its_kind)]


async def facts_of(bus: Bus, type_: type[F], kind: str | None = None) -> list[F]:
    """All facts of one type."""
    return [fact for fact in await facts(bus, kind) if isinstance(fact, type_)]


@contextmanager
def running_worker(directory: Path, broker: str, *options: str, **environment: str) -> Iterator[None]:
    """A prefork worker that sends events; ended in good order."""
    argv = [sys.executable, "-m", "celery", "-A", "tests.integration.apps.collector_app", "worker"]
    argv += ["-n", "w1@stage", "-E", "-c", "1", "-l", "INFO", "--without-mingle", "--without-gossip", *options]
    env = {**os.environ, "COLLECTOR_BROKER": broker, **environment}
    with (directory / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            argv, cwd=ROOT, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=15.0)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its own session: only what was started here
            process.wait()


def client_app(broker: str, **configuration: Any) -> Celery:
    """An app that sends tasks and events to the broker."""
    app = Celery("client", broker=broker, set_as_current=False)
    app.conf.update(configuration)
    return app


def send_events(app: Celery, events: Sequence[dict[str, Any]], hostname: str = "w1@stage") -> None:
    """Publish events one by one with Celery's own dispatcher. `type` is a key of each."""
    with app.connection_for_write() as connection, app.events.Dispatcher(connection, hostname=hostname) as dispatcher:
        for event in events:
            fields = dict(event)
            dispatcher.send(fields.pop("type"), **fields)
