"""Every command, done for real: a real worker, a real broker, and a look at what has changed."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from meadow.access.claims import Signer
from meadow.commands import (
    AbortTask,
    AddConsumer,
    ApplyTask,
    AsyncApplyTask,
    Autoscale,
    CancelConsumer,
    GetResult,
    GrowPool,
    InspectWorkers,
    RestartPool,
    RevokeTask,
    SendTask,
    SetRateLimit,
    SetTimeLimits,
    ShrinkPool,
    ShutdownWorker,
)
from meadow.service import Context
from meadow.testing import KEY, eventually
from tests.integration.apps.control_stage import (
    ANNA,
    PLAIN,
    RESTARTING,
    SCALING,
    VIEWER,
    Desk,
    Stage,
    running_stage,
    working_controller,
)

W = PLAIN[0]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with running_stage(tmp_path_factory.mktemp("stage")) as made:
        yield made


@pytest.fixture
async def desk(stage: Stage, make_context: Callable[..., Context]) -> AsyncIterator[Desk]:
    async with working_controller(make_context, stage.app()) as made:
        yield made


async def look(desk: Desk, worker: str, method: str) -> Any:
    reply = await desk.wish(InspectWorkers(workers=(worker,), methods=(method,), timeout=10.0))
    assert reply.ok, reply.message
    return reply.value[worker][method]


async def pool_size(desk: Desk, worker: str = W) -> int:
    return len((await look(desk, worker, "stats"))["pool"]["processes"])


async def state(desk: Desk, task_id: str) -> str:
    return str((await desk.wish(GetResult(task_id=task_id))).value["state"])


async def test_growing_and_shrinking_changes_the_real_pool(desk: Desk) -> None:
    before = await pool_size(desk)

    grown = await desk.wish(GrowPool(worker=W, n=2))
    assert grown.value == {"message": f"Growing '{W}' worker's pool by 2"}
    await eventually(lambda: _is(pool_size(desk), before + 2))

    shrunk = await desk.wish(ShrinkPool(worker=W, n=2))
    assert shrunk.value == {"message": f"Shrinking '{W}' worker's pool by 2"}
    await eventually(lambda: _is(pool_size(desk), before))


async def _is(found: Any, wanted: Any) -> bool:
    return bool(await found == wanted)


async def test_the_autoscaler_takes_new_limits_and_a_worker_without_one_says_why(desk: Desk) -> None:
    scaled = await desk.wish(Autoscale(worker=SCALING[0], min=2, max=3))
    assert scaled.value == {"message": f"Autoscaling '{SCALING[0]}' worker (min=2, max=3)"}
    assert (await look(desk, SCALING[0], "stats"))["autoscaler"]["min"] == 2

    refused = await desk.wish(Autoscale(worker=W, min=1, max=2))
    assert refused.code == "refused-by-worker"
    assert refused.message == f"Failed to autoscale '{W}' worker: ValueError('Autoscale not enabled')"


async def test_a_pool_restarts_only_where_the_worker_allows_it(desk: Desk) -> None:
    name = RESTARTING[0]
    before = (await look(desk, name, "stats"))["pool"]["processes"]
    assert (await desk.wish(RestartPool(worker=name))).value == {"message": f"Restarting '{name}' worker's pool"}

    async def has_new_processes() -> bool:
        return bool((await look(desk, name, "stats"))["pool"]["processes"] != before)

    await eventually(has_new_processes)
    refused = await desk.wish(RestartPool(worker=W))
    assert refused.message == f"Failed to restart the '{W}' pool: ValueError('Pool restarts not enabled')"


async def test_a_consumer_is_added_as_it_is_called_and_cancelled_again(desk: Desk) -> None:
    queue = "a&b"

    async def queues() -> list[str]:
        return [entry["name"] for entry in await look(desk, W, "active_queues")]

    assert (await desk.wish(AddConsumer(worker=W, queue=queue))).value == {"message": f"add consumer {queue}"}
    assert queue in await queues()
    cancelled = await desk.wish(CancelConsumer(worker=W, queue=queue))
    assert cancelled.value == {"message": f"no longer consuming from {queue}"}
    await eventually(lambda: _lacks(queues(), queue))


async def _lacks(found: Any, item: str) -> bool:
    return item not in await found


async def test_rate_and_time_limits_are_set_and_shown_by_the_worker(desk: Desk) -> None:
    limited = await desk.wish(SetRateLimit(worker=W, task="control.add", rate="100/m"))
    assert limited.value == {"message": "new rate limit set successfully"}
    assert any("control.add" in task and "100" in task for task in await look(desk, W, "registered"))
    assert (await desk.wish(SetRateLimit(worker=W, task="control.add", rate="0"))).ok

    bad = await desk.wish(SetRateLimit(worker=W, task="control.add", rate="abc"))
    assert bad.code == "refused-by-worker"
    assert bad.message.startswith("Failed to set rate limit: 'Invalid rate limit string:")

    timed = await desk.wish(SetTimeLimits(worker=W, task="control.add", soft=100, hard=200.5))
    assert timed.value == {"message": "time limits set successfully"}
    assert (await desk.wish(SetTimeLimits(worker=W, task="control.add"))).ok


async def test_unknown_tasks_and_workers_are_named_in_that_order(desk: Desk) -> None:
    both = await desk.wish(SetRateLimit(worker="nobody@nowhere", task="control.nosuch", rate="5"))
    assert (both.code, both.message) == ("unknown-task", "Unknown task 'control.nosuch'")
    worker = await desk.wish(SetRateLimit(worker="nobody@nowhere", task="control.add", rate="5"))
    assert (worker.code, worker.message) == ("unknown-worker", "Unknown worker 'nobody@nowhere'")
    assert (await desk.wish(AsyncApplyTask(task="control.nosuch"))).code == "unknown-task"


async def test_a_running_task_is_terminated_by_revoking_it(desk: Desk) -> None:
    task_id = (await desk.wish(AsyncApplyTask(task="control.sleep", args=[120]))).value["task-id"]

    async def runs() -> bool:
        return task_id in [task["id"] for task in await look(desk, W, "active")]

    await eventually(runs)
    revoked = await desk.wish(RevokeTask(task_id=task_id, terminate=True, signal="SIGKILL"), reason="it hangs")
    assert revoked.value == {"message": f"Revoked '{task_id}'"}
    await eventually(lambda: _is(state(desk, task_id), "REVOKED"))
    result = await desk.wish(GetResult(task_id=task_id))
    assert result.value["result"].startswith("TaskRevokedError(")  # 'terminated', or 'revoked' when it had just begun

    intent, outcome = await desk.record(revoked)
    assert (intent.actor, intent.source, intent.command, intent.target, intent.reason) == (
        ANNA.name,
        "10.0.0.7",
        "revoke",
        task_id,
        "it hangs",
    )
    assert intent.parameters == {"terminate": True, "signal": "SIGKILL"}
    assert (outcome.code, outcome.message) == ("ok", f"Revoked '{task_id}'")


async def test_a_task_waiting_for_its_time_is_revoked_without_running(desk: Desk, tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    options = {"countdown": "3"}
    sent = await desk.wish(AsyncApplyTask(task="control.mark", args=[str(trace)], options=options))
    task_id = sent.value["task-id"]
    assert (await desk.wish(RevokeTask(task_id=task_id))).ok
    await eventually(lambda: _is(state(desk, task_id), "REVOKED"), timeout=20)
    assert not trace.exists()


@pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # by Celery
async def test_an_abortable_task_stops_when_it_is_aborted(desk: Desk) -> None:
    sent = await desk.wish(SendTask(task="control.patient", args=[60]))
    task_id = sent.value["task-id"]

    async def runs() -> bool:
        return task_id in [task["id"] for task in await look(desk, W, "active")]

    await eventually(runs)
    assert (await desk.wish(AbortTask(task_id=task_id))).value == {"message": f"Aborted '{task_id}'"}
    result = await desk.wish(GetResult(task_id=task_id, timeout=20))
    assert result.value == {"task-id": task_id, "state": "SUCCESS", "result": "aborted"}


async def test_apply_waits_for_the_result_and_gives_it_as_flower_does(desk: Desk) -> None:
    good = await desk.wish(ApplyTask(task="control.add", args=[20, 22]))
    assert list(good.value) == ["task-id", "result", "state"]
    assert (good.value["result"], good.value["state"]) == (42, "SUCCESS")

    failed = await desk.wish(ApplyTask(task="control.fail", args=["boom: ünïcode"]))
    assert failed.ok
    assert failed.value["result"] == "ValueError('boom: ünïcode')"
    assert failed.value["state"] == "FAILURE"
    assert "Traceback" in failed.value["traceback"]

    now = await desk.wish(ApplyTask(task="control.now"))
    assert now.value["result"] == "datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)"

    late = await desk.wish(ApplyTask(task="control.add", args=[1, 1], options={"countdown": 60}, timeout=0.2))
    assert late.ok
    assert set(late.value) == {"task-id", "state"}


async def test_calls_take_the_options_that_flower_takes_and_refuse_the_rest(desk: Desk) -> None:
    task_id = str(uuid4())
    sent = await desk.wish(
        AsyncApplyTask(
            task="control.add",
            args=[1, 2],
            options={"task_id": task_id, "priority": 3, "expires": "2099-01-01 00:00:00.0"},
        )
    )
    assert sent.value["task-id"] == task_id
    assert (await desk.wish(GetResult(task_id=task_id, timeout=10))).value["result"] == 3

    iso = await desk.wish(AsyncApplyTask(task="control.add", args=[1, 2], options={"eta": "2099-01-01T00:00:00"}))
    assert (iso.code, iso.message) == ("invalid", "Invalid option")
    null = await desk.wish(AsyncApplyTask(task="control.add", args=[1, 2], options={"countdown": None}))
    assert null.code == "failed"
    arity = await desk.wish(AsyncApplyTask(task="control.add", args=[1]))
    assert arity.code == "failed"
    assert "missing 1 required positional argument" in arity.message
    raw = await desk.wish(SendTask(task="control.add", args=[1, 2], options={"countdown": "soon"}))
    assert raw.code == "failed"
    ours = await desk.wish(SendTask(task="control.add", args=[1, 2], options={"connection": "amqp://elsewhere"}))
    assert ours.code == "invalid"


async def test_the_audit_hides_secrets_and_cuts_long_arguments(desk: Desk) -> None:
    reply = await desk.wish(
        SendTask(
            task="control.add",
            args=["x" * 10_000, "amqp://me:hunter2@host//"],
            kwargs={"password": "hunter2", "n": 1},
            options={"headers": {"X-Api-Key": "hunter2"}, "queue": "nobody-listens"},
        )
    )
    intent, _ = await desk.record(reply)
    shown = repr(intent)
    assert "hunter2" not in shown
    assert "'n': 1" in shown
    assert "9000 more characters" in shown


async def test_shutting_down_ends_the_worker_and_then_it_does_not_answer(stage: Stage, desk: Desk) -> None:
    name = "leaving@stage"
    stage.start_worker(name, "fourth", ("--concurrency=1",))
    stage.wait_for_workers(name)
    assert (await desk.wish(ShutdownWorker(worker=name))).value == {"message": "Shutting down!"}
    process = stage.processes.pop(name)
    await eventually(lambda: process.poll() is not None, timeout=20)

    gone = await desk.wish(GrowPool(worker=name))
    assert (gone.code, gone.message) == ("refused-by-worker", f"Failed to grow '{name}' worker's pool: Unknown reason")


async def test_a_killed_worker_is_named_in_the_reply_and_in_the_audit(stage: Stage, desk: Desk) -> None:
    name = "dying@stage"
    stage.start_worker(name, "fifth", ("--concurrency=1",))
    stage.wait_for_workers(name)
    assert (await desk.wish(GrowPool(worker=name))).ok
    stage.kill(name)

    reply = await desk.wish(ShrinkPool(worker=name))
    assert (reply.code, reply.message) == (
        "refused-by-worker",
        f"Failed to shrink '{name}' worker's pool: Unknown reason",
    )
    _, outcome = await desk.record(reply)
    assert outcome.code == "refused-by-worker"
    assert outcome.replies == {name: "no answer within 1 s"}
    assert outcome.seconds >= 1.0


async def test_a_forged_or_old_claim_reaches_no_worker_and_no_audit(desk: Desk) -> None:
    before = await pool_size(desk)
    forged = Signer(b"the key of somebody else entirely").sign(ANNA, now=time.time())
    old = Signer(KEY).sign(ANNA, now=time.time() - 3600)
    for claim in (forged, old, "", "nonsense", "a.b"):
        reply = await desk.wish(GrowPool(worker=W), claim=claim)
        assert reply.code == "forbidden", claim
        assert reply.audit_id is None
    assert await desk.audit() == []
    assert await pool_size(desk) == before


async def test_viewers_may_ask_but_not_change_and_the_refusal_is_recorded(desk: Desk) -> None:
    before = await pool_size(desk)
    refused = await desk.wish(GrowPool(worker=W, n=1), actor=VIEWER)
    assert refused.code == "forbidden"
    intent, outcome = await desk.record(refused)
    assert (intent.actor, intent.target, outcome.code) == (VIEWER.name, W, "forbidden")
    asked = await desk.wish(InspectWorkers(workers=(W,)), actor=VIEWER)
    assert asked.ok
    assert await pool_size(desk) == before


async def test_read_only_refuses_admins_too_and_records_it(stage: Stage, make_context: Callable[..., Context]) -> None:
    async with working_controller(make_context, stage.app(), read_only=True) as desk:
        before = await pool_size(desk)
        refused = await desk.wish(GrowPool(worker="nobody@nowhere"))
        assert (refused.code, refused.message) == ("read-only", "Read only mode is enabled")
        assert (await desk.wish(GrowPool(worker=W))).code == "read-only"
        assert [record.id for record in await desk.audit()].count(refused.audit_id or "") == 2
        assert await pool_size(desk) == before


async def test_the_intent_stands_in_the_audit_before_the_worker_does_anything(desk: Desk) -> None:
    reply = await desk.wish(AddConsumer(worker=W, queue="late"))
    intent, outcome = await desk.record(reply)
    assert intent.at <= outcome.at
    assert outcome.replies == {W: {"ok": "add consumer late"}}
    assert intent.parameters == {"queue": "late"}
    unknown = await desk.wish(GrowPool(worker="nobody@nowhere", n=3))
    _, recorded = await desk.record(unknown)
    assert (recorded.code, recorded.message) == ("unknown-worker", "Unknown worker 'nobody@nowhere'")
