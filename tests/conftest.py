"""Fixtures that all tests share: real servers, each test on its own ports and directories."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from meadow.bus import Bus
from meadow.service import Context
from meadow.testing import make_context as build_context
from meadow.testing import running_bus


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    """A bus on a fresh nats-server with Meadow's streams."""
    async with running_bus() as connected:
        yield connected


@pytest.fixture
async def make_context(bus: Bus, tmp_path: Path) -> AsyncIterator[Callable[..., Context]]:
    """`make_context(**settings)` gives a context; its watch is stopped after the test."""
    made: list[Context] = []

    def make(**settings: Any) -> Context:
        context = build_context(bus, tmp_path / f"data-{len(made)}", **settings)
        (tmp_path / f"data-{len(made)}").mkdir(exist_ok=True)
        made.append(context)
        return context

    yield make
    for context in made:
        await context.watch.stop()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[str]:
    """The URL of a fresh redis-server."""
    from tests.servers import running_redis

    with running_redis(tmp_path) as url:
        yield url
