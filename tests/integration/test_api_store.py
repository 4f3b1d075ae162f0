"""What is put on the stream can be asked for, survives everything, and is counted once."""

import asyncio
import sqlite3
import time
from pathlib import Path

import pytest

from meadow import queries, subjects
from meadow.audit import AuditIntent, AuditOutcome
from meadow.bus import Bus, StreamLimits
from meadow.codec import decode, encode, encode_batch
from meadow.errors import StartRefused
from meadow.events import CollectorReported, QueueDepth, QueuesObserved, TaskStarted, WorkerInspected
from meadow.service import Context
from meadow.testing import eventually
from tests.integration.api_service import (
    CLUSTER,
    MakeContext,
    ask,
    heartbeat,
    publish,
    running_api,
    stored,
    task_events,
)
from tests.servers import operator


def store_of(context: Context) -> Path:
    return Path(str(context.settings.data_dir)) / "store.db"


async def counters(bus: Bus) -> dict[str, int]:
    found = await ask(bus, "worker", queries.WorkerAnswer, hostname="w1@h")
    return found.worker.counters if found.worker else {}


async def received_total(bus: Bus) -> int:
    overview = await ask(bus, "overview", queries.Overview)
    return sum(point.received for point in overview.points)


async def test_a_published_task_is_found_with_its_state_and_texts(bus: Bus, make_context: MakeContext) -> None:
    async with running_api(make_context()) as api:
        await stored(api, await publish(bus, *task_events(1)))
        found = await ask(bus, "task", queries.TaskAnswer, uuid="task-1")
    assert found.task is not None
    assert (found.task["state"], found.task["result"], found.task["worker"]) == ("SUCCESS", "1", "w1@h")


async def test_an_unknown_task_is_answered_with_nothing(bus: Bus, make_context: MakeContext) -> None:
    async with running_api(make_context()):
        assert (await ask(bus, "task", queries.TaskAnswer, uuid="x" * 10_000)).task is None
        assert (await ask(bus, "task", queries.TaskAnswer, uuid="a\0b' OR 1=1 --")).task is None


async def test_history_is_still_there_after_a_restart_and_nothing_is_doubled(
    bus: Bus, make_context: MakeContext
) -> None:
    context = make_context()
    async with running_api(context) as api:
        await stored(api, await publish(bus, *task_events(1), heartbeat()))
    last = await publish(bus, *task_events(2))
    async with running_api(context) as api:
        await stored(api, last)
        rows = (await ask(bus, "tasks", queries.TaskList, sort="received")).rows
        assert [row.uuid for row in rows] == ["task-1", "task-2"]
        assert await counters(bus) == {
            "task-received": 2,
            "task-started": 2,
            "task-succeeded": 2,
            "worker-heartbeat": 1,
        }
        assert await received_total(bus) == 2


async def test_a_batch_that_comes_again_is_counted_once(bus: Bus, make_context: MakeContext) -> None:
    batch = encode_batch(CLUSTER, "c", task_events(1))
    context = make_context()
    subject = subjects.events(CLUSTER, subjects.TASKS)
    async with running_api(context) as api:
        await bus.append(subject, batch)
        await stored(api, await bus.append(subject, batch))
    async with running_api(context) as api:
        await stored(api, await bus.append(subject, batch))
        assert (await counters(bus))["task-received"] == 1
        assert await received_total(bus) == 1


async def test_a_message_that_is_no_batch_is_counted_and_the_rest_goes_on(
    bus: Bus, make_context: MakeContext, caplog: pytest.LogCaptureFixture
) -> None:
    subject = subjects.events(CLUSTER, subjects.TASKS)
    async with running_api(make_context()) as api:
        for garbage in (b"\xff\xfe", b"[]", b'{"v":99}', b'{"v":1,"cluster":"a b","collector":"c","events":[]}'):
            await bus.append(subject, garbage)
        await stored(api, await publish(bus, *task_events(1)))
        assert (await ask(bus, "task", queries.TaskAnswer, uuid="task-1")).task is not None
        assert api.health()["streams"][subjects.EVENTS_STREAM]["invalid"] == 4
    assert "version 99" in caplog.text


