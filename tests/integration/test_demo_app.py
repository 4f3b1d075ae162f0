"""The demo's cluster is a real one: real workers on kombu's file-system transport, and none is left behind."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from celery import Celery
from kombu import Consumer

from meadow.testing import eventually
from meadow_demo.app import configuration
from meadow_demo.cluster import DemoCluster
from meadow_demo.folders import Folders
from meadow_demo.post import VOLATILE_TTL, PostOffice
from meadow_demo.traffic import Customers, waiting

WORKERS = ["orders@shop", "reports@shop"]
PATIENCE = 40.0

Event = dict[str, Any]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DemoCluster]:
    made = DemoCluster(tmp_path / "shop")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def app(cluster: DemoCluster, monkeypatch: pytest.MonkeyPatch) -> Celery:
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    client = Celery("watcher", set_as_current=False)
    client.conf.update(configuration())
    return client


def read_events(
    app: Celery, enough: Callable[[list[Event]], bool], cause: Callable[[], object] = lambda: None
) -> list[Event]:
    """Events as a monitor reads them, until there are enough. `cause` is called when the reader listens."""
    events: list[Event] = []
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": events.append})
        consumer = Consumer(
            connection.default_channel, [receiver.queue], callbacks=[receiver._receive], no_ack=True, accept=["json"]
        )
        end = time.monotonic() + PATIENCE
        with consumer:
            cause()
            while not enough(events):
                assert time.monotonic() < end, f"only these came: {sorted({event['type'] for event in events})}"
                try:
                    connection.drain_events(timeout=0.5)
                except TimeoutError:
                    continue
    return events


def family(pids: list[int]) -> list[psutil.Process]:
    """These processes with all their children."""
    processes = [psutil.Process(pid) for pid in pids]
    return processes + [child for process in processes for child in process.children(recursive=True)]


def gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


async def test_the_cluster_is_seen_and_controlled_like_any_other(cluster: DemoCluster, app: Celery) -> None:
    wanted = {"task-sent", "task-received", "task-started", "task-succeeded", "worker-heartbeat"}
    events = read_events(
        app,
        lambda got: wanted <= {e["type"] for e in got} and set(WORKERS) <= {e["hostname"] for e in got},
    )
    assert {e["name"].split(".")[0] for e in events if e["type"] == "task-sent"} == {"shop"}

    pongs = {worker: {"ok": "pong"} for worker in WORKERS}
    # No destination: kombu would stop at two replies, and count late ones to a former question among them.
    await eventually(lambda: app.control.inspect(timeout=1.0).ping() == pongs, timeout=PATIENCE)

    running = await eventually(lambda: exports(app), timeout=PATIENCE)
    task_id = running[0]["id"]
    read_events(
        app,
        lambda got: any(e["type"] == "task-revoked" and e["uuid"] == task_id for e in got),
        cause=lambda: app.control.revoke(task_id, terminate=True),
    )
    assert cluster.alive
    assert cluster.last_words() == {}


def exports(app: Celery) -> list[dict[str, Any]]:
    active = app.control.inspect(timeout=1.0).active() or {}
    return [task for task in active.get("reports@shop", []) if task["name"] == "shop.reports.export_catalogue"]


async def test_stopping_leaves_no_process(cluster: DemoCluster, app: Celery) -> None:
    read_events(app, lambda got: set(WORKERS) <= {event["hostname"] for event in got})
    processes = family(list(cluster.pids.values()))
    assert len(processes) > len(cluster.pids) == 4
    cluster.stop()
    await eventually(lambda: gone(processes), timeout=2.0)
    assert not cluster.alive
    cluster.stop()  # the second time does no harm


async def test_a_parent_that_is_killed_takes_the_cluster_with_it(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from meadow_demo.cluster import DemoCluster\n"
        "cluster = DemoCluster(pathlib.Path(sys.argv[1])); cluster.start()\n"
        "print(*cluster.pids.values(), flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", script, str(tmp_path / "shop")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        processes = await eventually(lambda: with_pool(pids), timeout=PATIENCE)
        os.kill(parent.pid, signal.SIGKILL)
        await eventually(lambda: gone(processes), timeout=5.0)


def with_pool(pids: list[int]) -> list[psutil.Process]:
    """The cluster's processes once both workers have started their pools."""
    processes = family(pids)
    return processes if len(processes) >= len(pids) + 3 else []


def test_the_post_office_delivers_only_what_is_complete(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    folders.create()
    office = PostOffice(folders)
    message = folders.outgoing / "1_a.mail.msg"
    message.touch()
    assert office.deliver() == 0
    message.write_bytes(b"{}")
    assert office.deliver() == 1
    assert (folders.incoming / message.name).read_bytes() == b"{}"


def test_the_post_office_clears_events_that_nobody_reads_and_keeps_tasks(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    folders.create()
    now = 0.0
    office = PostOffice(folders, clock=lambda: now)
    event, control = folders.incoming / "1_a.celeryev.x.msg", folders.incoming / "1_b.orders@shop.celery.pidbox.msg"
    task, read = folders.incoming / "1_c.orders.msg", folders.processed / "1_d.orders.msg"
    for file in (event, control, task, read):
        file.write_bytes(b"{}")
    assert office.sweep() == 0
    now = VOLATILE_TTL
    assert office.sweep() == 3
    assert [file.exists() for file in (event, control, task, read)] == [False, False, True, False]


def test_the_shop_trades_on_redis_too(redis_server: str) -> None:
    with Celery("shop-on-redis", broker=redis_server, set_as_current=False) as shop:
        shop.conf.task_routes = configuration()["task_routes"]
        shop.conf.task_default_queue = "orders"
        assert waiting(shop) == 0
        customers = Customers(shop, random.Random(1))
        for _ in range(30):
            happening, options = customers.next()
            happening.apply_async(**options)
        assert waiting(shop) >= 30
