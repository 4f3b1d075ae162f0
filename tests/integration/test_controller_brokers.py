"""The same commands on brokers other than Redis: RabbitMQ with results over RPC, and plain files."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meadow.commands import (
    INSPECT_METHODS,
    AddConsumer,
    ApplyTask,
    AsyncApplyTask,
    GetResult,
    GrowPool,
    InspectWorkers,
    RevokeTask,
)
from meadow.service import Context
from meadow.testing import eventually
from tests.integration.apps.control_stage import PLAIN, Desk, Stage, working_controller
from tests.servers import RabbitMQ

W = PLAIN[0]


@pytest.fixture
def rabbit_stage(tmp_path: Path, rabbitmq_server: RabbitMQ) -> Iterator[Stage]:
    stage = Stage(rabbitmq_server.url, "rpc://", tmp_path)
    try:
        stage.start_worker(*PLAIN)
        stage.wait_for_workers(W)
        yield stage
    finally:
        stage.close()


@pytest.fixture
def file_stage(tmp_path: Path) -> Iterator[Stage]:
    for name in ("queue", "processed", "control", "results"):
        (tmp_path / name).mkdir()
    options = {
        "data_folder_in": str(tmp_path / "queue"),
        "data_folder_out": str(tmp_path / "queue"),
        "processed_folder": str(tmp_path / "processed"),
        "control_folder": str(tmp_path / "control"),
        "polling_interval": 0.05,
    }
    stage = Stage("filesystem://", f"file://{tmp_path / 'results'}", tmp_path, options)
    try:
        stage.start_worker(*PLAIN)
        stage.wait_for_workers(W)
        yield stage
    finally:
        stage.close()


async def control(desk: Desk) -> None:
    """Ask, change the pool, call, wait, read a result, and revoke."""
    asked = await desk.wish(InspectWorkers(methods=INSPECT_METHODS, timeout=3.0))
    assert set(asked.value) == {W}
    assert set(asked.value[W]) == {*INSPECT_METHODS, "timestamp"}
    before = len(asked.value[W]["stats"]["pool"]["processes"])

    assert (await desk.wish(GrowPool(worker=W))).value == {"message": f"Growing '{W}' worker's pool by 1"}

    async def has_grown() -> bool:
        answers = (await desk.wish(InspectWorkers(methods=("stats",), workers=(W,)))).value
        # On files an answer may come too late: then it is asked again.
        return W in answers and len(answers[W]["stats"]["pool"]["processes"]) == before + 1

    await eventually(has_grown)
    assert (await desk.wish(AddConsumer(worker=W, queue="more"))).ok

    applied = await desk.wish(ApplyTask(task="control.add", args=[20, 22], options={"queue": "more"}, timeout=20))
    assert (applied.value["state"], applied.value["result"]) == ("SUCCESS", 42)
    sent = await desk.wish(AsyncApplyTask(task="control.sleep", args=[120]))
    task_id = sent.value["task-id"]

    async def runs() -> bool:
        reply = await desk.wish(InspectWorkers(methods=("active",), workers=(W,)))
        return task_id in [task["id"] for task in reply.value.get(W, {}).get("active", [])]

    await eventually(runs)
    assert (await desk.wish(RevokeTask(task_id=task_id, terminate=True))).ok
    result = await desk.wish(GetResult(task_id=task_id, timeout=20))
    assert (result.value["state"], result.value["result"]) == ("REVOKED", "TaskRevokedError('terminated')")


async def test_rabbitmq(rabbit_stage: Stage, make_context: Callable[..., Context]) -> None:
    async with working_controller(make_context, rabbit_stage.app()) as desk:
        await control(desk)


async def test_files(file_stage: Stage, make_context: Callable[..., Context]) -> None:
    async with working_controller(make_context, file_stage.app()) as desk:
        await control(desk)
