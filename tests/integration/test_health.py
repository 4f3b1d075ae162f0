"""What a process says of itself: one report for all services, at whatever door the process has."""

import dataclasses
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from celery import Celery

from meadow import subjects
from meadow.broker import BrokerConfig
from meadow.bus import Bus
from meadow.composer import SERVICES
from meadow.events import CollectorReported
from meadow.http import build_application
from meadow.rooms import room
from meadow.service import Context, Service, Watch
from meadow.supervise import Children
from meadow.testing import eventually
from tests.integration.api_service import publish
from tests.integration.apps.collector_stage import facts_of, running_collector

MakeContext = Callable[..., Context]

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "health.md").read_text(encoding="utf-8")
HELD_UP = 0.2


def built(context: Context, name: str) -> Service:
    """A service, not yet running."""
    build = room(name, "service").build
    service: Service
    if name == "collector":
        service = build(context, BrokerConfig(url="redis://127.0.0.1:1/0"))
    else:
        service = build(dataclasses.replace(context, celery_app=Celery("proj", broker="memory://")))
    return service


@asynccontextmanager
async def process(context: Context, *names: str) -> AsyncIterator[aiohttp.ClientSession]:
    """Services as they run in one process, and a client for their port."""
    watch = context.watch
    services = watch.services = [built(context, name) for name in names]
    watch.start("loop lag", watch.loop_lag.run())
    for service in services:
        await service.listen()
    application = build_application(context.settings, context.gate, services, health=watch.health)
    async with TestServer(application) as server, aiohttp.ClientSession(server.make_url("/")) as client:
        for service in services:
            await service.speak()
        yield client
        for service in services:
            await service.stop()


async def hold_up(watch: Watch) -> None:
    """Keep everything else in this process from running for a moment."""

    def noticed() -> bool:
        end = time.monotonic() + HELD_UP
        while time.monotonic() < end:
            pass
        return watch.loop_lag.seconds > HELD_UP / 2

    await eventually(noticed)


@pytest.mark.parametrize("name", SERVICES)
async def test_all_that_a_service_says_of_itself_is_explained(make_context: MakeContext, name: str) -> None:
    line = next(line for line in PAGE.splitlines() if line.startswith(f"| {name} |"))
    health = built(make_context(), name).health()
    assert isinstance(health.pop("ok"), bool)
    assert health
    for key in health:
        assert f"`{key}`" in line


async def test_a_process_says_how_late_its_loop_is_and_how_its_services_are(make_context: MakeContext) -> None:
    context = make_context()
    async with process(context, "metrics", "web") as client:
        await hold_up(context.watch)
        async with client.get("/healthcheck") as response:
            assert response.status == 200
            report = await response.json()
        assert report["ok"] is True
        assert report["loop_lag"] > HELD_UP / 2
        assert set(report["services"]) == {"metrics", "web"}
        await context.watch.services[0].stop()
        async with client.get("/healthcheck") as response:
            assert response.status == 503
            report = await response.json()
        assert (report["ok"], report["services"]["metrics"]["ok"], report["services"]["web"]["ok"]) == (
            False,
            False,
            True,
        )


async def test_where_the_api_runs_the_same_is_told_with_what_it_knows(bus: Bus, make_context: MakeContext) -> None:
    context = make_context()
    async with process(context, "api", "metrics") as client:
        await hold_up(context.watch)
        said = CollectorReported(seen=time.time(), broker="redis://h/0", connected=True, since=1.0, loop_lag=0.75)
        await publish(bus, said, kind=subjects.COLLECTOR)

        async def heard() -> bool:
            async with client.get("/api/v1/health") as response:
                assert response.status == 200
                report = await response.json()
            assert report["loop_lag"] > HELD_UP / 2
            assert set(report["services"]) == {"api", "metrics"}
            return bool(report["collector"]["loop_lag"] == 0.75)

        await eventually(heard)

        async def measured() -> bool:
            async with client.get("/metrics") as response:
                return "meadow_collector_loop_lag_seconds 0.75" in await response.text()

        await eventually(measured)


async def test_how_late_the_loop_of_the_process_is_that_writes_the_store_is_told_too(make_context: MakeContext) -> None:
    context = dataclasses.replace(make_context(), children=Children())
    async with process(context, "api", "metrics") as client:

        async def told_alike() -> bool:
            async with client.get("/api/v1/health") as response:
                late = (await response.json())["keeper_loop_lag"]
            async with client.get("/metrics") as response:
                found = re.search(r"(?m)^meadow_keeper_loop_lag_seconds (\S+)$", await response.text())
            assert found is not None
            return bool(late > 0 and float(found[1]) == late)

        await eventually(told_alike)


async def test_the_collector_reports_how_late_its_loop_is(
    bus: Bus, make_context: MakeContext, redis_server: str
) -> None:
    context = make_context()
    context.watch.start("loop lag", context.watch.loop_lag.run())
    async with running_collector(context, BrokerConfig(url=redis_server)):
        await hold_up(context.watch)
    last = (await facts_of(bus, CollectorReported))[-1]
    assert last.loop_lag is not None
    assert last.loop_lag > HELD_UP / 2
