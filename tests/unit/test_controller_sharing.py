"""What callers share: rounds of questions, places to wait, threads."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from meadow.errors import BrokerUnavailable, Refused
from meadow.events import WorkerInspected
from meadow_controller.inspections import Answer, Inspections
from meadow_controller.results import TaskResult
from meadow_controller.threads import Threads
from meadow_controller.waiting import Waiting


class Workers:
    """Answers questions when `open` is set; notes what was asked and told."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.asked: list[tuple[tuple[str, ...], Sequence[str] | None]] = []
        self.told: list[WorkerInspected] = []
        self.error: Exception | None = None
        self.now = 100.0
        self.inspections = Inspections(self.ask, self.publish, lambda: self.now)

    async def ask(
        self, methods: Sequence[str], workers: Sequence[str] | None, timeout: float
    ) -> dict[str, dict[str, Answer]]:
        self.asked.append((tuple(methods), workers))
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return {"w@h": {method: Answer(f"{method} at {self.now:g}") for method in methods}}

    async def publish(self, facts: Sequence[WorkerInspected]) -> None:
        self.told.extend(facts)

    def wish(self, *methods: str, max_age: float = 0.0) -> "asyncio.Task[dict[str, dict[str, object]]]":
        return asyncio.create_task(self.inspections.inspect(methods, None, max_age=max_age, timeout=1.0))


async def test_only_what_nobody_has_asked_yet_is_asked() -> None:
    workers = Workers()
    first, second = workers.wish("stats"), workers.wish("stats", "conf")
    workers.open.set()
    assert set((await second)["w@h"]) == {"stats", "conf", "timestamp"}
    await first
    assert workers.asked == [(("stats",), None), (("conf",), None)]
    assert len(workers.told) == 2


async def test_everybody_who_waits_hears_of_an_outage_and_the_next_one_asks_again() -> None:
    workers = Workers()
    workers.error = BrokerUnavailable("away")
    askers = [workers.wish("stats") for _ in range(3)]
    workers.open.set()
    results = await asyncio.gather(*askers, return_exceptions=True)
    assert [str(result) for result in results] == ["away"] * 3
    workers.error = None
    assert (await workers.wish("stats", max_age=60))["w@h"]["stats"] == "stats at 100"
    assert len(workers.asked) == 2


async def test_an_asker_who_leaves_does_not_take_the_others_answer_along() -> None:
    workers = Workers()
    leaving, staying = workers.wish("stats"), workers.wish("stats")
    await asyncio.wait([leaving, staying], timeout=0)
    leaving.cancel()
    workers.open.set()
    assert (await staying)["w@h"]["stats"] == "stats at 100"


async def test_an_answer_grows_old() -> None:
    workers = Workers()
    workers.open.set()
    await workers.wish("stats")
    workers.now = 110.0
    assert (await workers.wish("stats", max_age=15))["w@h"]["stats"] == "stats at 100"
    assert (await workers.wish("stats", max_age=5))["w@h"]["stats"] == "stats at 110"


async def test_an_inspection_that_does_not_exist_is_refused() -> None:
    workers = Workers()
    with pytest.raises(Refused, match="memdump"):
        await workers.wish("memdump")
    assert workers.asked == []


async def test_callers_who_wait_for_results_are_sent_home_when_it_stops() -> None:
    async def never(task_id: str) -> TaskResult:
        return TaskResult("PENDING")

    waiting = Waiting(never, limit=60.0, places=1)
    with waiting.place():
        caller = asyncio.create_task(waiting.wait("x", None))
        with pytest.raises(Refused, match="callers are waiting"), waiting.place():
            pass
        waiting.stop()
        with pytest.raises(Refused, match="stopping"):
            await caller
    assert waiting.taken == 0


async def test_work_that_hangs_is_given_up_and_other_work_waits_for_its_thread() -> None:
    threads, let_go = Threads("test", 1, waiting=1), threading.Event()
    with pytest.raises(Refused, match="did not answer within"):
        await threads.run(let_go.wait, within=0.01)
    queued = asyncio.create_task(threads.run(lambda: "done", within=10))
    await asyncio.wait([queued], timeout=0)
    with pytest.raises(Refused, match="too much to do"):
        await threads.run(lambda: "no room", within=10)
    let_go.set()
    assert await queued == "done"
    threads.stop()
    with pytest.raises(Refused, match="stopping"):
        await threads.run(lambda: "too late", within=10)


async def test_what_work_raises_is_raised_where_it_is_awaited() -> None:
    threads = Threads("test", 1)

    def fail() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        await threads.run(fail, within=10)
    threads.stop()
