"""The api on PostgreSQL: the same promises as on SQLite, and several processes on one database."""

import asyncio
import os
import signal
import time
from contextlib import AsyncExitStack

import pytest

from meadow import queries, subjects
from meadow.audit import AuditIntent, AuditOutcome
from meadow.bus import Bus
from meadow.codec import encode, encode_batch
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


@pytest.fixture
def context(make_context: MakeContext, postgres: str) -> Context:
    return make_context(store=postgres)


async def received_total(bus: Bus) -> int:
    overview = await ask(bus, "overview", queries.Overview)
    return sum(point.received for point in overview.points)


async def is_known(bus: Bus, uuid: str) -> bool:
    return (await ask(bus, "task", queries.TaskAnswer, uuid=uuid)).task is not None


async def test_all_kinds_of_facts_are_stored_and_asked_for(bus: Bus, context: Context) -> None:
    now = time.time()
    async with running_api(context) as api:
        await publish(bus, *task_events(1), *task_events(2, name="proj.mul"), heartbeat())
        inspected = WorkerInspected(hostname="w1@h", seen=now, replies={"active_queues": [{"name": "high"}]})
        await publish(bus, inspected, kind=subjects.WORKERS)
        await publish(
            bus, CollectorReported(seen=now, broker="redis://h/0", connected=True, since=1.0), kind=subjects.COLLECTOR
        )
        observed = QueuesObserved(seen=now, queues=(QueueDepth(name="high", messages=3),))
        await stored(api, await publish(bus, observed, kind=subjects.QUEUES))
        rows = (await ask(bus, "tasks", queries.TaskList, sort="name")).rows
        task = (await ask(bus, "task", queries.TaskAnswer, uuid="task-1")).task
        overview = await ask(bus, "overview", queries.Overview)
        workers = (await ask(bus, "workers", queries.WorkerList)).rows
        queues = (await ask(bus, "queues", queries.QueueList)).rows
        pipeline = await ask(bus, "pipeline", queries.Pipeline)
    assert [(row.uuid, row.name, row.state) for row in rows] == [
        ("task-1", "proj.add", "SUCCESS"),
        ("task-2", "proj.mul", "SUCCESS"),
    ]
    assert task is not None
    assert (task["result"], task["worker"], task["runtime"]) == ("1", "w1@h", 0.1)
    assert (overview.tasks_stored, overview.collector.connected) == (2, True)
    assert {row.name: row.succeeded for row in overview.types} == {"proj.add": 1, "proj.mul": 1}
    assert [(row.hostname, row.queues, row.counters["task-received"]) for row in workers] == [("w1@h", ["high"], 2)]
    assert [(row.name, row.messages) for row in queues] == [("high", 3)]
    assert [row.hostname for row in pipeline.workers] == ["w1@h"]


async def test_a_restart_goes_on_where_the_data_ends_and_doubles_nothing(bus: Bus, context: Context) -> None:
    batch = encode_batch(CLUSTER, "c", [*task_events(1), heartbeat()])
    subject = subjects.events(CLUSTER, subjects.TASKS)
    async with running_api(context) as api:
        await bus.append(subject, batch)
        await stored(api, await bus.append(subject, batch))
    last = await publish(bus, *task_events(2))
    async with running_api(context) as api:
        await stored(api, last)
        assert await received_total(bus) == 2
        worker = (await ask(bus, "worker", queries.WorkerAnswer, hostname="w1@h")).worker
    assert worker is not None
    assert worker.counters == {"task-received": 2, "task-started": 2, "task-succeeded": 2, "worker-heartbeat": 1}


async def test_texts_that_postgresql_cannot_hold_are_made_fit(bus: Bus, context: Context) -> None:
    """NUL is the one character that PostgreSQL refuses; it becomes the sign for what cannot be shown."""
    strange = "Robert'); DROP TABLE tasks;--\0日本\u202e%s"
    async with running_api(context) as api:
        poison = TaskStarted(uuid="poison", hostname="w1@h", timestamp=1.0, seen=1e300)
        await publish(bus, poison)
        events = [TaskStarted(uuid=strange, hostname=strange, timestamp=1.0, seen=time.time())]
        await publish(bus, *events)
        await stored(api, await publish(bus, *events, *task_events(1)))
        found = (await ask(bus, "task", queries.TaskAnswer, uuid=strange)).task
        assert found is not None
        assert found["worker"] == strange.replace("\0", "\ufffd")
        assert await is_known(bus, "task-1")
        assert api.health()["streams"][subjects.EVENTS_STREAM]["rejected"] == 1