async def test_one_event_that_cannot_be_stored_does_not_stop_the_others(bus: Bus, make_context: MakeContext) -> None:
    poison = TaskStarted(uuid="poison", hostname="w1@h", timestamp=1.0, seen=1e300)
    async with running_api(make_context()) as api:
        await publish(bus, *task_events(1))
        await publish(bus, poison)
        await stored(api, await publish(bus, *task_events(2)))
        rows = (await ask(bus, "tasks", queries.TaskList)).rows
        assert {row.uuid for row in rows} == {"task-1", "task-2"}
        assert api.health()["streams"][subjects.EVENTS_STREAM]["rejected"] == 1


async def test_texts_with_quotes_and_every_script_are_kept_and_nul_is_marked(
    bus: Bus, make_context: MakeContext
) -> None:
    strange = "Robert'); DROP TABLE tasks;--\0日本\u202e"
    events = [TaskStarted(uuid=strange, hostname=strange, timestamp=1.0, seen=time.time())]
    async with running_api(make_context()) as api:
        await publish(bus, *events)
        await stored(api, await publish(bus, *events, *task_events(1)))
        kept = strange.replace("\0", "\ufffd")
        found = await ask(bus, "task", queries.TaskAnswer, uuid=kept)
        assert found.task is not None
        assert (found.task["uuid"], found.task["worker"]) == (kept, kept)


async def test_a_stream_that_was_made_anew_is_read_from_its_beginning(
    bus: Bus, make_context: MakeContext, caplog: pytest.LogCaptureFixture
) -> None:
    context = make_context()
    async with running_api(context) as api:
        await stored(api, await publish(bus, *task_events(1)))
        await stored(api, await publish(bus, *task_events(2)))
    await remake_stream(bus)
    assert await publish(bus, *task_events(3)) == 1
    for number in (4, 5, 6):  # so that the new stream is longer than the old one was
        await publish(bus, *task_events(number))
    async with running_api(context):
        await eventually(lambda: is_known(bus, "task-6"))
        assert await is_known(bus, "task-3")
        assert await is_known(bus, "task-1")
    assert "made anew" in caplog.text


async def test_a_stream_that_is_made_anew_meanwhile_is_noticed(bus: Bus, make_context: MakeContext) -> None:
    async with running_api(make_context()) as api:
        await publish(bus, *task_events(1))
        await stored(api, await publish(bus, *task_events(2)))
        await remake_stream(bus)
        await publish(bus, *task_events(3))
        await eventually(lambda: is_known(bus, "task-3"))


async def test_messages_that_were_deleted_before_they_were_read_are_a_gap(
    bus: Bus, make_context: MakeContext, caplog: pytest.LogCaptureFixture
) -> None:
    context = make_context()
    async with running_api(context) as api:
        await stored(api, await publish(bus, *task_events(1)))
    await publish(bus, *task_events(2))
    last = await publish(bus, *task_events(3))
    async with operator(bus) as jetstream:
        await jetstream.purge_stream(subjects.EVENTS_STREAM, seq=last)
    async with running_api(context) as api:
        await stored(api, last)
    assert "1 messages of MEADOW_EVENTS were deleted" in caplog.text
    with sqlite3.connect(store_of(context)) as store:
        assert store.execute("SELECT reason FROM gaps").fetchall() == [("stream-limit",)]
    store.close()


async def test_a_damaged_store_is_put_aside_and_read_again_from_the_stream(
    bus: Bus, make_context: MakeContext, caplog: pytest.LogCaptureFixture
) -> None:
    context = make_context()
    async with running_api(context) as api:
        await stored(api, await publish(bus, *task_events(1)))
    await asyncio.to_thread(store_of(context).write_bytes, b"this is no database at all" * 500)
    async with running_api(context):
        await eventually(lambda: is_known(bus, "task-1"))
    aside = [path.name for path in store_of(context).parent.glob("store.db.damaged-*")]
    assert len([name for name in aside if not name.endswith(("-wal", "-shm"))]) == 1
    assert "is damaged" in caplog.text


