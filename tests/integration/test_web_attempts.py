"""The task page tells of every attempt, and of a task whose worker went away."""

import time

from meadow import subjects
from meadow.events import TaskFailed, TaskReceived, TaskRetried, TaskStarted, TaskSucceeded, WorkerOffline
from meadow.testing import eventually
from tests.integration.api_service import heartbeat
from tests.integration.web_stage import MakeContext, web_stage


async def test_a_retried_task_shows_each_attempt_with_its_worker_and_error(make_context: MakeContext) -> None:
    now = time.time()
    first = {"uuid": "again", "hostname": "w1@h", "seen": now, "pid": 7}
    second = {**first, "hostname": "w2@h"}
    async with web_stage(make_context) as stage:
        await stage.say(
            TaskReceived(**first, timestamp=now - 9, clock=1, name="proj.flaky"),
            TaskStarted(**first, timestamp=now - 8, clock=2),
            TaskRetried(**first, timestamp=now - 7, clock=3, exception="Timeout('<b>first</b>')", traceback="one"),
            TaskReceived(**second, timestamp=now - 6, clock=4, name="proj.flaky", retries=1),
            TaskStarted(**second, timestamp=now - 5, clock=5),
            TaskFailed(**second, timestamp=now - 4, clock=6, exception="Gone('last')", traceback="two"),
        )
        page = await stage.get("/task/again")
    table = page.one("table", class_="attempts").text
    assert "w1@h" in table
    assert "w2@h" in table
    assert "Timeout('<b>first</b>')" in table
    assert "Gone('last')" in table
    assert page.html.count('<td class="c-number">') == 2


async def test_what_succeeded_in_the_end_does_not_look_as_if_it_failed(make_context: MakeContext) -> None:
    now = time.time()
    base = {"uuid": "again", "hostname": "w1@h", "seen": now, "pid": 7}
    async with web_stage(make_context) as stage:
        await stage.say(
            TaskReceived(**base, timestamp=now - 9, clock=1, name="proj.flaky"),
            TaskStarted(**base, timestamp=now - 8, clock=2),
            TaskRetried(**base, timestamp=now - 7, clock=3, exception="Timeout('first')", traceback="one"),
            TaskReceived(**base, timestamp=now - 6, clock=4, name="proj.flaky", retries=1),
            TaskStarted(**base, timestamp=now - 5, clock=5),
            TaskSucceeded(**base, timestamp=now - 4, clock=6, result="'ok'", runtime=1.0),
        )
        page = await stage.get("/task/again")
    assert not page.all("p", class_="exception mono")
    assert "Timeout('first')" in page.one("table", class_="attempts").text


async def test_a_task_that_ran_once_has_no_table_of_attempts(make_context: MakeContext) -> None:
    async with web_stage(make_context) as stage:
        await stage.fill()
        page = await stage.get("/task/task-1")
    assert page.all("table", class_="attempts") == []


async def test_a_task_whose_worker_went_away_says_so(make_context: MakeContext) -> None:
    now = time.time()
    base = {"uuid": "held", "hostname": "w1@h", "seen": now, "pid": 7}
    async with web_stage(make_context) as stage:
        await stage.say(
            TaskReceived(**base, timestamp=now - 9, clock=1, name="proj.heavy"),
            TaskStarted(**base, timestamp=now - 8, clock=2),
        )
        gone = WorkerOffline(hostname="w1@h", timestamp=now, seen=now, clock=99, pid=7)
        # Workers are looked at every few seconds of the stream's own time.
        await stage.say(gone, heartbeat("w6@h", at=now + 10), kind=subjects.WORKERS)

        async def told() -> bool:
            return "Probably lost: w1@h shut down while it ran" in (await stage.get("/task/held")).words()

        await eventually(told)
        page = await stage.get("/task/held")
        assert page.one("span", class_="state s-lost").text == "?Lost"
        assert "Ran until lost 8.0 s" in page.words()
        assert "With acks_late, the broker hands it to another worker by itself." in page.words()
        for listed in (await stage.get("/tasks"), await stage.get("/tasks?search=is:lost")):
            assert "?Lost" in listed.one("tr", data_href="/task/held").text.replace("\n", "")
            assert not [time for time in listed.all("time") if "data-lasts" in time.attributes]
        assert "Running longest" not in (await stage.get("/")).words()


async def test_the_first_screen_shows_what_has_run_longest(make_context: MakeContext) -> None:
    now = time.time()
    async with web_stage(make_context) as stage:
        for number in range(20):
            base = {"uuid": f"run-{number:02}", "hostname": "w1@h", "seen": now, "pid": 7}
            at = now - 100 + number
            await stage.say(
                TaskReceived(**base, timestamp=at, clock=1, name="proj.long"),
                TaskStarted(**base, timestamp=at, clock=2),
            )
        page = await stage.get("/")
        shown = [row.attributes["data-href"] for row in page.all("tr") if "data-href" in row.attributes]
        assert [link for link in shown if "run-" in link] == [f"/task/run-{number:02}" for number in range(8)]