async def test_an_audit_record_that_cannot_be_stored_takes_no_other_with_it(bus: Bus, context: Context) -> None:
    common = {"at": time.time(), "cluster": CLUSTER, "actor": "ann", "actor_kind": "user", "source": "web"}
    too_long_for_an_index = os.urandom(8000).hex()
    for name, target in (("a1", "celery@w1"), (too_long_for_an_index, "celery@w9"), ("a2", "celery@w2")):
        intent = AuditIntent(id=name, command="ping", target=target, **common)
        await bus.append(subjects.audit(CLUSTER), encode(intent))
    async with running_api(context) as api:
        await eventually(lambda: api.health()["streams"][subjects.AUDIT_STREAM]["position"] >= 3)
        rows = (await ask(bus, "audit", queries.AuditList, actor="ann")).rows
        assert sorted(row.target for row in rows) == ["celery@w1", "celery@w2"]
        assert api.health()["streams"][subjects.AUDIT_STREAM]["rejected"] == 1


async def test_many_new_tasks_of_one_group_each_get_their_own_row(bus: Bus, context: Context) -> None:
    facts = [fact for number in range(150) for fact in task_events(number, name=f"proj.n{number}")]
    await publish(bus, *facts)
    async with running_api(context) as api:
        await stored(api, 1)
        for number in (0, 63, 64, 127, 128, 149):  # at the edges of the statements that write them
            task = (await ask(bus, "task", queries.TaskAnswer, uuid=f"task-{number}")).task
            assert task is not None
            assert (task["name"], task["result"], task["state"]) == (f"proj.n{number}", str(number), "SUCCESS")
        assert (await ask(bus, "overview", queries.Overview)).tasks_stored == 150


async def test_intent_and_outcome_are_one_audit_row(bus: Bus, context: Context) -> None:
    intent = AuditIntent(
        id="a1", cluster=CLUSTER, at=10.0, actor="ann", actor_kind="user", source="::1", command="revoke", target="t"
    )
    outcome = AuditOutcome(id="a1", cluster=CLUSTER, at=11.0, code="ok", message="Revoked", seconds=1.0)
    async with running_api(context):
        for record in (outcome, intent, outcome):
            await bus.append(subjects.audit(CLUSTER), encode(record))

        async def both() -> queries.AuditRow | None:
            rows = (await ask(bus, "audit", queries.AuditList, actor="ann")).rows
            return rows[0] if rows and rows[0].code else None

        row = await eventually(both)
    assert (row.at, row.target, row.code, row.message) == (10.0, "t", "ok", "Revoked")


def writes(api: object) -> bool:
    return bool(api.health()["writes"])  # type: ignore[attr-defined]


async def test_of_two_processes_one_writes_and_the_other_takes_over(
    bus: Bus, make_context: MakeContext, postgres: str
) -> None:
    async with AsyncExitStack() as first_life:
        first = await first_life.enter_async_context(running_api(make_context(store=postgres)))
        await eventually(lambda: writes(first))
        async with running_api(make_context(store=postgres)) as second:
            await publish(bus, *task_events(1))
            last = await publish(bus, *task_events(2))
            await stored(first, last)
            await stored(second, last)  # it looks on, and knows how far the store is
            assert (writes(first), writes(second)) == (True, False)
            await first_life.aclose()
            await eventually(lambda: writes(second))
            await stored(second, await publish(bus, *task_events(3), heartbeat()))
            assert await received_total(bus) == 3
            assert await is_known(bus, "task-3")


async def test_a_process_that_was_cut_off_writes_nothing_twice(
    bus: Bus, make_context: MakeContext, postgres: str, postgres_server: object
) -> None:
    """Its lock is gone, another has taken over; what it still has under way comes to nothing."""
    async with running_api(make_context(store=postgres)) as first, running_api(make_context(store=postgres)) as second:
        both = (first, second)
        for number in range(1, 40):
            last = await publish(bus, *task_events(number))
            if number % 10 == 0:
                await asyncio.to_thread(cut_leader, postgres)
        await eventually(lambda: sum(map(writes, both)) == 1)
        await stored(first if writes(first) else second, last)
        assert await received_total(bus) == 39
        overview = await ask(bus, "overview", queries.Overview)
        assert overview.tasks_stored == 39


def cut_leader(url: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'meadow (leads)' AND datname = current_database()"
        )


async def test_a_server_that_goes_and_comes_back_loses_nothing(
    bus: Bus, make_context: MakeContext, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.servers import free_port, running_postgres

    port = free_port()
    with running_postgres(port=port) as server:
        url = server.fresh()
        async with running_api(make_context(store=url)) as api:
            await stored(api, await publish(bus, *task_events(1)))
            os.kill(server.process.pid, signal.SIGQUIT)  # at once, as in a crash
            await asyncio.to_thread(server.process.wait)
            last = await publish(bus, *task_events(2))
            await eventually(lambda: "does not answer" in str(api.health()["error"]), timeout=20)
            with running_postgres(server.home, port):
                await stored(api, last)
                await eventually(lambda: api.health()["error"] is None)
                assert await received_total(bus) == 2
                await api.stop()
    said = [r.message for r in caplog.records if getattr(r, "action", "") == "store.waits"]
    assert 1 <= len(said) <= 4, said
