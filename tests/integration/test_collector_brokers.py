"""The collector with the kombu adapter: on RabbitMQ and on kombu's file-system transport."""

import asyncio
import json
import pickle
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from meadow.broker import BrokerConfig
from meadow.bus import Bus
from meadow.errors import BrokerUnavailable
from meadow.events import CollectorGap, QueuesObserved, TaskReceived, TaskStarted, TaskSucceeded, WorkerOnline
from meadow.service import Context
from meadow.testing import eventually
from meadow_kombu import KombuAdapter
from meadow_kombu.queue_readers import open_queue_reader
from tests.integration.apps.amqp_stage import ask
from tests.integration.apps.collector_stage import client_app, facts_of, running_collector, running_worker, send_events
from tests.servers import RabbitMQ

MakeContext = Callable[..., Context]


async def test_a_workers_events_arrive_from_rabbitmq_and_hostile_ones_do_not_stop_them(
    make_context: MakeContext, bus: Bus, rabbitmq_server: RabbitMQ, tmp_path: Path
) -> None:
    url = rabbitmq_server.url
    app = client_app(url)
    broker = BrokerConfig(url=url, heartbeat=4.0)
    async with running_collector(make_context(), broker, KombuAdapter()) as service:
        with running_worker(tmp_path, url):
            await eventually(lambda: facts_of(bus, WorkerOnline), timeout=60.0)
            await asyncio.to_thread(publish_hostile, app)
            sent = await asyncio.to_thread(app.send_task, "collector.add", (2, 3))
            (succeeded,) = await eventually(lambda: facts_of(bus, TaskSucceeded), timeout=30.0)
        health = service.health()
    mine = [fact for fact in await facts_of(bus, object, "tasks") if getattr(fact, "uuid", "") == sent.id]
    assert [type(fact) for fact in mine] == [TaskReceived, TaskStarted, TaskSucceeded]
    assert (succeeded.uuid, succeeded.result) == (sent.id, "5")
    assert health["discarded"] == {"undecodable": 1, "pickle": 1, "content-type": 1, "not-an-object": 1}
    app.close()


def publish_hostile(app: Any) -> None:
    with app.connection_for_write() as connection, connection.channel() as channel:
        for body, content_type in (
            (b"not json", "application/json"),
            (pickle.dumps(1), "application/x-python-serialize"),
            (b"x", "text/plain"),
            (b"[5]", "application/json"),
        ):
            message = channel.prepare_message(body, content_type=content_type, content_encoding="binary")
            channel.basic_publish(message, exchange="celeryev", routing_key="task.started")


async def test_a_connection_that_rabbitmq_closes_is_opened_again(
    make_context: MakeContext, bus: Bus, rabbitmq_server: RabbitMQ
) -> None:
    app = client_app(rabbitmq_server.url)
    broker = BrokerConfig(url=rabbitmq_server.url)
    async with running_collector(make_context(queue_interval=60.0), broker, KombuAdapter()) as service:
        assert [name for name in await queue_names(rabbitmq_server) if name.startswith("celeryev.")]

        async def cut_until_a_gap_is_told() -> list[CollectorGap]:  # the list of connections lags behind
            gaps = await facts_of(bus, CollectorGap)
            if not gaps:
                await asyncio.to_thread(close_connections, rabbitmq_server)
            return gaps

        gap = (await eventually(cut_until_a_gap_is_told, timeout=60.0, every=1.0))[0]
        await eventually(lambda: service.health()["ok"], timeout=20.0)
        await asyncio.to_thread(send_events, app, [{"type": "task-started", "uuid": "after"}])
        (fact,) = await eventually(lambda: facts_of(bus, TaskStarted))
    assert fact.uuid == "after"
    assert gap.reason == "broker-unavailable"
    assert not [name for name in await queue_names(rabbitmq_server) if name.startswith("celeryev.")]
    app.close()


def close_connections(server: RabbitMQ) -> None:
    for connection in ask(server, "connections"):
        try:
            ask(server, f"connections/{quote(connection['name'])}", "DELETE")
        except urllib.error.HTTPError as exc:
            exc.close()
            if exc.code != 404:
                raise


async def queue_names(server: RabbitMQ) -> list[str]:
    return [queue["name"] for queue in await asyncio.to_thread(ask, server, "queues")]


@pytest.fixture
def filled_queue(rabbitmq_server: RabbitMQ) -> Iterator[str]:
    """A queue of its own (the management API confuses a queue with its predecessor) with three messages."""
    name = f"jobs-{uuid4()}"
    app = client_app(rabbitmq_server.url)
    for number in range(3):
        app.send_task("p.add", (number,), queue=name)
    yield name
    with app.connection_for_write() as connection, connection.channel() as channel:
        channel.queue_delete(name)
    app.close()


