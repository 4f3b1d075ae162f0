"""What a real worker on a real Redis sends arrives as facts in the stream; what is hostile does not stop the rest."""

import asyncio
import base64
import json
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from meadow import subjects
from meadow.broker import BrokerConfig
from meadow.bus import Bus
from meadow.codec import encode_batch
from meadow.events import (
    CollectorReported,
    CustomEvent,
    QueuesObserved,
    TaskFailed,
    TaskReceived,
    TaskRetried,
    TaskStarted,
    TaskSucceeded,
    WorkerHeartbeat,
    WorkerInspected,
    WorkerOnline,
)
from meadow.service import Context
from meadow.testing import eventually
from tests.integration.apps.collector_stage import (
    client_app,
    facts,
    facts_of,
    running_collector,
    running_worker,
    send_events,
)

MakeContext = Callable[..., Context]


def client(url: str) -> "redis.Redis":
    return redis.Redis.from_url(url)


async def test_the_life_of_a_task_arrives_in_order_and_without_its_secrets(
    make_context: MakeContext, bus: Bus, redis_server: str, tmp_path: Path
) -> None:
    async with running_collector(make_context(), BrokerConfig(url=redis_server)):
        with running_worker(tmp_path, redis_server):
            await eventually(lambda: facts_of(bus, WorkerOnline), timeout=30.0)
            app = client_app(redis_server)
            sent = await asyncio.to_thread(
                app.send_task,
                "collector.connect",
                ("redis://ada:hunter2@cache/0",),
                {"password": "hunter3"},
                serializer="json",
            )
            await eventually(lambda: facts_of(bus, TaskSucceeded), timeout=30.0)
            await eventually(lambda: facts_of(bus, WorkerHeartbeat), timeout=10.0)
        tasks = [fact for fact in await facts(bus, "tasks") if getattr(fact, "uuid", "") == sent.id]
        app.close()
    received, started, succeeded = tasks
    assert isinstance(received, TaskReceived)
    assert isinstance(started, TaskStarted)
    assert isinstance(succeeded, TaskSucceeded)
    assert received.name == "collector.connect"
    assert received.args == "('redis://***@cache/0',)"
    assert received.kwargs == "{'password': '***'}"
    assert succeeded.result == "'connected to redis://***@cache/0'"
    assert succeeded.runtime is not None
    assert received.hostname == "w1@stage"
    assert abs(received.seen - received.timestamp) < 10


async def test_a_failing_task_arrives_with_its_retry_and_traceback(
    make_context: MakeContext, bus: Bus, redis_server: str, tmp_path: Path
) -> None:
    async with running_collector(make_context(), BrokerConfig(url=redis_server)):
        with running_worker(tmp_path, redis_server):
            await eventually(lambda: facts_of(bus, WorkerOnline), timeout=30.0)
            app = client_app(redis_server)
            await asyncio.to_thread(app.send_task, "collector.fail", ("token=abc",))
            (failed,) = await eventually(lambda: facts_of(bus, TaskFailed), timeout=30.0)
            (retried,) = await facts_of(bus, TaskRetried)
            app.close()
    assert failed.uuid == retried.uuid
    assert failed.exception == "ValueError('token=***')"
    assert "Traceback" in (failed.traceback or "")
    assert "abc" not in (failed.traceback or "")


async def test_stopping_leaves_no_queue_and_no_binding_behind(
    make_context: MakeContext, bus: Bus, redis_server: str
) -> None:
    server = client(redis_server)
    async with running_collector(make_context(), BrokerConfig(url=redis_server)):
        assert server.pubsub_numpat() == 1
        assert server.keys("*") == []
    assert server.keys("*") == []
    assert server.pubsub_numpat() == 0
    last = (await facts_of(bus, CollectorReported))[-1]
    assert (last.connected, last.error) == (False, "The collector has stopped.")
    server.close()


def envelope(body: bytes, content_type: str | None = "application/json", **changes: Any) -> bytes:
    """A message as kombu publishes it on Redis."""
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": content_type,
            "headers": {},
            "properties": {"delivery_tag": "t", "delivery_info": {}, "body_encoding": "base64", "priority": 0},
        }
        | changes
    ).encode()


def event(uuid: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "task-started",
        "uuid": uuid,
        "hostname": "w1@stage",
        "timestamp": time.time(),
        "utcoffset": 0,
        "pid": 1,
        "clock": 1,
        **fields,
    }


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (self.path.write_text, ("exploded",))


