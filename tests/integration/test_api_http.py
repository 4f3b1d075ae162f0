"""The reading half of the REST API answers in Flower's shapes, with Flower's status codes and texts."""

import json
import time
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from meadow import subjects
from meadow.audit import AuditIntent, AuditOutcome
from meadow.bus import Bus
from meadow.codec import decode, encode
from meadow.commands import CommandReply, CommandRequest, InspectWorkers
from meadow.events import (
    AnyFact,
    CollectorReported,
    QueueDepth,
    QueuesObserved,
    TaskFailed,
    TaskReceived,
    TaskRejected,
    TaskRetried,
    TaskSent,
    WorkerInspected,
    WorkerOffline,
)
from meadow.testing import eventually
from meadow_api.shapes import FLOWER_KEYS
from tests.integration.api_service import (
    CLUSTER,
    MakeContext,
    heartbeat,
    publish,
    serving,
    stored,
    task_events,
)

NOW = 1795381962.0
PLAIN = "text/plain; charset=UTF-8"
JSON = "application/json; charset=UTF-8"
HTML = "text/html; charset=UTF-8"


async def get(client: aiohttp.ClientSession, path: str, **query: str) -> tuple[int, Any]:
    async with client.get(path, params=query) as response:
        body = await response.text()
        return response.status, json.loads(body) if response.content_type == "application/json" else body


async def listed(client: aiohttp.ClientSession, **query: str) -> list[str]:
    status, body = await get(client, "/api/tasks", **query)
    assert status == 200, body
    return list(body)


def history() -> list[AnyFact]:
    """Five tasks of different fates."""
    base = {"hostname": "w1@golden", "seen": NOW, "pid": 7}
    facts: list[AnyFact] = []
    for n in (1, 2):
        facts += task_events(n, worker="w1@golden", at=NOW + n)
    facts += [
        TaskSent(
            uuid="parked",
            hostname="gen1@web",
            timestamp=NOW + 3,
            seen=NOW,
            clock=9,
            name="proj.add",
            args="[1, 1]",
            kwargs="{}",
            root_id="parked",
            exchange="",
            routing_key="nobody",
        ),
        TaskReceived(
            uuid="rejected", timestamp=NOW + 4, name="proj.reject", args="()", kwargs="{}", root_id="rejected", **base
        ),
        TaskFailed(uuid="rejected", timestamp=NOW + 5, exception="no thanks", traceback="Traceback…", **base),
        TaskRejected(uuid="rejected", timestamp=NOW + 5.1, **base),
        TaskReceived(
            uuid="retry",
            timestamp=NOW + 6,
            name="proj.żółć",
            args="('日本語',)",
            kwargs="{'colour': 'Green', 'n': 7}",
            root_id="root",
            parent_id="retry",
            retries=1,
            **{**base, "hostname": "w2@golden"},
        ),
        TaskRetried(uuid="retry", timestamp=NOW + 7, exception="E()", **{**base, "hostname": "w2@golden"}),
    ]
    return facts


async def test_healthcheck_says_ok(make_context: MakeContext) -> None:
    async with serving(make_context()) as (_, client), client.get("/healthcheck") as response:
        assert (response.status, await response.text(), response.headers["Content-Type"]) == (200, "OK", HTML)
        assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/api/workers", "/api/tasks", "/api/task/info/x", "/api/task/types", "/healthcheck"])
async def test_methods_are_as_in_flower(make_context: MakeContext, path: str) -> None:
    async with serving(make_context()) as (_, client):
        for method, status in (("HEAD", 405), ("POST", 405), ("PUT", 405), ("OPTIONS", 204)):
            async with client.request(method, path) as response:
                assert (method, response.status, await response.text()) == (method, status, "")


