"""Redis cuts the connection, dies, hangs, refuses: the reader says so in a sentence, and reads again when it can."""

import asyncio
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from meadow.broker import BrokerAdapter, BrokerConfig, Dropped
from meadow.bus import Bus
from meadow.errors import BrokerUnavailable
from meadow.events import CollectorGap, TaskStarted
from meadow.testing import eventually
from meadow_kombu import KombuAdapter
from meadow_redis import RedisAdapter
from meadow_redis.event_source import CUT_OFF, RedisEvents
from tests.integration.apps.collector_stage import client_app, facts_of, running_collector, send_events
from tests.integration.apps.redis_stage import (
    connected_client,
    listening,
    refusal,
    running_line,
    running_redis_with,
)
from tests.servers import free_port

BOTH = pytest.mark.parametrize("adapter", [RedisAdapter(), KombuAdapter()], ids=["redis", "kombu"])

EVENT = (
    b'{"body": "eyJ1dWlkIjogInJhdyJ9", "content-type": "application/json", "content-encoding": "utf-8", '
    b'"properties": {"body_encoding": "base64"}, "headers": {}}'
)
CHANNEL = "/0.celeryev/task.started"


async def send(url: str, *uuids: str, **configuration: Any) -> None:
    app = client_app(url, **configuration)
    await asyncio.to_thread(send_events, app, [{"type": "task-started", "uuid": uuid} for uuid in uuids])
    app.close()


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


@BOTH
async def test_a_killed_connection_is_told_and_made_again(adapter: BrokerAdapter, redis_server: str) -> None:
    with connected_client(redis_server) as client:
        async with listening(adapter.events(BrokerConfig(url=redis_server))) as heard:
            await send(redis_server, "before")
            await eventually(lambda: heard.uuids == ["before"])
            client.client_kill_filter(_type="pubsub")
            await eventually(lambda: heard.connections == 2)
            await send(redis_server, "after")
            await eventually(lambda: heard.uuids == ["before", "after"])
    assert len(heard.errors) == 1
    assert "closed" in heard.errors[0]


async def test_a_reader_that_redis_cuts_off_for_being_behind_says_so_and_goes_on(redis_server: str) -> None:
    """The reader is held back on purpose: what waits for it in Redis passes the limit, and Redis hangs up."""
    source = RedisAdapter().events(BrokerConfig(url=redis_server))
    with connected_client(redis_server) as client:
        client.config_set("client-output-buffer-limit", "pubsub 256kb 0 0")
        async with listening(source) as heard:
            taken, deliver = asyncio.Event(), heard.deliver
            loop = asyncio.get_running_loop()

            def slowly(body: Any, seen: float, *rest: Any, **more: Any) -> None:
                deliver(body, seen)
                if not taken.is_set():
                    loop.call_soon_threadsafe(taken.set)
                    asyncio.run_coroutine_threadsafe(flood_ended.wait(), loop).result(20.0)

            flood_ended = asyncio.Event()
            heard.deliver = slowly  # type: ignore[method-assign]
            client.client_kill_filter(_type="pubsub")  # the next connection takes the new way
            await eventually(lambda: heard.connections == 2)
            client.publish(CHANNEL, EVENT)
            await taken.wait()
            flood = b"x" * 1_000_000
            await eventually(lambda: client.publish(CHANNEL, flood) == 0, timeout=20.0)
            flood_ended.set()
            await eventually(lambda: heard.connections == 3)
            client.publish(CHANNEL, EVENT)
            await eventually(lambda: heard.uuids == ["raw", "raw"])
    assert heard.errors[-1] == CUT_OFF


async def test_a_flood_is_read_before_it_is_decoded_and_what_is_too_much_is_counted(redis_server: str) -> None:
    source = RedisEvents(BrokerConfig(url=redis_server), backlog=100_000)
    flood_ended, held = threading.Event(), threading.Event()
    with connected_client(redis_server) as client:
        async with listening(source) as heard:
            deliver = heard.deliver

            def once_slowly(body: Any, seen: float, *_: Any, **__: Any) -> None:
                deliver(body, seen)
                held.set()
                assert flood_ended.wait(20.0)

            heard.deliver = once_slowly  # type: ignore[method-assign]
            client.client_kill_filter(_type="pubsub")  # the next connection takes the new way
            await eventually(lambda: heard.connections == 2)
            client.publish(CHANNEL, EVENT)
            await eventually(held.is_set)
            with client.pipeline(transaction=False) as flood:
                for _ in range(20_000):
                    flood.publish(CHANNEL, EVENT)
                await asyncio.to_thread(flood.execute)
            flood_ended.set()
            await eventually(lambda: counted(heard.bodies) == 20_001)
    assert 0 < sum(body.events for body in heard.bodies if isinstance(body, Dropped)) < 20_000
    assert len(heard.errors) == 1


def counted(bodies: list[Any]) -> int:
    return sum(body.events if isinstance(body, Dropped) else 1 for body in bodies)


