"""`meadow demo`: the shop's cluster and a Meadow that watches it, in a temporary directory that goes with them."""

import asyncio
import contextlib
import logging
import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

from aiohttp import ClientSession

from meadow import logs
from meadow.composer import Plan, plan_serve, run
from meadow.settings import Settings
from meadow_demo.cluster import DemoCluster

log = logging.getLogger(__name__)

WATCH_INTERVAL = 2.0
LONGEST_WAIT = 15.0
WORKERS = 2


def main(settings: Settings) -> None:
    """Show Meadow until a signal comes. Of the settings, those that say what to watch and where to keep it are moot."""
    logs.configure(settings)
    with _directory() as directory:
        cluster = DemoCluster(directory / "shop")
        os.environ.update(cluster.environment)  # the collector and the controller find the cluster by it
        cluster.start()
        try:
            plan = plan_serve(_adapt(settings, cluster, directory))
            asyncio.run(_show(replace(plan, started=_invite), cluster))
        finally:
            cluster.stop()


def _adapt(settings: Settings, cluster: DemoCluster, directory: Path) -> Settings:
    return replace(
        settings,
        app=cluster.app,
        broker=cluster.broker_url,
        result_backend=None,
        broker_api=None,
        nats_url=None,
        data_dir=str(directory / "meadow"),
        queue_interval=min(settings.queue_interval, 2.0),
        inspect_interval=min(settings.inspect_interval, 10.0),
    )


async def _invite(address: str) -> None:
    """Say which address to open, as the last line, as soon as there is something to see."""
    if address.startswith("http://"):
        try:
            async with asyncio.timeout(LONGEST_WAIT), ClientSession() as session:
                while not await _lives(session, f"{address}api/workers?status=1"):  # noqa: ASYNC110 -- over HTTP
                    await asyncio.sleep(0.2)
        except TimeoutError:
            log.warning("No worker of the demo is online yet.", extra={"action": "demo.slow"})
    log.info("The demo runs. Open %s and stop it with Ctrl-C.", address, extra={"action": "demo.started"})


async def _lives(session: ClientSession, address: str) -> bool:
    async with session.get(address) as response:
        return response.status != HTTPStatus.OK or len(await response.json(content_type=None)) >= WORKERS


async def _show(plan: Plan, cluster: DemoCluster) -> None:
    watching = asyncio.create_task(_watch(cluster), name="watch the demo's cluster")
    try:
        await run(plan)
    finally:
        watching.cancel()


async def _watch(cluster: DemoCluster) -> None:
    """Say so when a process of the cluster ends, which people can cause from the pages."""
    ended: set[str] = set()
    while True:
        last_words = await asyncio.to_thread(cluster.last_words)
        for name in last_words.keys() - ended:
            ended.add(name)
            log.warning(
                "The process %r of the demo's cluster has ended. Its last words: %s",
                name,
                last_words[name].strip()[-500:] or "none",
                extra={"action": "demo.ended"},
            )
        await asyncio.sleep(WATCH_INTERVAL)


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    """A temporary directory that is removed also after SIGTERM, and also when somebody presses Ctrl-C twice."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="meadow-demo-", ignore_cleanup_errors=True) as name:
        try:
            yield Path(name)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