async def test_a_tasks_info_has_flowers_31_keys_in_flowers_order(bus: Bus, make_context: MakeContext) -> None:
    async with serving(make_context()) as (api, client):
        await stored(api, await publish(bus, *history()))
        status, task = await get(client, "/api/task/info/task-1")
        _, parked = await get(client, "/api/task/info/parked")
        _, rejected = await get(client, "/api/task/info/rejected")
        _, retry = await get(client, "/api/task/info/retry")
    assert status == 200
    assert list(task) == list(FLOWER_KEYS)
    assert (task["state"], task["runtime"], task["root"], task["children"]) == ("SUCCESS", 0.1, "task-1", [])
    assert (parked["state"], parked["worker"], parked["client"], parked["exchange"]) == (
        "PENDING",
        None,
        "gen1@web",
        "",
    )
    assert (parked["timestamp"], parked["clock"], parked["received"]) == (NOW + 3, 9, None)
    assert (rejected["state"], rejected["failed"], rejected["rejected"]) == ("FAILURE", NOW + 5, NOW + 5.1)
    assert (retry["state"], retry["parent"], retry["children"]) == ("RETRY", "retry", ["retry"])


@pytest.mark.parametrize(
    ("path", "uuid"),
    [
        ("/api/task/info/nobody", "nobody"),
        ("/api/task/info/", ""),
        ("/api/task/info/%3Cb%3Ex%3C%2Fb%3E", "<b>x</b>"),
        ("/api/task/info/a/b", "a/b"),
        ("/api/task/info/a%00b", "a\0b"),
        ("/api/task/info/'%20OR%201=1%20--", "' OR 1=1 --"),
        ("/api/task/info/" + "x" * 5000, "x" * 5000),
    ],
)
async def test_an_unknown_task_is_a_404_with_a_sentence(make_context: MakeContext, path: str, uuid: str) -> None:
    from yarl import URL

    async with serving(make_context()) as (_, client):
        url = URL(str(client._base_url).rstrip("/") + path, encoded=True)
        async with client.get(url) as response:
            assert (response.status, response.headers["Content-Type"]) == (404, PLAIN)
            assert await response.text() == f"Unknown task '{uuid}'"


async def test_the_task_list_is_filtered_sorted_and_cut_as_in_flower(bus: Bus, make_context: MakeContext) -> None:
    async with serving(make_context()) as (api, client):
        await stored(api, await publish(bus, *history()))
        assert await listed(client) == ["retry", "rejected", "parked", "task-2", "task-1"]
        assert await listed(client, sort_by="received") == ["parked", "task-1", "task-2", "rejected", "retry"]
        assert await listed(client, sort_by="-received", limit="2") == ["retry", "rejected"]
        assert await listed(client, sort_by="name", offset="1", limit="2") == ["task-1", "task-2"]
        assert await listed(client, sort_by="-state") == ["task-2", "task-1", "retry", "parked", "rejected"]
        assert await listed(client, limit="0") == []
        assert await listed(client, limit="-1") == []
        assert await listed(client, offset="-5", limit="1") == ["retry"]
        assert await listed(client, offset="9" * 30) == []
        assert await listed(client, state="success") == ["task-2", "task-1"]
        assert await listed(client, taskname="PROJ.REJECT") == ["rejected"]
        assert await listed(client, workername="W2@golden") == ["retry"]
        assert await listed(client, workername="nobody") == []
        assert await listed(client, state="All", taskname="All", workername="All", limit="1") == ["retry"]
        assert await listed(client, received_end="2020-01-01 00:00") == ["parked"]
        assert len(await listed(client, received_start="2020-01-01 00:00", received_end="2099-01-01 00:00")) == 5


async def test_a_listed_task_has_its_worker_last_or_not_at_all(bus: Bus, make_context: MakeContext) -> None:
    async with serving(make_context()) as (api, client):
        await stored(api, await publish(bus, *history()))
        _, tasks = await get(client, "/api/tasks")
    assert list(tasks["task-1"])[-1] == "worker"
    assert sorted(tasks["task-1"]) == sorted(FLOWER_KEYS)
    assert "worker" not in tasks["parked"]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("PROJ.REJ", ["rejected"]),
        ("name:żół", ["retry"]),
        ("ŻÓŁĆ", ["retry"]),
        ("args:日本語", ["retry"]),
        ("kwargs:colour=green", ["retry"]),
        ("kwargs:n=7", ["retry"]),
        ("kwargs:n=8", []),
        ("kwargs:colour", ["retry"]),
        ("worker:w2@golden", ["retry"]),
        ("state:failure OR state:retry", ["rejected", "retry"]),
        ("(name:proj.add OR name:proj.reject) state:success", ["task-1", "task-2"]),
        ("uuid:task-1", ["task-1"]),
        ("task-1", ["task-1"]),
        ("colour:green", []),
        ("100%", []),
        ("t_sk", []),
        ("';DROP", []),
        ("", ["parked", "task-1", "task-2", "rejected", "retry"]),
    ],
)
async def test_search(bus: Bus, make_context: MakeContext, search: str, found: list[str]) -> None:
    async with serving(make_context()) as (api, client):
        await stored(api, await publish(bus, *history()))
        assert await listed(client, search=search, sort_by="received") == found