async def test_a_restarted_server_is_read_again(tmp_path: Path) -> None:
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    source = RedisAdapter().events(BrokerConfig(url=url))
    with running_redis_with(tmp_path, port):
        begun = listening(source)
        heard = await begun.__aenter__()
        await send(url, "before")
        await eventually(lambda: heard.uuids == ["before"])
    try:
        await eventually(lambda: [error for error in heard.errors if "Redis cannot be reached" in error])
        with running_redis_with(tmp_path, port):
            await eventually(lambda: heard.connections == 2)
            await send(url, "after")
            await eventually(lambda: heard.uuids == ["before", "after"])
    finally:
        await begun.__aexit__(None, None, None)
    assert heard.errors[0].startswith(("Redis closed the connection", "The connection to Redis was lost"))


async def test_a_frame_that_is_cut_in_the_middle_is_forgotten_with_its_connection(redis_server: str) -> None:
    with running_line(port_of(redis_server)) as line, connected_client(redis_server) as client:
        config = BrokerConfig(url=f"redis://127.0.0.1:{line.port}/0")
        async with listening(RedisAdapter().events(config)) as heard:
            client.publish(CHANNEL, EVENT)
            await eventually(lambda: heard.uuids == ["raw"])
            line.cut_after = 100
            client.publish(CHANNEL, EVENT)
            await eventually(lambda: heard.connections == 2)
            client.publish(CHANNEL, EVENT)
            await eventually(lambda: heard.uuids == ["raw", "raw"])
    assert (heard.discarded, len(heard.errors)) == ([], 1)


async def test_a_silent_line_is_given_up(redis_server: str) -> None:
    with running_line(port_of(redis_server)) as line:
        source = RedisEvents(BrokerConfig(url=f"redis://127.0.0.1:{line.port}/0"), quiet=0.2, dead=0.6)
        async with listening(source) as heard:
            line.silence()
            await eventually(lambda: heard.errors)
    assert heard.errors[0] == "Redis has not answered for 1 s."


async def test_a_quiet_broker_that_answers_is_not_given_up(redis_server: str) -> None:
    source = RedisEvents(BrokerConfig(url=redis_server), quiet=0.05, dead=0.15)
    with connected_client(redis_server) as client:
        async with listening(source) as heard:
            await eventually(lambda: client.info("commandstats").get("cmdstat_ping", {"calls": 0})["calls"] > 10)
            client.publish(CHANNEL, EVENT)
            await eventually(lambda: heard.uuids == ["raw"])
    assert (heard.connections, heard.errors) == (1, [])


async def test_what_does_not_speak_redis_is_told(tmp_path: Path) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    config = BrokerConfig(url=f"redis://:hunter2@127.0.0.1:{port}/0")
    reason = await asyncio.to_thread(refusal, RedisAdapter(), config)
    server.close()
    await server.wait_closed()
    assert reason.startswith("Redis cannot be reached: ")
    assert "hunter2" not in reason


@pytest.mark.parametrize(
    ("credentials", "sentence"),
    [
        ("", "Redis refuses the subscription to events: NOAUTH"),
        (":wrong-hunter@", "Redis refuses the user or the password"),
        ("ada:wrong-hunter@", "Redis refuses the user or the password"),
        ("bob:hunter3@", "Redis refuses the subscription to events: NOPERM"),
    ],
)
async def test_refused_credentials_are_told_without_them(tmp_path: Path, credentials: str, sentence: str) -> None:
    port = free_port()
    bob = ("bob", "on", ">hunter3", "~*", "+@all", "-llen", "resetchannels", "&other.*")
    with running_redis_with(tmp_path, port, "--requirepass", "hunter2", "--user", *bob):
        config = BrokerConfig(url=f"redis://{credentials}127.0.0.1:{port}/0")
        reason = await asyncio.to_thread(refusal, RedisAdapter(), config)
        with pytest.raises(BrokerUnavailable, match=r"Redis (refuses|does not tell)") as caught:
            await asyncio.to_thread(RedisAdapter().queue_reader(config).read, ["celery"])
    assert reason.startswith(sentence)
    assert "hunter" not in reason + str(caught.value)


async def test_a_user_who_may_only_read_events_is_enough(tmp_path: Path) -> None:
    port = free_port()
    eyes = ("eyes", "on", ">hunter2", "resetkeys", "resetchannels", "&/0.celeryev/*", "-@all", "+psubscribe", "+ping")
    with running_redis_with(tmp_path, port, "--user", *eyes):
        config = BrokerConfig(url=f"redis://eyes:hunter2@127.0.0.1:{port}/0")
        async with listening(RedisAdapter().events(config)) as heard:
            await send(f"redis://127.0.0.1:{port}/0", "seen")
            await eventually(lambda: heard.uuids == ["seen"])


async def test_a_cut_off_collector_tells_the_gap(make_context: Any, bus: Bus, redis_server: str) -> None:
    with connected_client(redis_server) as client:
        async with running_collector(make_context(), BrokerConfig(url=redis_server)) as service:
            await send(redis_server, "before")
            await eventually(lambda: facts_of(bus, TaskStarted))
            client.client_kill_filter(_type="pubsub")
            await eventually(lambda: facts_of(bus, CollectorGap), timeout=20.0)
            await eventually(lambda: service.health()["ok"])
            await send(redis_server, "after")

            async def both() -> bool:
                return [fact.uuid for fact in await facts_of(bus, TaskStarted)] == ["before", "after"]

            await eventually(both)
        (gap,) = await facts_of(bus, CollectorGap)
    assert gap.reason == "broker-unavailable"
    assert 0.0 < gap.end - gap.start < 10.0