async def test_damage_that_shows_only_in_use_is_mended_too(
    bus: Bus, make_context: MakeContext, caplog: pytest.LogCaptureFixture
) -> None:
    context = make_context()
    facts = [fact for number in range(3000) for fact in task_events(number)]
    async with running_api(context) as api:
        await stored(api, await publish(bus, *facts))
    whole = await asyncio.to_thread(store_of(context).read_bytes)
    kept = len(whole) // 2
    await asyncio.to_thread(store_of(context).write_bytes, whole[:kept] + b"\xff" * (len(whole) - kept))
    async with running_api(context) as api:
        last = await publish(bus, *[fact for number in range(3000) for fact in task_events(number, at=time.time() + 5)])
        await eventually(lambda: is_known(bus, "task-2999") if "was put aside" in caplog.text else False, timeout=30)
        await stored(api, last)
        assert (await ask(bus, "overview", queries.Overview)).tasks_stored == 3000
    assert "while it was used" in caplog.text


async def test_a_store_of_a_newer_meadow_is_refused(bus: Bus, make_context: MakeContext) -> None:
    context = make_context()
    async with running_api(context):
        pass
    with sqlite3.connect(store_of(context)) as store:
        store.execute("UPDATE meta SET value = '999' WHERE key = 'schema'")
    store.close()
    with pytest.raises(StartRefused, match="newer Meadow"):
        async with running_api(context):
            pass


async def test_each_commit_is_announced_with_what_changed(bus: Bus, make_context: MakeContext) -> None:
    notices: list[queries.Changed] = []

    async def hear(_: str, data: bytes) -> None:
        notices.append(decode(data, queries.Changed))

    await bus.listen(subjects.changed(CLUSTER), hear)
    async with running_api(make_context()):
        sequence = await publish(bus, *task_events(1))
        notice = await eventually(lambda: next((n for n in notices if n.tasks), None))
    assert (notice.sequence, notice.tasks, notice.workers) == (sequence, ("task-1",), ("w1@h",))
    assert notice.topics == ("tasks", "workers")


async def test_a_worker_that_falls_silent_is_announced_and_offline(bus: Bus, make_context: MakeContext) -> None:
    notices: list[queries.Changed] = []

    async def hear(_: str, data: bytes) -> None:
        notices.append(decode(data, queries.Changed))

    await bus.listen(subjects.changed(CLUSTER), hear)
    async with running_api(make_context()) as api:
        await stored(api, await publish(bus, heartbeat(at=time.time() - 3.0)))
        first = (await ask(bus, "workers", queries.WorkerList)).rows[0]
        assert first.online
        await eventually(lambda: [n for n in notices if n.workers == ("w1@h",) and n.topics == ("workers",)][1:])
        assert not (await ask(bus, "workers", queries.WorkerList)).rows[0].online


async def test_inspections_tell_a_workers_pool_and_queues(bus: Bus, make_context: MakeContext) -> None:
    replies = {
        "stats": {"pool": {"max-concurrency": 4, "implementation": "celery.concurrency.prefork:TaskPool"}},
        "active_queues": [{"name": "high"}, {"name": "celery"}, "nonsense"],
        "revoked": ["x"] * 5000,
    }
    async with running_api(make_context()) as api:
        now = time.time()
        await publish(bus, heartbeat(), kind=subjects.WORKERS)
        newer = WorkerInspected(hostname="w1@h", seen=now, replies=replies)
        older = WorkerInspected(hostname="w1@h", seen=now - 60, replies={"stats": None})
        await publish(bus, newer, kind=subjects.WORKERS)
        await publish(bus, older, kind=subjects.WORKERS)
        observed = QueuesObserved(seen=now, queues=(QueueDepth(name="high", messages=3),))
        await stored(api, await publish(bus, observed, kind=subjects.QUEUES))
        found = await ask(bus, "worker", queries.WorkerAnswer, hostname="w1@h")
        queues = await ask(bus, "queues", queries.QueueList)
    assert found.worker is not None
    assert (found.worker.concurrency, found.worker.pool, found.worker.queues) == (4, "prefork", ["celery", "high"])
    assert found.inspected["stats"] == pytest.approx(now)
    assert [(q.name, q.messages, q.workers) for q in queues.rows] == [
        ("celery", None, ["w1@h"]),
        ("high", 3, ["w1@h"]),
    ]
    assert [messages for _, messages in queues.rows[1].samples] == [3]


