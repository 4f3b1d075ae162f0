"""Meadow knows what it did not see: with a real worker, a collector that is killed, and a Meadow that is killed."""

import asyncio
import time
from typing import Any

import psutil

from meadow.testing import eventually
from tests.journeys.stage import Meadow, Stage

WORKER = "w1@stage"


async def score(meadow: Meadow) -> dict[str, Any]:
    """What `/api/v1/pipeline` says of the worker."""
    answer = await meadow.get("api/v1/pipeline")
    return next((row for row in answer["workers"] if row["hostname"] == WORKER), {})


async def starts_stored(meadow: Meadow) -> int:
    """How many tasks the store saw start."""
    tasks = await meadow.get("api/tasks?limit=10000")
    return sum(task["started"] is not None for task in tasks.values())


async def send_many(stage: Stage, count: int, seconds: float) -> None:
    """Publish tasks in one go."""
    code = f"from shop import app\nfor _ in range({count}): app.send_task('shop.wait', args=[{seconds}])"
    done = await asyncio.to_thread(stage.run, "python", "-c", code)
    assert done.returncode == 0, done.stderr


def collector_of(meadow: Meadow) -> psutil.Process:
    return next(
        child for child in meadow.process.children() if child.cmdline()[-2:] == ["meadow.child_main", "collector"]
    )


async def has_processed(meadow: Meadow, count: int) -> bool:
    """Whether the worker says that it has accepted so many tasks."""
    overview = await meadow.get("api/workers?status=1")
    stats = await meadow.get(f"api/workers?refresh=1&workername={WORKER}") if overview else {}
    total = stats.get(WORKER, {}).get("stats", {}).get("total", {})
    return sum(total.values()) >= count


async def test_what_a_killed_collector_did_not_see_is_counted_exactly_and_stays_counted(stage: Stage) -> None:
    argv = ("meadow", "serve", "-A", "shop", "--port=0")
    meadow = await stage.start_meadow(*argv)
    stage.start_worker(WORKER)

    await eventually(lambda: score(meadow), timeout=60)
    await send_many(stage, 60, 0.01)
    await eventually(lambda: has_processed(meadow, 60), timeout=30, every=0.5)

    async def complete() -> bool:
        found = await score(meadow)
        return found["expected"] >= 1 and found["seen"] == found["expected"] and found["checked"] is not None

    await eventually(complete, timeout=30, every=0.2)

    counted = await starts_stored(meadow)
    sending = asyncio.create_task(send_many(stage, 200, 0.03))
    await eventually(lambda: _more_than(meadow, counted + 20), timeout=30)
    collector_of(meadow).kill()
    await sending
    await eventually(lambda: has_processed(meadow, 260), timeout=60, every=0.5)

    async def judged() -> bool:
        return (await score(meadow))["missing"] > 0

    await eventually(judged, timeout=60, every=0.2)
    lost = 260 - await starts_stored(meadow)
    assert lost > 0

    async def exactly_that() -> bool:
        return bool((await score(meadow))["missing"] == lost)

    await eventually(exactly_that, timeout=30, every=0.2)

    meadow.process.kill()
    killed = time.time()
    meadow = await stage.start_meadow(*argv)
    assert (await score(meadow))["missing"] == lost
    await eventually(lambda: _reads_since(meadow, killed), timeout=30)
    await send_many(stage, 10, 0.01)
    await eventually(lambda: has_processed(meadow, 270), timeout=30, every=0.5)

    async def ten_more() -> bool:
        return 270 - await starts_stored(meadow) == lost

    await eventually(ten_more, timeout=30)
    before = (await score(meadow))["checked"]

    async def checked_again() -> bool:
        return (await score(meadow))["checked"] > before

    await eventually(checked_again, timeout=30, every=0.2)
    assert (await score(meadow))["missing"] == lost


async def _reads_since(meadow: Meadow, moment: float) -> bool:
    """Whether the collector has connected to the broker after `moment`."""
    collector = (await meadow.get("api/v1/pipeline"))["collector"]
    return bool(collector["connected"] and collector["since"] > moment)


async def _more_than(meadow: Meadow, count: int) -> bool:
    return await starts_stored(meadow) > count
