"""Inspections: one broadcast for all who ask, published as facts, and nothing in them that may hurt."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from kombu import Connection

from meadow import codec, subjects
from meadow.commands import DETAIL_METHODS, INSPECT_METHODS, InspectWorkers
from meadow.events import WorkerHeartbeat, WorkerInspected, WorkerOnline
from meadow.service import Context
from meadow.testing import eventually
from tests.integration.apps.control_stage import PLAIN, SCALING, Desk, Stage, running_stage, working_controller

W = PLAIN[0]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with running_stage(tmp_path_factory.mktemp("stage"), workers=False) as made:
        made.start_worker(*PLAIN)
        made.start_worker(*SCALING)
        made.wait_for_workers(W, SCALING[0])
        yield made


@pytest.fixture
async def desk(stage: Stage, make_context: Callable[..., Context]) -> AsyncIterator[Desk]:
    async with working_controller(make_context, stage.app()) as made:
        yield made


class Eavesdropper:
    """Hears every broadcast that goes over the broker."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)
        self._heard = self._client.pubsub()
        self._heard.psubscribe("*celery.pidbox")
        self._heard.get_message(timeout=5)

    def methods(self) -> list[str]:
        """The methods of the broadcasts since the last call."""
        found = []
        while (message := self._heard.get_message(timeout=0.2)) is not None:
            if message["type"] == "pmessage":
                envelope = json.loads(message["data"])
                found.append(str(_body(envelope)["method"]))
        return found

    def close(self) -> None:
        self._heard.close()
        self._client.close()


def _body(envelope: dict[str, Any]) -> dict[str, Any]:
    import base64

    decoded: dict[str, Any] = json.loads(base64.b64decode(envelope["body"]))
    return decoded


@pytest.fixture
def broadcasts(stage: Stage) -> Iterator[Eavesdropper]:
    ear = Eavesdropper(stage.url)
    yield ear
    ear.close()


async def inspected(desk: Desk) -> list[WorkerInspected]:
    cluster = desk.context.settings.cluster
    data = await desk.stream(subjects.EVENTS_STREAM, f"events.{cluster}.workers")
    facts = [fact for batch in data for fact in codec.decode_batch(batch).events]
    return [fact for fact in facts if isinstance(fact, WorkerInspected)]


async def test_ten_viewers_cause_one_broadcast_for_each_method(desk: Desk, broadcasts: Eavesdropper) -> None:
    replies = await asyncio.gather(*(desk.wish(InspectWorkers(methods=INSPECT_METHODS)) for _ in range(10)))

    assert sorted(await asyncio.to_thread(broadcasts.methods)) == sorted(INSPECT_METHODS)
    assert all(set(reply.value) == {W, SCALING[0]} for reply in replies)
    assert all(set(reply.value[W]) == {*INSPECT_METHODS, "timestamp"} for reply in replies)


async def test_a_young_answer_is_served_again_and_an_old_one_is_not(desk: Desk, broadcasts: Eavesdropper) -> None:
    first = await desk.wish(InspectWorkers(methods=("stats",)))
    again = await desk.wish(InspectWorkers(methods=("stats",), max_age=30))
    one = await desk.wish(InspectWorkers(methods=("stats",), workers=(W,), max_age=30))
    assert again.value == first.value
    assert one.value == {W: first.value[W]}
    assert await asyncio.to_thread(broadcasts.methods) == ["stats"]

    await desk.wish(InspectWorkers(methods=("stats",)))
    assert await asyncio.to_thread(broadcasts.methods) == ["stats"]


async def test_the_answers_of_one_worker_do_not_wait_for_the_timeout(desk: Desk) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    reply = await desk.wish(InspectWorkers(methods=INSPECT_METHODS, workers=(W,), timeout=20))
    assert set(reply.value) == {W}
    assert loop.time() - began < 10


async def test_each_answer_is_published_as_a_fact_of_its_worker(desk: Desk) -> None:
    reply = await desk.wish(InspectWorkers(methods=("stats", "registered")))
    facts = {fact.hostname: fact for fact in await inspected(desk)}
    assert set(facts) == {W, SCALING[0]}
    assert set(facts[W].replies) == {"stats", "registered"}
    assert facts[W].seen == reply.value[W]["timestamp"]
    assert "alternates" not in facts[W].replies["stats"]["broker"]


async def test_the_first_inspection_and_enabled_events_come_by_themselves(
    stage: Stage, make_context: Callable[..., Context], broadcasts: Eavesdropper
) -> None:
    async with working_controller(make_context, stage.app(), speak=True) as desk:
        facts = await eventually(lambda: inspected(desk))
        assert {"stats", "active_queues", "registered", "conf"} <= set(facts[0].replies)
        assert not set(DETAIL_METHODS) & set(facts[0].replies)
        assert "enable_events" in await asyncio.to_thread(broadcasts.methods)


async def test_a_worker_that_appears_is_inspected_alone(
    stage: Stage, make_context: Callable[..., Context], broadcasts: Eavesdropper
) -> None:
    async with working_controller(
        make_context, stage.app(), speak=True, inspect_interval=3600.0, enable_events=False
    ) as desk:
        await eventually(lambda: inspected(desk))
        await asyncio.to_thread(broadcasts.methods)
        name = "newcomer@stage"
        await asyncio.to_thread(stage.start_worker, name, "sixth", ("--concurrency=1",))
        await asyncio.to_thread(stage.wait_for_workers, name)
        before = len(await inspected(desk))
        await _tell(desk, WorkerOnline(hostname=name, timestamp=1.0, seen=1.0))

        async def is_known() -> bool:
            return name in [fact.hostname for fact in (await inspected(desk))[before:]]

        await eventually(is_known)
        assert {fact.hostname for fact in (await inspected(desk))[before:]} == {name}
        stage.kill(name)


