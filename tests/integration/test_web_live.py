"""Open pages change by themselves: rendered once for all who watch, sent only when they look different."""

import asyncio

import pytest
from aiohttp import WSMsgType, WSServerHandshakeError

from meadow import subjects
from meadow.codec import encode
from meadow.events import CollectorReported
from meadow.queries import AuditList, Changed
from meadow.testing import eventually
from meadow_web.live import MOST_OF_ONE, MOST_RENDERINGS
from tests.integration.api_service import heartbeat, running_api, task_events
from tests.integration.web_stage import MakeContext, hear, hear_until, web_stage


async def test_a_new_task_appears_on_the_open_page_and_its_state_changes(make_context: MakeContext) -> None:
    async with web_stage(make_context) as stage:
        tab = await stage.tab("/tasks")
        assert "No task has been seen yet" in (await hear(tab))["html"]
        received, started, succeeded = task_events(1)
        await stage.say(received, started)
        shown = await hear_until(tab, "task-1")
        assert "STARTED" in shown["html"]
        assert shown["title"] == "Tasks · Meadow"
        await stage.say(succeeded)
        assert "SUCCESS" in (await hear_until(tab, "SUCCESS"))["html"]


async def test_the_page_of_an_unknown_task_fills_in_with_its_first_event(make_context: MakeContext) -> None:
    async with web_stage(make_context) as stage:
        page = await stage.get("/task/task-1", status=404)
        assert "Unknown task 'task-1'" in page.words()
        tab = await stage.tab("/task/task-1", have=page.one("main").attributes["data-digest"])
        assert await hear(tab) == {"type": "fresh"}
        await stage.say(task_events(1)[0])
        assert "RECEIVED" in (await hear_until(tab, "RECEIVED"))["html"]


async def test_the_page_of_an_unknown_worker_fills_in_with_its_first_heartbeat(make_context: MakeContext) -> None:
    async with web_stage(make_context) as stage:
        page = await stage.get("/worker/w1@h", status=404)
        assert "Unknown worker 'w1@h'" in page.words()
        tab = await stage.tab("/worker/w1@h", have=page.one("main").attributes["data-digest"])
        assert await hear(tab) == {"type": "fresh"}
        await stage.say(heartbeat("w1@h"), kind=subjects.WORKERS)
        assert "s-online" in (await hear_until(tab, "s-online"))["html"]


async def test_a_page_that_is_up_to_date_is_not_sent_again(make_context: MakeContext) -> None:
    async with web_stage(make_context) as stage:
        await stage.fill()
        page = await stage.get("/task/task-1")
        tab = await stage.tab("/task/task-1", have=page.one("main").attributes["data-digest"])
        assert await hear(tab) == {"type": "fresh"}
        notice = Changed(cluster="default", sequence=1, topics=("tasks",), tasks=("task-1",))
        await stage.bus.tell(subjects.changed("default"), encode(notice))
        await eventually(lambda: stage.web.health()["renderings"] == 2)
        with pytest.raises(asyncio.TimeoutError):
            await tab.receive(0.3)


async def test_what_happens_to_other_tasks_does_not_make_a_task_page_ask_again(make_context: MakeContext) -> None:
    async with web_stage(make_context) as stage:
        await stage.fill()
        asked: list[bytes] = []

        async def count(subject: str, data: bytes) -> None:
            asked.append(data)

        await stage.bus.listen(subjects.query("task"), count)
        task, everything = await stage.tab("/task/task-1"), await stage.tab("/tasks")
        await hear(task)
        await hear(everything)
        assert len(asked) == 1
        for number in (77, 78):
            await stage.say(*task_events(number))
            await hear_until(everything, f"task-{number}")  # so the notice has been heard
        notice = Changed(cluster="default", sequence=1, topics=("tasks",), tasks=("task-1",))
        await stage.bus.tell(subjects.changed("default"), encode(notice))
        await eventually(lambda: len(asked) > 1)
        assert len(asked) == 2


async def test_tabs_with_the_same_view_share_one_rendering(make_context: MakeContext) -> None:
    async with web_stage(make_context) as stage:
        tabs = [await stage.tab("/tasks?state=FAILURE") for _ in range(5)]
        for tab in tabs:
            assert (await hear(tab))["type"] == "page"
        state = stage.web.health()
        assert (state["sockets"], state["views"]) == (5, 1)
        assert state["renderings"] < 5
        for tab in tabs:
            await tab.close()
        await eventually(lambda: stage.web.health()["views"] == 0)


async def test_made_up_parameters_do_not_make_views_of_their_own(make_context: MakeContext) -> None:
    async with web_stage(make_context) as stage:
        for number in range(5):
            await hear(await stage.tab(f"/tasks?state=FAILURE&made-up={number}&{number}=x"))
        assert stage.web.health()["views"] == 1
        page = await stage.get("/tasks?made-up=1&state=FAILURE")
        assert page.one("body").attributes["data-view"] == "/tasks?state=FAILURE"


