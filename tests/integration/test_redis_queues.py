"""Queue depths on Redis, counted as Celery fills the queues and workers empty them."""

import asyncio
from typing import Any

import kombu
import pytest

from meadow.broker import BrokerConfig
from meadow.errors import BrokerUnavailable
from meadow.events import QueueDepth
from meadow_kombu import KombuAdapter
from meadow_redis import RedisAdapter
from meadow_redis.queue_reader import MOST_UNACKED
from tests.integration.apps.collector_stage import client_app
from tests.integration.apps.redis_stage import connected_client
from tests.servers import free_port

OPTIONS: list[dict[str, Any]] = [
    {},
    {"global_keyprefix": "shop-"},
    {"priority_steps": [0, 5]},
    {"priority_steps": list(range(10)), "sep": ":", "global_keyprefix": "shop:"},
]


def read(config: BrokerConfig, *names: str) -> list[QueueDepth]:
    reader = RedisAdapter().queue_reader(config)
    try:
        return reader.read(names)
    finally:
        reader.close()


def read_with_kombu(config: BrokerConfig, *names: str) -> list[QueueDepth]:
    reader = KombuAdapter().queue_reader(config)
    try:
        return reader.read(names)
    finally:
        reader.close()


@pytest.mark.parametrize("options", OPTIONS)
async def test_all_priorities_of_a_queue_are_counted_as_kombu_counts_them(
    redis_server: str, options: dict[str, Any]
) -> None:
    url = redis_server.rpartition("/")[0] + "/4"
    app = client_app(url, broker_transport_options=options)
    for priority in range(10):
        await asyncio.to_thread(app.send_task, "p.add", (1,), queue="jobs", priority=priority)
    await asyncio.to_thread(app.send_task, "p.add", (1,), queue="mail")
    app.close()
    config = BrokerConfig(url=url, transport_options=options)
    found = await asyncio.to_thread(read, config, "jobs", "mail", "none")
    assert [(depth.name, depth.messages, depth.ready, depth.unacked) for depth in found] == [
        ("jobs", 10, 10, 0),
        ("mail", 1, 1, 0),
        ("none", 0, 0, 0),
    ]
    by_kombu = await asyncio.to_thread(read_with_kombu, config, "jobs", "mail", "none")
    assert [depth.ready for depth in by_kombu] == [depth.ready for depth in found]


async def test_a_key_of_another_type_is_no_queue_and_the_others_are_counted(redis_server: str) -> None:
    with connected_client(redis_server) as client:
        client.set("odd", "no list")
        client.set("unacked", "no hash")
        client.lpush("jobs", "{}")
    odd, jobs = await asyncio.to_thread(read, BrokerConfig(url=redis_server), "odd", "jobs")
    assert (odd.messages, jobs.messages, jobs.unacked) == (None, 1, None)


def take(app: Any, queue: str, number: int) -> Any:
    """Take messages as a worker does, and keep them."""
    connection = app.connection_for_read()
    channel = connection.channel()
    for _ in range(number):
        kombu.Queue(queue, channel=channel).get()
    return connection


@pytest.mark.parametrize("options", OPTIONS[:2])
async def test_what_workers_hold_is_counted_by_queue(redis_server: str, options: dict[str, Any]) -> None:
    app = client_app(redis_server, broker_transport_options=options)
    config = BrokerConfig(url=redis_server, transport_options=options)
    for queue in ("jobs", "jobs", "jobs", "mail", "jobs"):
        await asyncio.to_thread(app.send_task, "p.add", (1,), queue=queue)
    holding = await asyncio.to_thread(take, app, "jobs", 3)
    jobs, mail = await asyncio.to_thread(read, config, "jobs", "mail")
    assert (jobs.messages, jobs.unacked) == (1, 3)
    assert (mail.messages, mail.unacked) == (1, 0)
    (mail,) = await asyncio.to_thread(read, config, "mail")  # what is held belongs to a queue that nobody named
    assert mail.unacked is None
    await asyncio.to_thread(holding.release)
    app.close()


async def test_more_than_can_be_read_in_passing_is_not_counted(redis_server: str) -> None:
    with connected_client(redis_server) as client:
        client.hset("unacked", mapping={str(n): '[{}, "", "jobs"]' for n in range(MOST_UNACKED)})
        (jobs,) = await asyncio.to_thread(read, BrokerConfig(url=redis_server), "jobs")
        assert jobs.unacked == MOST_UNACKED
        client.hset("unacked", "one more", '[{}, "", "jobs"]')
        (jobs,) = await asyncio.to_thread(read, BrokerConfig(url=redis_server), "jobs")
        assert jobs.unacked is None
        client.delete("unacked")
        client.hset("unacked", "large", '["' + "x" * 2_000_000 + '", "", "jobs"]')
        (jobs,) = await asyncio.to_thread(read, BrokerConfig(url=redis_server), "jobs")
        assert jobs.unacked is None


async def test_a_lost_connection_is_told_and_made_again(redis_server: str) -> None:
    reader = RedisAdapter().queue_reader(BrokerConfig(url=redis_server))
    with connected_client(redis_server) as client:
        assert (await asyncio.to_thread(reader.read, ["jobs"]))[0].messages == 0
        client.client_kill_filter(_type="normal", skipme=True)
        with pytest.raises(BrokerUnavailable, match="Redis cannot be reached"):
            await asyncio.to_thread(reader.read, ["jobs"])
        client.lpush("jobs", "{}")
        assert (await asyncio.to_thread(reader.read, ["jobs"]))[0].messages == 1
    reader.close()
    reader.close()


async def test_nobody_at_the_address_is_told() -> None:
    config = BrokerConfig(url=f"redis://:hunter2@127.0.0.1:{free_port()}/0")
    with pytest.raises(BrokerUnavailable, match=r"Redis cannot be reached: .*refused") as caught:
        await asyncio.to_thread(read, config, "jobs")
    assert "hunter2" not in str(caught.value)