async def test_a_heartbeat_of_an_unknown_worker_is_enough(
    stage: Stage, make_context: Callable[..., Context], broadcasts: Eavesdropper
) -> None:
    async with working_controller(
        make_context, stage.app(), speak=True, inspect_interval=3600.0, enable_events=False
    ) as desk:
        await eventually(lambda: inspected(desk))
        await asyncio.to_thread(broadcasts.methods)
        heartbeat = WorkerHeartbeat(hostname="ghost@nowhere", timestamp=1.0, seen=1.0)
        for _ in range(3):
            await _tell(desk, heartbeat)
        heard: list[str] = []

        async def was_asked() -> bool:
            heard.extend(await asyncio.to_thread(broadcasts.methods))
            return heard.count("stats") >= 3

        await eventually(was_asked, timeout=20)  # three tries for a worker that does not answer, then no more
        assert heard.count("stats") == 3


async def _tell(desk: Desk, fact: WorkerOnline | WorkerHeartbeat) -> None:
    cluster = desk.context.settings.cluster
    await desk.bus.append(subjects.events(cluster, subjects.WORKERS), codec.encode_batch(cluster, "test", [fact]))


@contextmanager
def worker_that_answers(stage: Stage, name: str, answers: dict[str, Any]) -> Iterator[None]:
    """A node on the control exchange that says what it is told to say."""
    app = stage.app()
    stop = threading.Event()
    ready = threading.Event()

    def serve() -> None:
        with Connection(stage.url) as connection:
            handlers = {method: lambda state, _answer=answer, **kwargs: _answer for method, answer in answers.items()}
            node = app.control.mailbox.Node(name, state=None, handlers=handlers)
            node.channel = connection.default_channel
            with node.Consumer(channel=node.channel, accept=["json"]) as consumer:
                consumer.register_callback(node.handle_message)
                ready.set()
                while not stop.is_set():
                    try:
                        connection.drain_events(timeout=0.1)
                    except TimeoutError:
                        continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
        app.close()


async def test_secrets_in_a_workers_answer_are_hidden_wherever_they_go(stage: Stage, desk: Desk) -> None:
    name = "talkative@stage"
    answers = {
        "conf": {
            "broker_url": "redis://:hunter2@host:6379/0",
            "result_backend": "db+postgresql://meadow:hunter2@db/results",
            "broker_transport_options": {"sentinel_kwargs": {"password": "hunter2"}, "visibility_timeout": 3600},
            "redis_password": "hunter2",
            "my_api_token": "hunter2",
            "security_key": "hunter2",
            "timezone": "UTC",
        },
        "stats": {
            "broker": {"hostname": "host", "alternates": ["redis://:hunter2@other/0"], "credential_provider": None},
            "total": {"app.reset_password": 3},
        },
        "active": [{"id": "1", "name": "t", "args": "('amqp://me:hunter2@h//',)", "kwargs": "{'token': 'hunter2'}"}],
        "scheduled": [{"eta": "x", "request": {"kwargs": {"password": {"inner": "hunter2"}, "n": 1}}}],
    }
    with worker_that_answers(stage, name, answers):
        reply = await desk.wish(InspectWorkers(workers=(name,), methods=tuple(answers), timeout=5))
    assert set(reply.value[name]) == {*answers, "timestamp"}
    assert "hunter2" not in repr(reply.value)
    assert "hunter2" not in repr(await inspected(desk))
    told = reply.value[name]
    assert told["conf"]["timezone"] == "UTC"
    assert told["conf"]["broker_url"] == "redis://***@host:6379/0"
    assert told["conf"]["broker_transport_options"]["visibility_timeout"] == 3600
    assert told["stats"] == {
        "broker": {"hostname": "host", "credential_provider": None},
        "total": answers["stats"]["total"],
    }  # type: ignore[call-overload]
    assert told["scheduled"][0]["request"]["kwargs"]["n"] == 1


async def test_an_enormous_or_deep_answer_is_cut_and_says_so(stage: Stage, desk: Desk) -> None:
    name = "huge@stage"
    deep: Any = "bottom"
    for _ in range(200):
        deep = [deep]
    answers = {
        "registered": [f"task.{number}" for number in range(100_000)],
        "conf": {f"setting_{number}": "x" * 1000 for number in range(3000)},
        "active": deep,
        "stats": {"error": "no"},
        "revoked": [10**30, float("inf")],
    }
    with worker_that_answers(stage, name, answers):
        reply = await desk.wish(InspectWorkers(workers=(name,), methods=tuple(answers), timeout=8))
    assert reply.ok, reply.message
    told = reply.value[name]
    assert told["registered"][:2] == ["task.0", "task.1"]
    assert len(told["registered"]) == 1000
    assert told["cut"]["registered"] == "1000 of 100000 kept"
    assert set(told["cut"]) == {"registered", "conf", "active"}
    assert "stats" not in told
    assert len(codec.encode(reply)) < 1024 * 1024
    [fact] = await inspected(desk)
    assert fact.replies["cut"] == told["cut"]