async def test_without_the_management_api_queues_are_declared_passively(
    make_context: MakeContext, bus: Bus, rabbitmq_server: RabbitMQ, filled_queue: str
) -> None:
    broker = BrokerConfig(url=rabbitmq_server.url, queues=("missing", filled_queue, "missing too"))
    async with running_collector(make_context(queue_interval=0.1), broker, KombuAdapter()):

        async def twice() -> list[QueuesObserved]:
            found = await facts_of(bus, QueuesObserved)
            return found if len(found) > 1 else []

        observed = (await eventually(twice))[-1]
    assert [(queue.name, queue.messages, queue.consumers) for queue in observed.queues] == [
        ("missing", None, None),
        (filled_queue, 3, 0),
        ("missing too", None, None),
    ]
    assert "missing" not in await queue_names(rabbitmq_server)


@pytest.mark.parametrize("slash", ["/", ""])
async def test_the_management_api_tells_all_about_a_queue(
    rabbitmq_server: RabbitMQ, filled_queue: str, slash: str
) -> None:
    reader = open_queue_reader(
        BrokerConfig(url=rabbitmq_server.url, broker_api=rabbitmq_server.api.rstrip("/") + slash)
    )

    async def counted() -> Any:
        depths = await asyncio.to_thread(reader.read, [filled_queue, "missing"])
        return depths if depths[0].messages == 3 else None

    jobs, missing = await eventually(counted, timeout=30.0, every=1.0)
    assert (jobs.ready, jobs.unacked, jobs.consumers) == (3, 0, 0)
    assert jobs.raw["vhost"] == "/"
    assert missing.messages is None
    reader.close()


async def test_the_brokers_credentials_sign_in_to_an_api_url_that_has_none(
    rabbitmq_server: RabbitMQ, filled_queue: str
) -> None:
    bare = rabbitmq_server.api.replace("guest:guest@", "")
    reader = open_queue_reader(BrokerConfig(url=rabbitmq_server.url, broker_api=bare))
    assert await asyncio.to_thread(reader.read, [filled_queue])
    wrong = open_queue_reader(BrokerConfig(url=rabbitmq_server.url, broker_api=bare.replace("//", "//eve:hunter2@")))
    with pytest.raises(BrokerUnavailable, match="refused the user or the password") as caught:
        await asyncio.to_thread(wrong.read, [filled_queue])
    assert "hunter2" not in str(caught.value)
    elsewhere = open_queue_reader(BrokerConfig(url=rabbitmq_server.url.rstrip("/") + "/nowhere", broker_api=bare))
    with pytest.raises(BrokerUnavailable, match="virtual host"):
        await asyncio.to_thread(elsewhere.read, [filled_queue])


async def test_events_and_queue_depths_are_read_from_folders_and_nothing_stays_behind(
    make_context: MakeContext, bus: Bus, tmp_path: Path
) -> None:
    folders = {name: tmp_path / name for name in ("outgoing", "incoming", "processed", "control")}
    for folder in folders.values():
        folder.mkdir()
    options = {
        "data_folder_in": str(folders["incoming"]),
        "data_folder_out": str(folders["outgoing"]),
        "processed_folder": str(folders["processed"]),
        "store_processed": True,
        "control_folder": str(folders["control"]),
    }

    def carry() -> None:  # kombu's writers fill a file after they made it, and its readers do not wait
        for path in folders["outgoing"].iterdir():
            path.rename(folders["incoming"] / path.name)

    app = client_app("filesystem://", broker_transport_options=options)
    broker = BrokerConfig(url="filesystem://", transport_options=options, queues=("jobs",))
    async with running_collector(make_context(queue_interval=0.1), broker):
        for number in range(2):
            await asyncio.to_thread(app.send_task, "p.add", (number,), queue="jobs")
        await asyncio.to_thread(send_events, app, [{"type": "task-started", "uuid": str(n)} for n in range(20)])
        carry()

        async def all_arrived() -> Any:
            found = await facts_of(bus, TaskStarted)
            return found if len(found) == 20 else None

        found = await eventually(all_arrived, timeout=20.0)

        async def depth() -> Any:
            observed = (await facts_of(bus, QueuesObserved))[-1]
            return [queue.messages for queue in observed.queues] == [2]

        await eventually(depth)
    # kombu orders files by the millisecond only
    assert sorted(int(fact.uuid) for fact in found) == list(range(20))
    assert json.loads((folders["control"] / "celeryev.exchange").read_text()) == []
    assert {path.name.partition(".")[2] for path in folders["incoming"].iterdir()} == {"jobs.msg"}
    app.close()


async def test_memory_has_no_queue_depths(make_context: MakeContext, bus: Bus) -> None:
    async with running_collector(make_context(queue_interval=60.0), BrokerConfig(url="memory://")):
        (observed, *_) = await eventually(lambda: facts_of(bus, QueuesObserved))
    assert (observed.supported, observed.queues, observed.error) == (False, (), None)
