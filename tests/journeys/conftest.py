"""Fixtures for journeys: a stage on Redis, and a real browser."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

from tests.journeys.stage import Stage
from tests.servers import program

CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def stage(tmp_path: Path, redis_server: str) -> Iterator[Stage]:
    """A project on a Redis of its own."""
    made = Stage(tmp_path, redis_server, redis_server.removesuffix("/0") + "/1")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Headless Chromium."""
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=program("chromium"), args=CHROMIUM_OPTIONS)
        yield chromium
        await chromium.close()