@pytest.mark.parametrize(
    ("query", "kind", "answer"),
    [
        ({"search": '"open'}, JSON, '{"error":"Unterminated quoted phrase at position 0."}'),
        ({"sort_by": "runtime"}, PLAIN, "Invalid sort_by 'runtime', expected one of name, received, started, state"),
        ({"limit": "ten"}, PLAIN, "Invalid argument 'ten' of type 'int'"),
        ({"offset": "1.5"}, PLAIN, "Invalid argument '1.5' of type 'int'"),
        (
            {"received_start": "yesterday"},
            PLAIN,
            "Invalid received_start or received_end, expected format 'YYYY-MM-DD HH:MM'",
        ),
        (
            {"received_end": "0001-01-01 00:00"},
            PLAIN,
            "Invalid received_start or received_end, expected format 'YYYY-MM-DD HH:MM'",
        ),
    ],
)
async def test_wrong_arguments_are_a_400_with_flowers_text(
    make_context: MakeContext, query: dict[str, str], kind: str, answer: str
) -> None:
    async with serving(make_context()) as (_, client), client.get("/api/tasks", params=query) as response:
        assert (response.status, response.headers["Content-Type"], await response.text()) == (400, kind, answer)


async def test_a_long_list_without_limit_is_whole(bus: Bus, make_context: MakeContext) -> None:
    async with serving(make_context()) as (api, client):
        sequence = 0
        for start in range(0, 3000, 500):
            facts = [fact for n in range(start, start + 500) for fact in task_events(n, at=NOW + n)]
            sequence = await publish(bus, *facts)
        await stored(api, sequence)
        found = await listed(client)
    assert found == [f"task-{n}" for n in reversed(range(3000))]


async def test_an_unchanged_answer_is_not_sent_again(bus: Bus, make_context: MakeContext) -> None:
    async with serving(make_context()) as (api, client):
        await stored(api, await publish(bus, *history()))
        async with client.get("/api/tasks") as first:
            etag = first.headers["Etag"]
        async with client.get("/api/tasks", headers={"If-None-Match": f'"other", W/{etag}'}) as again:
            assert (again.status, await again.read()) == (304, b"")
        async with client.get("/api/tasks", headers={"If-None-Match": '"other"'}) as other:
            assert other.status == 200


async def test_task_types_are_sorted_names(bus: Bus, make_context: MakeContext) -> None:
    async with serving(make_context()) as (api, client):
        assert await get(client, "/api/task/types") == (200, {"task-types": []})
        await stored(api, await publish(bus, *history()))
        assert await get(client, "/api/task/types") == (200, {"task-types": ["proj.add", "proj.reject", "proj.żółć"]})


async def test_workers_are_what_was_inspected_and_status_is_who_is_online(bus: Bus, make_context: MakeContext) -> None:
    async with serving(make_context()) as (api, client):
        assert await get(client, "/api/workers") == (200, {})
        inspected = WorkerInspected(hostname="w1@h", seen=NOW, replies={"stats": {"pid": 7}, "registered": ["a"]})
        later = time.time() + 1.0
        gone = WorkerOffline(hostname="w2@h", timestamp=later, seen=later)
        await stored(api, await publish(bus, heartbeat("w1@h"), heartbeat("w2@h"), gone, inspected))
        assert await get(client, "/api/workers") == (
            200,
            {"w1@h": {"timestamp": NOW, "stats": {"pid": 7}, "registered": ["a"]}},
        )
        assert await get(client, "/api/workers", workername="w2@h") == (200, {"w2@h": {}})
        assert await get(client, "/api/workers", status="1", workername="x") == (200, {"w1@h": True, "w2@h": False})
        assert await get(client, "/api/workers", workername="x") == (404, "Unknown worker 'x'")
        assert await get(client, "/api/workers", refresh="maybe") == (400, "Invalid argument 'maybe' of type 'bool'")


