"""Fixtures that all tests share: real servers, each test on its own ports and directories."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from meadow.bus import Bus
from meadow.service import Context
from meadow.testing import make_context as build_context
from meadow.testing import running_bus
from tests.servers import Postgres, RabbitMQ, forget_everything, running_postgres, running_rabbitmq


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the shared RabbitMQ runs in one process, so that one node does for all."""
    for item in items:
        if "rabbitmq_server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("rabbitmq"))


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


@pytest.fixture(scope="session")
def _rabbitmq_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    with running_rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as node:
        yield node


@pytest.fixture(scope="module")
def rabbitmq_server(_rabbitmq_node: RabbitMQ) -> RabbitMQ:
    """A RabbitMQ that holds nothing. Its node is shared, since starting one takes seconds."""
    forget_everything(_rabbitmq_node)
    return _rabbitmq_node


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A PostgreSQL that the tests of this process share."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: Postgres) -> Iterator[str]:
    """The URL of a fresh database."""
    url = postgres_server.fresh()
    yield url
    postgres_server.drop(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def store_place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """An empty place for a task store: first a file, then a PostgreSQL database."""
    return tmp_path / "store.db" if request.param == "sqlite" else str(request.getfixturevalue("postgres"))
