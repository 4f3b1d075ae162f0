"""How complete the picture is, in the API and on its page: from facts on the bus, over restarts of the api."""

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from meadow import subjects
from meadow.events import CeleryEvent, CollectorGap, CollectorReported, TaskStarted, WorkerHeartbeat
from meadow.queries import Overview, Pipeline
from tests.integration.api_service import CLUSTER, MakeContext, ask, publish, running_api, serving, stored, task_events
from tests.integration.web_stage import Stage, hear_until, web_stage


class Worker:
    """A worker whose events went over the last minute."""

    def __init__(self, hostname: str, seconds_ago: float = 60.0) -> None:
        self.hostname = hostname
        self.now = time.time() - seconds_ago
        self.clock = self.processed = 0

    def start(self, count: int) -> list[CeleryEvent]:
        self.processed += count
        return [TaskStarted(uuid=f"{self.hostname}-{self.clock + n}", **self._head()) for n in range(count)]

    def beat(self) -> CeleryEvent:
        self.now += 2
        return WorkerHeartbeat(processed=self.processed, active=0, **self._head())

    def _head(self) -> dict[str, Any]:
        self.clock += 1
        return {"hostname": self.hostname, "pid": 7, "clock": self.clock, "timestamp": self.now, "seen": self.now}


def story(worker: Worker, *, seen: int, lost: int) -> list[CeleryEvent]:
    """A worker that sends `seen` starts which arrive and `lost` which do not, and goes on until that is sure."""
    first = [worker.beat(), *worker.start(1), worker.beat()]
    arrived = worker.start(seen - 1)
    worker.start(lost)
    return [*first, *arrived, *(worker.beat() for _ in range(6))]


async def test_complete_workers_miss_nothing_and_the_others_miss_exactly_what_was_lost(
    make_context: MakeContext,
) -> None:
    async with serving(make_context()) as (service, client):
        bus = service._context.bus
        await publish(bus, *story(Worker("w1@a"), seen=40, lost=0))
        sequence = await publish(bus, *story(Worker("w3@mail"), seen=20, lost=37))
        await stored(service, sequence)
        async with client.get("/api/v1/pipeline") as response:
            assert response.status == 200
            answer = await response.json()
        assert [(w["hostname"], w["seen"], w["expected"], w["missing"]) for w in answer["workers"]] == [
            ("w3@mail", 20, 57, 37),
            ("w1@a", 40, 40, 0),
        ]
        total = answer["total"]
        assert (total["seen"], total["expected"], total["missing"], total["worst"]) == (60, 97, 37, "w3@mail")
        lost = answer["workers"][0]
        assert lost["since"] < lost["missing_since"] < lost["missing_until"] <= lost["checked"]
        async with client.get("/api/v1/pipeline?seconds=soon") as response:
            assert response.status == 400


async def test_restarts_of_the_api_neither_lose_nor_double_the_score(make_context: MakeContext) -> None:
    context, worker = make_context(), Worker("w3@mail")
    events = story(worker, seen=12, lost=5)
    for begin in range(0, len(events), 3):
        async with running_api(context) as service:
            await stored(service, await publish(context.bus, *events[begin : begin + 3]))
    async with running_api(context):
        answer = await ask(context.bus, "pipeline", Pipeline)
        assert (answer.total.seen, answer.total.expected, answer.total.missing) == (12, 17, 5)


async def test_a_worker_that_fell_silent_is_judged_as_time_goes_on(make_context: MakeContext) -> None:
    context, worker = make_context(), Worker("w3@mail", seconds_ago=20.0)
    begun = [worker.beat(), *worker.start(3), worker.beat()]
    async with running_api(context) as service:
        await publish(context.bus, *begun)
        report = CollectorReported(seen=time.time(), broker="redis://h/0", connected=True, since=1.0)
        await stored(service, await publish(context.bus, report, kind=subjects.COLLECTOR))
        answer = await ask(context.bus, "pipeline", Pipeline)
        assert (answer.total.seen, answer.total.expected) == (3, 3)


async def test_gaps_streams_and_the_collector_are_part_of_the_answer(make_context: MakeContext) -> None:
    context, now = make_context(), time.time()
    async with running_api(context) as service:
        gap = CollectorGap(seen=now, start=now - 90, end=now - 30, reason="buffer-full", events=1200)
        older = CollectorGap(seen=now, start=now - 900, end=now - 600, reason="broker-unavailable")
        ancient = CollectorGap(seen=now, start=now - 9000, end=now - 8000, reason="broker-unavailable")
        report = CollectorReported(
            seen=now, broker="redis://h/0", connected=True, since=now, received=9, dropped=3, discarded={"no-uuid": 2}
        )
        await publish(context.bus, gap, older, ancient, report, kind=subjects.COLLECTOR)
        await context.bus.append(subjects.events(CLUSTER, subjects.TASKS), b"not a batch")
        await stored(service, await publish(context.bus, *story(Worker("w1@a"), seen=2, lost=0)))
        answer = await ask(context.bus, "pipeline", Pipeline)
        assert [(found.reason, found.events) for found in answer.gaps] == [
            ("buffer-full", 1200),
            ("broker-unavailable", None),
        ]
        assert len((await ask(context.bus, "pipeline", Pipeline, seconds=86400.0)).gaps) == 3
        assert (answer.collector.dropped, answer.collector.discarded) == (3, {"no-uuid": 2})
        events = answer.streams[0]
        assert (events.stream, events.position, events.behind, events.invalid) == (subjects.EVENTS_STREAM, 3, 0, 1)
        assert events.events == 14
        assert events.rate > 0
        assert events.lag is not None
        assert events.lag > 30
        overview = await ask(context.bus, "overview", Overview)
        assert len(overview.gaps) == 2


@pytest.fixture
async def stage(make_context: MakeContext) -> AsyncIterator[Stage]:
    async with web_stage(make_context) as made:
        now = time.time()
        report = CollectorReported(seen=now, broker="redis://h/0", connected=True, since=now, received=40)
        await made.say(report, kind=subjects.COLLECTOR)
        yield made


async def test_the_page_says_in_words_that_nothing_is_missing_and_then_live_that_something_is(stage: Stage) -> None:
    await stage.say(*story(Worker("w1@a"), seen=1234, lost=0))
    page = await stage.get("/pipeline")
    assert page.one("h1").text == "Nothing is missing: 1,234 task starts seen of 1,234 in the last hour"
    assert page.one("main").attributes["data-mood"] == "well"
    tab = await stage.tab("/pipeline")
    await stage.say(*story(Worker("w3@mail"), seen=3, lost=37))
    rendered = await hear_until(tab, "37 task starts are missing on w3@mail")
    assert "1,237 task starts seen of 1,274" in rendered["html"]
    overview = await stage.get("/")
    assert any("37 task starts are missing on w3@mail" in link.text for link in overview.all("a", href="/pipeline"))


async def test_a_gap_is_told_on_the_page_and_marked_on_the_charts(stage: Stage) -> None:
    now = time.time()
    for number in range(6):
        await stage.say(*task_events(number, at=now - 90 + 10 * number))
    await stage.say(
        CollectorGap(seen=now, start=now - 50, end=now - 40, reason="buffer-full", events=1200), kind=subjects.COLLECTOR
    )
    page = await stage.get("/pipeline?range=24h")
    assert page.one("h1").text.startswith("The collector had to drop 1,200 events")
    assert page.one("main").attributes["data-mood"] == "warn"
    assert (await stage.get("/")).all("rect", class_="gap")