async def test_refresh_asks_the_controller_and_remembers_its_answer(bus: Bus, make_context: MakeContext) -> None:
    context = make_context()
    asked: list[InspectWorkers] = []

    async def controller(data: bytes) -> bytes:
        request = decode(data, CommandRequest)
        assert context.gate.verify(request.claim).name == "anonymous"
        assert isinstance(request.command, InspectWorkers)
        asked.append(request.command)
        replies = {"stats": {"pid": len(asked)}}
        await publish(bus, WorkerInspected(hostname="w1@h", seen=time.time(), replies=replies), kind=subjects.WORKERS)
        return encode(CommandReply(value={"w1@h": replies | {"timestamp": time.time()}}))

    await bus.answer({subjects.command(CLUSTER): controller}, group="controller")
    async with serving(context) as (_, client):
        _, all_workers = await get(client, "/api/workers", refresh="1")
        assert all_workers["w1@h"]["stats"] == {"pid": 1}
        assert all_workers["w1@h"]["timestamp"] == pytest.approx(time.time(), abs=30)
        _, one = await get(client, "/api/workers", refresh="true", workername="w1@h")
        assert one["w1@h"]["stats"] == {"pid": 2}

        async def remembered() -> bool:
            status, workers = await get(client, "/api/workers")
            return (status, workers.get("w1@h", {}).get("stats")) == (200, {"pid": 2})

        await eventually(remembered)
    assert [(wish.workers, len(wish.methods)) for wish in asked] == [(None, 4), (("w1@h",), 8)]


async def test_without_a_controller_a_refresh_answers_what_is_known(make_context: MakeContext) -> None:
    async with serving(make_context()) as (_, client):
        assert await get(client, "/api/workers", refresh="1") == (200, {})


async def observe(bus: Bus, broker: str, *queues: QueueDepth, **more: Any) -> int:
    report = CollectorReported(seen=time.time(), broker=broker, connected=True, since=NOW)
    await publish(bus, report, kind=subjects.COLLECTOR)
    return await publish(bus, QueuesObserved(seen=time.time(), queues=queues, **more), kind=subjects.QUEUES)


async def test_queue_lengths_are_those_of_the_last_observation(bus: Bus, make_context: MakeContext) -> None:
    async with serving(make_context()) as (api, client):
        inspected = WorkerInspected(hostname="w1@h", seen=NOW, replies={"active_queues": [{"name": "other"}]})
        await publish(bus, inspected, kind=subjects.WORKERS)
        depths = (QueueDepth(name="other", messages=2), QueueDepth(name="celery", messages=0))
        await stored(api, await observe(bus, "redis://h/0", *depths))
        expected = [{"name": "celery", "messages": 0}, {"name": "other", "messages": 2}]
        assert await get(client, "/api/queues/length") == (200, {"active_queues": expected})


async def test_a_queue_that_was_not_observed_yet_is_waited_for(bus: Bus, make_context: MakeContext) -> None:
    import asyncio

    async with serving(make_context()) as (api, client):
        inspected = WorkerInspected(hostname="w1@h", seen=NOW, replies={"active_queues": [{"name": "extra"}]})
        await publish(bus, inspected, kind=subjects.WORKERS)
        await stored(api, await observe(bus, "redis://h/0", QueueDepth(name="celery", messages=0)))
        asking = asyncio.create_task(get(client, "/api/queues/length"))
        await observe(bus, "redis://h/0", QueueDepth(name="celery", messages=0), QueueDepth(name="extra", messages=5))
        _, body = await asking
    assert body["active_queues"][-1] == {"name": "extra", "messages": 5}