async def test_the_collectors_state_is_on_the_overview(bus: Bus, make_context: MakeContext) -> None:
    report = CollectorReported(seen=time.time(), broker="redis://h/0", connected=True, since=1.0, dropped=2)
    async with running_api(make_context()) as api:
        await publish(bus, *task_events(1), *task_events(2, name="proj.mul"))
        await stored(api, await publish(bus, report, kind=subjects.COLLECTOR))
        overview = await ask(bus, "overview", queries.Overview)
    assert (overview.collector.connected, overview.collector.dropped, overview.tasks_stored) == (True, 2, 2)
    assert {row.name: row.succeeded for row in overview.types} == {"proj.add": 1, "proj.mul": 1}
    assert overview.types[0].runtime == pytest.approx(0.1)


async def test_many_new_tasks_of_one_group_each_get_their_own_row(bus: Bus, make_context: MakeContext) -> None:
    facts = [fact for number in range(150) for fact in task_events(number, name=f"proj.n{number}")]
    await publish(bus, *facts)
    async with running_api(make_context()) as api:
        await stored(api, 1)
        for number in (0, 63, 64, 127, 128, 149):  # at the edges of the statements that write them
            task = (await ask(bus, "task", queries.TaskAnswer, uuid=f"task-{number}")).task
            assert task is not None
            assert (task["name"], task["result"], task["state"]) == (f"proj.n{number}", str(number), "SUCCESS")
        assert (await ask(bus, "overview", queries.Overview)).tasks_stored == 150


async def test_intent_and_outcome_are_one_audit_row(bus: Bus, make_context: MakeContext) -> None:
    intent = AuditIntent(
        id="a1", cluster=CLUSTER, at=10.0, actor="ann", actor_kind="user", source="::1", command="revoke", target="t"
    )
    outcome = AuditOutcome(id="a1", cluster=CLUSTER, at=11.0, code="ok", message="Revoked", seconds=1.0)
    async with running_api(make_context()):
        for record in (outcome, intent, outcome):
            await bus.append(subjects.audit(CLUSTER), encode(record))
        await bus.append(subjects.audit(CLUSTER), b"no record")

        async def both() -> queries.AuditRow | None:
            rows = (await ask(bus, "audit", queries.AuditList, actor="ann")).rows
            return rows[0] if rows and rows[0].code else None

        row = await eventually(both)
        assert (row.at, row.target, row.code, row.message) == (10.0, "t", "ok", "Revoked")
        assert len((await ask(bus, "audit", queries.AuditList)).rows) == 1


async def test_the_oldest_tasks_go_when_there_are_too_many(bus: Bus, make_context: MakeContext) -> None:
    context = make_context(max_tasks=5)
    async with running_api(context) as api:
        last = 0
        for number in range(12):
            last = await publish(bus, *task_events(number, at=1000.0 + number + time.time()))
        await stored(api, last)
    async with running_api(context):

        async def few() -> bool:
            return (await ask(bus, "overview", queries.Overview)).tasks_stored == 5

        await eventually(few)
        rows = (await ask(bus, "tasks", queries.TaskList, sort="received")).rows
        assert [row.uuid for row in rows] == [f"task-{n}" for n in range(7, 12)]


async def is_known(bus: Bus, uuid: str) -> bool:
    return (await ask(bus, "task", queries.TaskAnswer, uuid=uuid)).task is not None


async def remake_stream(bus: Bus) -> None:
    async with operator(bus) as jetstream:
        await jetstream.delete_stream(subjects.EVENTS_STREAM)
    await bus.declare_streams(StreamLimits())
