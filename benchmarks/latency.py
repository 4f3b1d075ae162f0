"""From event to browser: how long after a worker's event does the open Tasks page show it?

A task is sent every 100 ms. The page notes when a row first shows SUCCESS; the event carries the worker's time of
success. Worker, broker, Meadow and browser share one machine, so one clock.
"""

import asyncio
import statistics
import tempfile
from pathlib import Path

from playwright.async_api import Page, async_playwright
from tests.journeys.conftest import CHROMIUM_OPTIONS
from tests.journeys.stage import Stage
from tests.servers import program, running_redis

from meadow.testing import eventually

TASKS = 200
PAUSE = 0.1

WATCH = """
window.shown = {};
const look = () => {
  for (const row of document.querySelectorAll("main tbody tr")) {
    const link = row.querySelector("a[href*='/task/']");
    if (!link || !/success/i.test(row.textContent)) continue;
    const id = link.getAttribute("href").split("/").pop();
    if (!(id in window.shown)) window.shown[id] = Date.now() / 1000;
  }
};
new MutationObserver(look).observe(
  document.querySelector("main"), {subtree: true, childList: true, characterData: true, attributes: true});
"""

SENDER = """
import time
from shop import app
for _ in range({count}):
    print(app.send_task("shop.add", args=[1, 2]).id, flush=True)
    time.sleep({pause})
"""


async def measure() -> None:
    """Print median, p95 and maximum in milliseconds."""
    with tempfile.TemporaryDirectory() as name, running_redis(Path(name)) as broker:
        stage = Stage(Path(name), broker)
        try:
            await _measure(stage)
        finally:
            stage.close()


async def _measure(stage: Stage) -> None:
    stage.start_worker("w1@shop")
    meadow = await stage.start_meadow("meadow", "serve", "-A", "shop", "--port=0")
    await eventually(lambda: meadow.get("api/workers?status=1"), timeout=30)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program("chromium"), args=CHROMIUM_OPTIONS)
        page = await browser.new_page()
        await page.goto(f"{meadow.url}tasks?limit=200")
        await page.evaluate(WATCH)
        code = SENDER.format(count=TASKS, pause=PAUSE)
        sent = await asyncio.to_thread(stage.run, "python", "-c", code, seconds=120)
        ids = sent.stdout.split()
        shown = await _shown(page, ids)
        ended = {uuid: (await meadow.get(f"api/task/info/{uuid}"))["succeeded"] for uuid in shown}
        await browser.close()
    waits = sorted(shown[uuid] - ended[uuid] for uuid in ids if uuid in shown)
    print(
        f"{len(waits)} of {len(ids)} tasks seen; event to row: median {statistics.median(waits) * 1000:.0f} ms, "
        f"p95 {waits[int(len(waits) * 0.95)] * 1000:.0f} ms, max {waits[-1] * 1000:.0f} ms"
    )


async def _shown(page: Page, ids: list[str]) -> dict[str, float]:
    async def complete() -> dict[str, float] | None:
        found: dict[str, float] = await page.evaluate("window.shown")
        return found if all(uuid in found for uuid in ids) else None

    try:
        return await eventually(complete, timeout=15) or {}
    except AssertionError:
        found: dict[str, float] = await page.evaluate("window.shown")
        return found
