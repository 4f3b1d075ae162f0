"""A page that is left open while Meadow is away: it says so, and since when, and lives on when Meadow is back."""

import re

from playwright.async_api import Browser, expect

from tests.journeys.stage import Stage
from tests.servers import free_port


async def test_an_open_page_says_that_it_is_old_and_lives_on(stage: Stage, browser: Browser) -> None:
    argv = ("celery", "-A", "shop", "flower", f"--port={free_port()}", "--address=127.0.0.1")
    meadow = await stage.start_meadow(*argv)
    page = await browser.new_page()
    await page.goto(f"{meadow.url}tasks")
    await expect(page.locator("#live")).to_have_text("Live")
    await expect(page.locator("#stale")).to_be_hidden()
    meadow.process.kill()
    stale = page.get_by_text(re.compile(r"Meadow cannot be reached\. What is shown is from \d\d:\d\d:\d\d\."))
    await expect(stale).to_be_visible(timeout=20_000)
    await stage.start_meadow(*argv)
    await expect(page.locator("#live")).to_have_text("Live", timeout=30_000)
    await expect(page.locator("#stale")).to_be_hidden()
