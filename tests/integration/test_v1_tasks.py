"""/api/v1/tasks: pages of a search, fields, cursors, and one task by whatever id it has."""

import time
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest

from meadow import subjects
from meadow.events import TaskFailed, TaskReceived, TaskRetried, TaskStarted, WorkerOffline
from meadow.testing import eventually
from tests.integration.api_service import MakeContext, heartbeat, publish
from tests.integration.v1_store import NOW, ODD_ID, failed, get, get_as_written, task, telling


def numbered(count: int) -> list[object]:
    return [fact for number in range(count) for fact in task(number)]


async def test_pages_follow_each_other_by_cursor_and_back_again(make_context: MakeContext) -> None:
    async with telling(make_context, *numbered(7)) as (_, client):
        seen, cursor, pages = [], None, []
        while True:
            query = {"limit": 3, "sort": "received"} | ({"cursor": cursor} if cursor else {})
            status, page = await get(client, "tasks", **query)
            assert status == 200
            pages.append([row["uuid"] for row in page["tasks"]])
            seen += pages[-1]
            cursor = page["next"]
            if cursor is None:
                break
        assert seen == [f"task-{n}" for n in range(7)]
        _, before = await get(client, "tasks", limit=3, sort="received", cursor=page["previous"])
        assert [row["uuid"] for row in before["tasks"]] == pages[-2]


async def test_filters_are_whole_values_and_narrow_each_other(make_context: MakeContext) -> None:
    facts = [*numbered(4), *task(50, name="proj.mail", worker="w2@h"), *failed(1, 42, at=NOW)]
    async with telling(make_context, *facts) as (_, client):
        for query, expected in (
            ({"state": "FAILURE"}, ["failed-1"]),
            ({"name": "proj.mail"}, ["task-50"]),
            ({"name": "proj.mai"}, []),
            ({"worker": "w2@h"}, ["task-50"]),
            ({"queue": "high"}, ["task-3", "task-1"]),
            ({"queue": "high", "q": 'args:"(1,"'}, ["task-1"]),
            ({"q": "state:FAILURE"}, ["failed-1"]),
        ):
            status, page = await get(client, "tasks", **query)
            assert (status, [row["uuid"] for row in page["tasks"]]) == (200, expected), query


async def test_only_the_fields_that_are_asked_for_are_sent(make_context: MakeContext) -> None:
    async with telling(make_context, *numbered(1)) as (_, client):
        _, page = await get(client, "tasks", fields="uuid,runtime,queue,root,updated")
        assert page["tasks"] == [
            {"uuid": "task-0", "queue": "low", "updated": NOW + 0.3, "runtime": 0.1, "root": "task-0"}
        ]
        _, again = await get(client, "tasks", fields="uuid,updated,uuid,children")
        assert [list(task) for task in again["tasks"]] == [["uuid", "updated", "children"]] * len(page["tasks"])
        status, problem = await get(client, "tasks", fields="uuid,colour")
        assert (status, problem["error"]) == (400, "invalid-parameter")
        assert "colour" in problem["message"]


async def test_long_texts_are_cut_in_a_list_and_whole_in_the_task(make_context: MakeContext) -> None:
    long = "(" + "x" * 900 + ")"
    async with telling(make_context, *task(1, args=long)) as (_, client):
        _, page = await get(client, "tasks", text=10)
        _, detail = await get(client, "tasks/task-1")
    assert page["tasks"][0]["args"] == long[:10] + "…"
    assert page["tasks"][0]["cut"] == ["args"]
    assert detail["task"]["args"] == long
    assert "cut" not in detail["task"]


@pytest.mark.parametrize("path", [quote(ODD_ID, safe=""), quote(ODD_ID, safe="/")])
async def test_a_task_is_found_by_an_id_with_slashes_and_worse(make_context: MakeContext, path: str) -> None:
    async with telling(make_context, *task(1, uuid=ODD_ID)) as (_, client):
        status, detail = await get_as_written(client, f"tasks/{path}")
    assert (status, detail["task"]["uuid"]) == (200, ODD_ID)


async def test_a_task_tells_its_attempts_and_its_moments_in_order(make_context: MakeContext) -> None:
    async with telling(make_context, *task(1)) as (_, client):
        _, detail = await get(client, "tasks/task-1")
    assert [moment["what"] for moment in detail["timeline"]] == ["sent", "received", "started", "succeeded"]
    assert [moment["at"] for moment in detail["timeline"]] == [NOW + 1, NOW + 1.1, NOW + 1.2, NOW + 1.3]
    (attempt,) = detail["attempts"]
    assert (attempt["state"], attempt["worker"], attempt["started"], attempt["ended"]) == (
        "SUCCESS",
        "w1@h",
        NOW + 1.2,
        NOW + 1.3,
    )


