"""/api/v1/failures: the same failure is one group, whatever numbers, ids and releases differ in its texts."""

import time

from meadow.events import TaskFailed, TaskReceived
from meadow_api.store import failure_reads
from tests.integration.api_service import MakeContext
from tests.integration.v1_store import failed, get, task, telling

HOUR = 3600.0


async def test_failures_with_one_cause_are_one_group(make_context: MakeContext) -> None:
    now = float(int(time.time()))
    facts = [
        *failed(1, 42, at=now - 3000, release="2024-01"),
        *failed(2, 7, at=now - 1500, worker="w2@h", release="2024-02"),
        *failed(3, 99, at=now - 30, release="2024-02"),
        *killed(4, at=now - 20),
        *task(1, at=now - 50),
    ]
    async with telling(make_context, *facts) as (_, client):
        status, answer = await get(client, "failures", seconds=HOUR)
    assert (status, answer["groups_known"], answer["examined"], answer["complete"]) == (200, 2, 4, True)
    declined, lost = answer["groups"]
    assert (declined["exception"], declined["count"]) == ("Declined", 3)
    assert declined["frames"] == ["proj/tasks.py in charge", "proj/bank.py in pay"]
    assert (declined["first_seen"], declined["last_seen"], declined["example"]) == (now - 3000, now - 30, "failed-3")
    assert declined["workers"] == [{"name": "w1@h", "count": 2}, {"name": "w2@h", "count": 1}]
    assert declined["names"] == [{"name": "proj.charge", "count": 3}]
    assert (sum(declined["trend"]), declined["trend"][-1], len(declined["trend"])) == (3, 1, 24)
    assert (lost["exception"], lost["frames"]) == ("WorkerLostError", [])
    assert lost["message"] == "Worker exited prematurely: signal <n> (SIGKILL) Job: <n>."


async def test_failures_outside_the_window_or_the_filter_are_left_out(make_context: MakeContext) -> None:
    now = float(int(time.time()))
    facts = [
        *failed(1, 1, at=now - 2 * HOUR),
        *failed(2, 2, at=now - 100, worker="w2@h"),
        *failed(3, 3, at=now - 100, name="proj.refund"),
    ]
    async with telling(make_context, *facts) as (_, client):
        for query, count in (
            ({"seconds": HOUR}, 2),
            ({"seconds": 3 * HOUR}, 3),
            ({"seconds": HOUR, "until": now - HOUR}, 1),
            ({"seconds": HOUR, "worker": "w2@h"}, 1),
            ({"seconds": HOUR, "name": "proj.refund"}, 1),
            ({"seconds": HOUR, "queue": "nowhere"}, 0),
        ):
            _, answer = await get(client, "failures", **query)
            assert sum(group["count"] for group in answer["groups"]) == count, query


async def test_what_was_not_read_is_admitted(make_context: MakeContext) -> None:
    now = float(int(time.time()))
    most = failure_reads.MOST
    facts = [fact for n in range(most + 20) for fact in failed(n, n % 9, at=now - n / 1000)]
    async with telling(make_context, *facts) as (_, client):
        _, answer = await get(client, "failures", seconds=HOUR)
    assert answer["complete"] is False
    assert 0 < answer["examined"] <= most
    assert answer["groups"][0]["count"] == answer["examined"]
    assert now - HOUR < answer["back_to"] < now


async def test_failures_are_sorted_as_asked(make_context: MakeContext) -> None:
    now = float(int(time.time()))
    facts = [*failed(1, 1, at=now - 900), *failed(2, 2, at=now - 800), *killed(3, at=now - 1000)]
    async with telling(make_context, *facts) as (_, client):
        for sort, first in (("count", "Declined"), ("last_seen", "Declined"), ("first_seen", "Declined")):
            _, answer = await get(client, "failures", sort=sort, limit=1)
            assert (answer["groups"][0]["exception"], len(answer["groups"]), answer["groups_known"]) == (first, 1, 2)
        _, answer = await get(client, "failures", sort="first_seen")
        assert [group["exception"] for group in answer["groups"]] == ["Declined", "WorkerLostError"]


def killed(number: int, *, at: float) -> list[TaskReceived | TaskFailed]:
    base = {"uuid": f"killed-{number}", "hostname": "w3@h", "seen": at, "pid": 7}
    return [
        TaskReceived(**base, timestamp=at - 1, clock=1, name="proj.heavy"),
        TaskFailed(
            **base,
            timestamp=at,
            clock=2,
            exception=f"WorkerLostError('Worker exited prematurely: signal 9 (SIGKILL) Job: {number}.')",
        ),
    ]
