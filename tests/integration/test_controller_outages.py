"""When the broker, the result backend or NATS is away, or nobody ever answers."""

import asyncio
import json
import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from meadow import codec, subjects
from meadow.audit import AuditIntent, AuditOutcome
from meadow.bus import StreamLimits
from meadow.commands import (
    AbortTask,
    ApplyTask,
    AsyncApplyTask,
    Command,
    CommandReply,
    GetResult,
    GrowPool,
    InspectWorkers,
    RevokeTask,
    SendTask,
)
from meadow.service import Context
from meadow.testing import eventually
from meadow_controller.waiting import PLACES
from tests.integration.apps.control_stage import Stage, running_stage, working_controller
from tests.servers import free_port, operator, running_redis

UNAVAILABLE = "Broker or result backend unavailable"
ADD = "control.add"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A broker without workers."""
    with running_stage(tmp_path_factory.mktemp("stage"), workers=False) as made:
        yield made


def queued(url: str, queue: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(client.llen(queue))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "command",
    [
        AsyncApplyTask(task=ADD, args=[1, 2]),
        SendTask(task=ADD, args=[1, 2]),
        ApplyTask(task=ADD, args=[1, 2]),
        RevokeTask(task_id="x"),
        GrowPool(worker="w@h"),
        InspectWorkers(),
    ],
    ids=lambda command: command.verb,
)
async def test_without_a_broker_every_command_says_so_soon_and_is_recorded(
    command: Any, stage: Stage, make_context: Callable[..., Context]
) -> None:
    app = stage.app(broker_url=f"redis://127.0.0.1:{free_port()}/0")
    async with working_controller(make_context, app) as desk:
        began = time.monotonic()
        reply = await desk.wish(command)
        assert (reply.code, reply.message) == ("unavailable", UNAVAILABLE)
        assert time.monotonic() - began < 10
        if isinstance(command, Command) and command.audited:
            _, outcome = await desk.record(reply)
            assert outcome.code == "unavailable"


async def test_the_first_command_after_a_restart_of_the_broker_works(
    tmp_path: Path, stage: Stage, make_context: Callable[..., Context]
) -> None:
    port = free_port()
    app = stage.app(broker_url=f"redis://127.0.0.1:{port}/0")
    async with working_controller(make_context, app) as desk:
        with running_redis(tmp_path, port):
            assert (await desk.wish(SendTask(task=ADD))).ok
        assert (await desk.wish(SendTask(task=ADD))).code == "unavailable"
        with running_redis(tmp_path, port) as url:
            assert (await desk.wish(SendTask(task=ADD))).ok
            assert (await desk.wish(RevokeTask(task_id="x"))).ok
            assert queued(url, "celery") == 1


async def test_inspections_and_events_resume_when_the_broker_is_back(
    tmp_path: Path, stage: Stage, make_context: Callable[..., Context], caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    app = stage.app(broker_url=f"redis://127.0.0.1:{port}/0")
    caplog.set_level("INFO")

    def said(ending: str) -> list[str]:
        actions = [str(getattr(record, "action", "")) for record in caplog.records]
        return sorted(action for action in actions if action.endswith(ending))

    async with working_controller(make_context, app, speak=True) as desk:
        await eventually(lambda: said(".fails") == ["enable-events.fails", "inspect.fails"])
        with running_redis(tmp_path, port):
            await eventually(lambda: said(".works") == ["enable-events.works", "inspect.works"], timeout=20)
            assert desk.service.health()["broker"] is True
        assert said(".fails") == ["enable-events.fails", "inspect.fails"]  # once, however often it was tried


async def test_a_task_is_sent_although_its_backend_is_away(stage: Stage, make_context: Callable[..., Context]) -> None:
    app = stage.app(result_backend=f"redis://127.0.0.1:{free_port()}/1")
    queue = f"q-{uuid4()}"
    async with working_controller(make_context, app) as desk:
        sent = await desk.wish(AsyncApplyTask(task=ADD, args=[1, 2], options={"queue": queue}))
        assert sent.ok
        assert sent.value["state"] == "PENDING"
        assert queued(stage.url, queue) == 1
        for command in (GetResult(task_id=sent.value["task-id"]), AbortTask(task_id="x")):
            refused = await desk.wish(command)
            assert (refused.code, refused.message) == ("unavailable", UNAVAILABLE)


async def test_without_a_backend_nothing_that_needs_one_is_sent(
    stage: Stage, make_context: Callable[..., Context]
) -> None:
    queue = f"q-{uuid4()}"
    async with working_controller(make_context, stage.app(result_backend=None)) as desk:
        applied = await desk.wish(ApplyTask(task=ADD, args=[1, 2], options={"queue": queue}))
        assert applied.code == "failed"
        assert queued(stage.url, queue) == 0
        sent = await desk.wish(AsyncApplyTask(task=ADD, args=[1, 2], options={"queue": queue}))
        assert set(sent.value) == {"task-id"}
        assert (await desk.wish(GetResult(task_id="x"))).code == "no-backend"
        assert (await desk.wish(AbortTask(task_id="x"))).code == "no-backend"


async def test_without_an_audit_record_nothing_is_done(stage: Stage, make_context: Callable[..., Context]) -> None:
    queue = f"q-{uuid4()}"
    async with working_controller(make_context, stage.app()) as desk:
        async with operator(desk.bus) as jetstream:
            await jetstream.delete_stream(subjects.AUDIT_STREAM)
        refused = await desk.wish(AsyncApplyTask(task=ADD, args=[1, 2], options={"queue": queue}))
        assert refused.code == "unavailable"
        assert "audit record could not be stored, so nothing was done" in refused.message
        assert queued(stage.url, queue) == 0


async def test_an_outcome_waits_until_it_can_be_stored(stage: Stage, make_context: Callable[..., Context]) -> None:
    async with working_controller(make_context, stage.app(), speak=True, enable_events=False) as desk:
        waiting = asyncio.create_task(desk.wish(ApplyTask(task=ADD, args=[1, 2], timeout=1.0)))
        await eventually(lambda: desk.service.health()["waiting"] == 1)
        async with operator(desk.bus) as jetstream:
            await jetstream.delete_stream(subjects.AUDIT_STREAM)
        reply = await waiting
        assert reply.ok
        assert desk.service.health()["audit_waiting"] == 1
        await desk.bus.declare_streams(StreamLimits())
        await eventually(lambda: desk.service.health()["audit_waiting"] == 0)
        [outcome] = await desk.audit()
        assert isinstance(outcome, AuditOutcome)
        assert (outcome.id, outcome.code) == (reply.audit_id, "ok")


async def test_an_outcome_that_cannot_be_stored_before_the_end_is_told_as_lost(
    stage: Stage, make_context: Callable[..., Context], caplog: pytest.LogCaptureFixture
) -> None:
    async with working_controller(make_context, stage.app()) as desk:
        waiting = asyncio.create_task(desk.wish(ApplyTask(task=ADD, args=[1, 2], timeout=1.0)))
        await eventually(lambda: desk.service.health()["waiting"] == 1)
        async with operator(desk.bus) as jetstream:
            await jetstream.delete_stream(subjects.AUDIT_STREAM)
            await jetstream.add_stream(name="TOO_SMALL", subjects=[subjects.ALL_AUDIT], max_msg_size=1)
        assert (await waiting).ok
        await desk.service.stop()
        assert "1 audit outcomes are lost" in caplog.text
        health = desk.service.health()
        assert (health["audit_waiting"], health["audit_lost"]) == (0, 1)


async def test_hanging_applies_freeze_nobody_else_and_end_when_the_controller_stops(
    stage: Stage, make_context: Callable[..., Context]
) -> None:
    queue = f"q-{uuid4()}"
    async with working_controller(make_context, stage.app()) as desk:
        command = ApplyTask(task=ADD, args=[1, 2], options={"queue": queue})
        hanging = [asyncio.create_task(desk.wish(command, timeout=60)) for _ in range(PLACES)]
        await eventually(lambda: desk.service.health()["waiting"] == PLACES)

        began = time.monotonic()
        refused = await desk.wish(command)
        assert refused.code == "unavailable"
        assert "Use async-apply instead" in refused.message
        assert (await desk.wish(RevokeTask(task_id="x"))).ok
        assert (await desk.wish(GetResult(task_id="x"))).value == {"task-id": "x", "state": "PENDING"}
        assert time.monotonic() - began < 10

        began = time.monotonic()
        await desk.service.stop()
        replies = await asyncio.gather(*hanging)
        assert time.monotonic() - began < 10
        assert {reply.code for reply in replies} == {"unavailable"}
        assert {reply.message for reply in replies} == {"The controller is stopping. The task goes on without it."}
        outcomes = [record for record in await desk.audit() if isinstance(record, AuditOutcome)]
        intents = [record for record in await desk.audit() if isinstance(record, AuditIntent)]
        assert len(outcomes) == len(intents) == PLACES + 2


async def test_a_wait_that_is_over_gives_its_place_back(stage: Stage, make_context: Callable[..., Context]) -> None:
    async with working_controller(make_context, stage.app(), apply_timeout=0.1) as desk:
        for _ in range(2):
            command = ApplyTask(task=ADD, args=[1, 2], options={"queue": f"q-{uuid4()}"})
            replies = await asyncio.gather(*(desk.wish(command) for _ in range(PLACES)))
            assert {reply.code for reply in replies} == {"ok"}
        assert desk.service.health()["waiting"] == 0


async def test_a_stored_exception_is_shown_and_never_made(
    tmp_path: Path, stage: Stage, make_context: Callable[..., Context]
) -> None:
    """Celery before 5.2.2 called whatever the backend named: CVE-2021-23727."""
    trace = tmp_path / "ran"
    stored = {
        "status": "FAILURE",
        "result": {"exc_module": "os", "exc_type": "system", "exc_message": [f"touch {trace}"]},
        "traceback": None,
        "children": [],
    }
    with redis.Redis.from_url(stage.backend) as client:
        client.set("celery-task-meta-evil", json.dumps(stored))
    async with working_controller(make_context, stage.app()) as desk:
        reply = await desk.wish(GetResult(task_id="evil"))
    assert reply.value["result"] == f"system('touch {trace}')"
    assert not trace.exists()


class Touch:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


async def test_a_pickled_result_is_not_read(tmp_path: Path, stage: Stage, make_context: Callable[..., Context]) -> None:
    trace = tmp_path / "ran"
    with redis.Redis.from_url(stage.backend) as client:
        client.set("celery-task-meta-pickled", pickle.dumps(Touch(trace)))
    app = stage.app(result_serializer="pickle", accept_content=["json", "pickle"])
    async with working_controller(make_context, app) as desk:
        reply = await desk.wish(GetResult(task_id="pickled"))
    assert reply.code == "unavailable"
    assert "unpickles nothing" in reply.message
    assert not trace.exists()


async def test_bytes_that_are_no_command_are_answered_with_a_sentence(
    stage: Stage, make_context: Callable[..., Context]
) -> None:
    async with working_controller(make_context, stage.app()) as desk:
        subject = subjects.command(desk.context.settings.cluster)
        for data in (b"", b"{", b'{"cluster":"default"}', b"\xff\xfe", b"[" * 100_000):
            reply = codec.decode(await desk.bus.ask(subject, data), CommandReply)
            assert reply.code == "invalid"