async def test_hostile_messages_are_counted_by_reason_and_the_rest_goes_on(
    make_context: MakeContext, bus: Bus, redis_server: str, tmp_path: Path
) -> None:
    bomb = tmp_path / "bomb"
    hostile = [
        b"not json",
        b"\xff\xfe",
        b"5",
        b"{}",
        envelope(b"{", headers=[1]),
        envelope(body(event("a")), properties={}),
        envelope(b"not json"),
        envelope(b'{"a":' * 100_000),
        envelope(b"x", headers={"compression": "application/x-gzip"}),
        envelope(pickle.dumps(Bomb(bomb)), "application/x-python-serialize"),
        envelope(body(event("a")), "text/plain"),
        envelope(body(event("a")), None),
        envelope(body([event("in a list"), 5, None, "x", [], {}, event(""), event("bad", hostname=3)])),
        envelope(body(event("nan", timestamp=float("nan")))),
        envelope(body([event("nan beside", runtime=float("nan"), type="task-succeeded")])),
        envelope(body(event("old", timestamp=3.5))),
        envelope(body(event("surrogate", type="task-x", note="\ud800"))),
        envelope(body(event("big", type="task-received", name="p", kwargs="k" * 10_000_000))),
    ]
    server = client(redis_server)
    async with running_collector(make_context(), BrokerConfig(url=redis_server)) as service:
        for message in hostile:
            await asyncio.to_thread(server.publish, "/0.celeryev/task.multi", message)
        await asyncio.to_thread(server.publish, "/0.celeryev/task.started", envelope(body(event("last"))))

        async def last_arrived() -> bool:
            return any(getattr(fact, "uuid", None) == "last" for fact in await facts(bus, "tasks"))

        await eventually(last_arrived, timeout=20.0)
        health = service.health()
    assert not bomb.exists()
    assert health["discarded"] == {
        "undecodable": 9,
        "pickle": 1,
        "content-type": 2,
        "not-an-object": 4,
        "no-type": 1,
        "no-uuid": 1,
        "bad-type": 1,
        "bad-timestamp": 1,
        "implausible-time": 1,
    }
    arrived = {fact.uuid: fact for fact in await facts(bus, "tasks")}  # type: ignore[union-attr]
    assert set(arrived) == {"in a list", "nan beside", "surrogate", "big", "last"}
    big, custom = arrived["big"], arrived["surrogate"]
    assert isinstance(big, TaskReceived)
    assert "[cut by Meadow: 99" in (big.kwargs or "")
    assert len(big.kwargs or "") <= 64 * 1024
    assert isinstance(custom, CustomEvent)
    assert custom.fields == {"note": "\ufffd"}
    (last, *_) = [fact for fact in reversed(await facts_of(bus, CollectorReported)) if fact.discarded]
    assert last.discarded == health["discarded"]
    server.close()


async def test_pickled_events_are_read_where_the_settings_say_so(
    make_context: MakeContext, bus: Bus, redis_server: str
) -> None:
    server = client(redis_server)
    broker = BrokerConfig(url=redis_server, accept_pickle=True)
    async with running_collector(make_context(accept_pickle=True), broker):
        message = envelope(
            pickle.dumps(event("pickled")), "application/x-python-serialize", **{"content-encoding": "binary"}
        )
        server.publish("/0.celeryev/task.started", message)
        (fact,) = await eventually(lambda: facts_of(bus, TaskStarted))
    assert fact.uuid == "pickled"
    server.close()


async def test_queue_depths_count_all_priorities_and_learn_the_queues_of_workers(
    make_context: MakeContext, bus: Bus, redis_server: str
) -> None:
    app = client_app(redis_server, broker_transport_options={"global_keyprefix": "mine-", "priority_steps": [0, 5]})
    for priority in (0, 4, 5, 9):
        await asyncio.to_thread(app.send_task, "p.add", (1,), queue="celery", priority=priority)
    await asyncio.to_thread(app.send_task, "p.add", (1,), queue="vip")
    server = client(redis_server)
    server.set("mine-odd", "this is no list")
    broker = BrokerConfig(
        url=redis_server,
        transport_options={"global_keyprefix": "mine-", "priority_steps": [0, 5]},
        queues=("celery", "odd"),
    )
    async with running_collector(make_context(queue_interval=0.05), broker):
        first = (await eventually(lambda: facts_of(bus, QueuesObserved)))[0]
        inspected = WorkerInspected(
            hostname="w1@stage", seen=1.0, replies={"active_queues": [{"name": "vip"}, {"name": 3}, 4], "stats": {}}
        )
        await bus.append(subjects.events("default", "workers"), encode_batch("default", "someone", [inspected]))

        async def depth_of_vip() -> Any:
            latest = (await facts_of(bus, QueuesObserved))[-1]
            return [queue for queue in latest.queues if queue.name == "vip"]

        (vip,) = await eventually(depth_of_vip)
    assert [(queue.name, queue.messages, queue.ready) for queue in first.queues] == [
        ("celery", 4, 4),
        ("odd", None, None),
    ]
    assert vip.messages == 1
    app.close()
    server.close()


async def test_events_from_two_apps_on_other_exchanges_are_kept_apart(
    make_context: MakeContext, bus: Bus, redis_server: str
) -> None:
    async with running_collector(make_context(), BrokerConfig(url=redis_server, event_exchange="mine")):
        other, mine = client_app(redis_server), client_app(redis_server, event_exchange="mine")
        await asyncio.to_thread(send_events, other, [{"type": "task-started", "uuid": "theirs"}])
        await asyncio.to_thread(send_events, mine, [{"type": "task-started", "uuid": "mine"}])
        (fact,) = await eventually(lambda: facts_of(bus, TaskStarted))
        other.close()
        mine.close()
    assert fact.uuid == "mine"