async def test_one_address_can_not_take_all_places(make_context: MakeContext) -> None:
    async with web_stage(make_context, xheaders=True) as stage:
        tabs = [await stage.tab("/tasks") for _ in range(MOST_OF_ONE)]
        with pytest.raises(WSServerHandshakeError) as caught:
            await stage.tab("/tasks")
        assert caught.value.status == 503
        elsewhere = await stage.client.ws_connect(
            "/live", params={"view": "/tasks"}, headers={"X-Real-IP": "192.0.2.7"}, max_msg_size=0
        )
        assert await hear(elsewhere) == {"type": "hello"}
        await elsewhere.close()
        await tabs[0].close()
        await eventually(lambda: stage.web.health()["sockets"] == MOST_OF_ONE - 1)
        await stage.tab("/tasks")


async def test_only_a_few_views_are_rendered_at_once(make_context: MakeContext) -> None:
    async with web_stage(make_context, api=False) as stage:
        inside, most, gate = 0, 0, asyncio.Event()

        async def answer(data: bytes) -> bytes:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            await gate.wait()
            inside -= 1
            return encode(AuditList())

        await stage.bus.answer({subjects.query("audit"): answer}, group="test")
        tabs = [await stage.tab(f"/audit?actor=a{number}") for number in range(3 * MOST_RENDERINGS)]
        await eventually(lambda: inside == MOST_RENDERINGS)
        assert stage.web.health()["renderings"] == 3 * MOST_RENDERINGS  # the others wait for their turn
        gate.set()
        for tab in tabs:
            assert (await hear(tab))["type"] == "page"
        assert most == MOST_RENDERINGS


async def test_a_view_with_a_wrong_argument_says_so(make_context: MakeContext) -> None:
    async with web_stage(make_context) as stage:
        tab = await stage.tab("/workers?limit=x")
        assert (await hear(tab))["message"] == "Invalid argument 'x' of type 'int'"


async def test_a_burst_of_notices_is_rendered_a_few_times_only(make_context: MakeContext) -> None:
    async with web_stage(make_context) as stage:
        tab = await stage.tab("/tasks")
        await hear(tab)
        before = stage.web.health()["renderings"]
        for number in range(40):
            await stage.say(*task_events(number))
        await hear_until(tab, "task-39")
        assert stage.web.health()["renderings"] - before <= 20


async def test_without_the_api_the_page_says_so_and_heals(make_context: MakeContext) -> None:
    async with web_stage(make_context, api=False) as stage:
        tab = await stage.tab("/workers")
        assert await hear(tab) == {
            "type": "broken",
            "message": "The api does not run. Start it: 'meadow run api' on the same NATS, or 'meadow serve' for all "
            "services at once.",
        }
        async with running_api(make_context()):
            assert (await hear(tab))["type"] == "page"


async def test_the_loss_of_the_broker_reaches_every_open_page(make_context: MakeContext) -> None:
    async with web_stage(make_context) as stage:
        tab = await stage.tab("/audit")
        assert "cannot be reached" not in (await hear(tab))["html"]
        fact = CollectorReported(seen=1e10, broker="redis://h/0", connected=False, since=1e9, error="refused")
        await stage.say(fact, kind=subjects.COLLECTOR)
        await hear_until(tab, "The broker cannot be reached: redis://h/0")


async def test_a_worker_that_falls_silent_goes_offline_on_the_open_page(make_context: MakeContext) -> None:
    async with web_stage(make_context) as stage:
        await stage.say(heartbeat("w1@h", freq=0.1), kind=subjects.WORKERS)
        tab = await stage.tab("/workers")
        assert "s-online" in (await hear(tab))["html"]
        assert "1 offline" in (await hear_until(tab, "s-offline"))["html"]


async def test_only_our_own_pages_can_be_watched_and_only_from_our_own_pages(make_context: MakeContext) -> None:
    async with web_stage(make_context) as stage:
        for view in (
            "",
            "/nosuch",
            "//evil.example/tasks",
            "https://evil.example/",
            "/do/revoke",
            "/tasks" + "x" * 5000,
        ):
            with pytest.raises(WSServerHandshakeError) as caught:
                await stage.client.ws_connect("/live", params={"view": view})
            assert caught.value.status == 404, view
        with pytest.raises(WSServerHandshakeError) as caught:
            await stage.client.ws_connect("/live", params={"view": "/tasks"}, origin="https://evil.example")
        assert caught.value.status == 403


async def test_pages_that_must_not_refresh_offer_no_live_view(make_context: MakeContext) -> None:
    async with web_stage(make_context, auto_refresh=False) as stage:
        assert (await stage.get("/tasks")).one("body").attributes["data-live"] == ""
        with pytest.raises(WSServerHandshakeError) as caught:
            await stage.client.ws_connect("/live", params={"view": "/tasks"})
        assert caught.value.status == 503


async def test_when_meadow_stops_the_tabs_are_told_to_come_back(make_context: MakeContext) -> None:
    async with web_stage(make_context) as stage:
        tab = await stage.tab("/tasks")
        await hear(tab)
        await stage.web.stop()
        await stage.web.stop()
        message = await tab.receive(5.0)
        assert (message.type, tab.close_code) == (WSMsgType.CLOSE, 1001)