async def test_what_the_management_api_says_of_a_queue_is_passed_through(bus: Bus, make_context: MakeContext) -> None:
    raw = {"name": "celery", "messages": 1, "idle_since": "2026-11-22", "consumers": 3}
    async with serving(make_context()) as (api, client):
        await stored(api, await observe(bus, "amqp://h//", QueueDepth(name="celery", messages=1, raw=raw)))
        assert await get(client, "/api/queues/length") == (200, {"active_queues": [raw]})


@pytest.mark.parametrize(
    ("broker", "more", "answer"),
    [
        ("memory://", {"supported": False}, (404, "'memory' broker is not supported")),
        ("redis://h/0", {"error": "connection refused"}, (500, "")),
        ("amqp://h//", {"error": "connection refused"}, (200, {"active_queues": []})),
    ],
)
async def test_lengths_that_cannot_be_read(
    bus: Bus, make_context: MakeContext, broker: str, more: dict[str, Any], answer: tuple[int, Any]
) -> None:
    async with serving(make_context()) as (api, client):
        await stored(api, await observe(bus, broker, **more))
        assert await get(client, "/api/queues/length") == answer


async def test_the_audit_log_is_paged_and_filtered(bus: Bus, make_context: MakeContext) -> None:
    async with serving(make_context()) as (_, client):
        for n in range(5):
            intent = AuditIntent(
                id=f"a{n}",
                cluster=CLUSTER,
                at=float(n),
                actor="ann" if n % 2 else "bob",
                actor_kind="user",
                source="::1",
                command="revoke",
                target=f"t{n}",
            )
            await bus.append(subjects.audit(CLUSTER), encode(intent))
        await bus.append(subjects.audit(CLUSTER), encode(AuditOutcome(id="a4", cluster=CLUSTER, at=9.0, code="ok")))

        async def complete() -> Any:
            _, body = await get(client, "/api/v1/audit", limit="3")
            return body if body["rows"] and body["rows"][0]["code"] else None

        first = await eventually(complete)
        _, second = await get(client, "/api/v1/audit", limit="3", cursor=first["next"])
        assert [row["id"] for row in (*first["rows"], *second["rows"])] == ["a4", "a3", "a2", "a1", "a0"]
        assert second["next"] is None
        _, by_ann = await get(client, "/api/v1/audit", actor="ann")
        assert [row["id"] for row in by_ann["rows"]] == ["a3", "a1"]
        _, of_target = await get(client, "/api/v1/audit", target="t2")
        assert [row["actor"] for row in of_target["rows"]] == ["bob"]
        for wrong in ({"limit": "x"}, {"limit": "0"}, {"limit": "100000"}):
            assert (await get(client, "/api/v1/audit", **wrong))[0] == 400
        for foreign in ("?", "W10="):
            assert (await get(client, "/api/v1/audit", cursor=foreign))[0] == 422


async def test_health_tells_how_far_facts_have_come(bus: Bus, make_context: MakeContext) -> None:
    async with serving(make_context()) as (api, client):
        await publish(bus, *history())
        await stored(api, await observe(bus, "redis://h/0"))
        status, body = await get(client, "/api/v1/health")
    assert (status, body["ok"]) == (200, True)
    assert body["streams"]["MEADOW_EVENTS"]["position"] == 3
    assert body["collector"]["connected"] is True


async def test_format_task_applies_to_everything_that_leaves(bus: Bus, make_context: MakeContext) -> None:
    def hide(task: SimpleNamespace) -> SimpleNamespace:
        if task.uuid == "rejected":
            raise ValueError("not this one")
        task.args = "***" if task.worker is None or task.worker.hostname else ""
        return task

    async with serving(make_context(format_task=hide)) as (api, client):
        await stored(api, await publish(bus, *history()))
        _, tasks = await get(client, "/api/tasks")
        _, one = await get(client, "/api/task/info/task-1")
        _, hidden = await get(client, "/api/task/info/rejected")
    assert {task["args"] for uuid, task in tasks.items() if uuid != "rejected"} == {"***"}
    assert (one["args"], one["worker"], one["result"]) == ("***", "w1@golden", "1")
    assert hidden["args"] == hidden["exception"] == hidden["traceback"] == "(hidden: format_task failed for this task)"