async def test_a_retried_task_tells_each_attempt_with_its_own_worker_and_error(make_context: MakeContext) -> None:
    base = {"uuid": "again", "seen": NOW, "pid": 7}
    first, second = {**base, "hostname": "w1@h"}, {**base, "hostname": "w2@h"}
    facts = [
        TaskReceived(**first, timestamp=NOW + 1, clock=1, name="proj.flaky"),
        TaskStarted(**first, timestamp=NOW + 2, clock=2),
        TaskRetried(**first, timestamp=NOW + 3, clock=3, exception="Timeout('first')", traceback="one"),
        TaskReceived(**second, timestamp=NOW + 4, clock=4, name="proj.flaky", retries=1),
        TaskStarted(**second, timestamp=NOW + 5, clock=5),
        TaskFailed(**second, timestamp=NOW + 6, clock=6, exception="Gone('last')", traceback="two"),
    ]
    async with telling(make_context, *facts) as (_, client):
        _, detail = await get(client, "tasks/again")
    shown = [(a["number"], a["worker"], a["state"], a["started"], a["exception"]) for a in detail["attempts"]]
    assert shown == [
        (1, "w1@h", "RETRY", NOW + 2, "Timeout('first')"),
        (2, "w2@h", "FAILURE", NOW + 5, "Gone('last')"),
    ]
    assert [(m["what"], m["at"] - NOW) for m in detail["timeline"]] == [
        ("received", 1),
        ("started", 2),
        ("retried", 3),
        ("received", 4),
        ("started", 5),
        ("failed", 6),
    ]


async def test_a_task_whose_worker_went_away_is_marked_and_found(make_context: MakeContext) -> None:
    now = time.time()
    base = {"uuid": "held", "hostname": "w5@h", "seen": now, "pid": 7}
    facts = [
        TaskReceived(**base, timestamp=now - 9, clock=1, name="proj.heavy"),
        TaskStarted(**base, timestamp=now - 8, clock=2),
    ]
    async with telling(make_context, *facts) as (service, client):
        gone = WorkerOffline(hostname="w5@h", timestamp=now, seen=now, clock=99, pid=7)
        # Workers are looked at every few seconds of the stream's own time.
        await publish(service._context.bus, gone, heartbeat("w6@h", at=now + 10), kind=subjects.WORKERS)

        async def lost() -> dict[str, Any]:
            _, detail = await get(client, "tasks/held")
            return detail if detail["task"]["lost_since"] else {}

        detail = await eventually(lost)
        _, page = await get(client, "tasks", q="is:lost")
    assert (detail["task"]["state"], detail["task"]["lost_reason"]) == ("STARTED", "worker-offline")
    assert detail["timeline"][-1]["what"] == "lost"
    assert [row["uuid"] for row in page["tasks"]] == ["held"]


async def test_an_unknown_task_is_a_404_that_says_so(make_context: MakeContext) -> None:
    async with telling(make_context) as (_, client):
        status, problem = await get(client, "tasks/nobody")
    assert (status, problem["error"], "nobody" in problem["message"]) == (404, "not-found", True)
    assert problem["hint"]


async def test_a_search_that_makes_no_sense_is_told_with_its_position(make_context: MakeContext) -> None:
    async with telling(make_context, *numbered(1)) as (_, client):
        status, problem = await get(client, "tasks", q="state:SUCCESS AND (name:proj.add")
    assert (status, problem["error"]) == (422, "invalid-search")
    assert isinstance(problem["position"], int)
    assert problem["hint"]


async def test_what_format_task_hides_is_hidden_here_too(make_context: MakeContext) -> None:
    def hide(shown: SimpleNamespace) -> SimpleNamespace:
        shown.args = "***"
        return shown

    async with telling(make_context, *numbered(2), format_task=hide) as (_, client):
        _, page = await get(client, "tasks")
        _, detail = await get(client, "tasks/task-1")
        _, exported = await read_lines(client, "export/tasks")
    assert {row["args"] for row in page["tasks"]} == {"***"}
    assert detail["task"]["args"] == "***"
    assert '"args":"***"' in exported
    assert "(1,)" not in exported


async def read_lines(client: object, path: str) -> tuple[int, str]:
    async with client.get(f"/api/v1/{path}") as response:  # type: ignore[attr-defined]
        return response.status, await response.text()
