"""Pages while NATS is away: they say so soon, say what is missing, and heal by themselves."""

from pathlib import Path

from meadow.bus import Bus, StreamLimits
from meadow.testing import eventually, make_context, running_nats
from tests.integration.api_service import task_events
from tests.integration.web_stage import hear, hear_until, web_stage

SENTENCE = "NATS cannot be reached"


async def test_open_pages_and_new_ones_say_that_nats_is_away_and_heal(tmp_path: Path) -> None:
    async with running_nats(tmp_path / "nats") as server:
        bus = await Bus.connect(server.url, name="test")
        await bus.declare_streams(StreamLimits())
        context = make_context(bus, tmp_path)
        async with web_stage(lambda: context) as stage:
            tab = await stage.tab("/tasks")
            assert "No task has been seen yet" in (await hear(tab))["html"]
            await server.stop()
            assert SENTENCE in (await hear(tab))["message"]
            page = await stage.get("/tasks", status=503)
            assert SENTENCE in page.words()
            assert "comes back" in page.words()
            assert "did not answer" not in page.words()
            async with stage.client.get("/tasks/suggest", params={"q": "na"}) as response:
                assert response.status == 503
            await server.start()
            await eventually(lambda: bus.connected)
            await stage.say(*task_events(1))
            assert "task-1" in (await hear_until(tab, "task-1"))["html"]
            await stage.get("/task/task-1")
        await context.watch.stop()
        await bus.close()


async def test_what_was_told_while_the_connection_was_away_is_asked_for(tmp_path: Path) -> None:
    async with running_nats(tmp_path / "nats") as server:
        bus = await Bus.connect(server.url, name="test")
        await bus.declare_streams(StreamLimits())
        context = make_context(bus, tmp_path)
        async with web_stage(lambda: context) as stage:
            tab = await stage.tab("/audit")
            assert (await hear(tab))["type"] == "page"
            assert stage.web.health()["renderings"] == 1
            await server.stop()
            await server.start()
            await eventually(lambda: stage.web.health()["renderings"] > 1, timeout=20)
        await context.watch.stop()
        await bus.close()
