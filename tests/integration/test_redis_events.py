"""Celery's events on Redis, read by the adapter of its own and, where both can do it, by the kombu adapter."""

import asyncio
import base64
import json
import pickle
import time
from pathlib import Path
from typing import Any

import kombu.messaging
import msgspec
import pytest

from meadow.broker import BrokerAdapter, BrokerConfig
from meadow.testing import eventually
from meadow_kombu import KombuAdapter
from meadow_redis import RedisAdapter
from tests.integration.apps.collector_stage import client_app, running_worker, send_events
from tests.integration.apps.redis_stage import connected_client, listening, running_redis_with
from tests.servers import free_port

BOTH = pytest.mark.parametrize("adapter", [RedisAdapter(), KombuAdapter()], ids=["redis", "kombu"])


def started(*uuids: str) -> list[dict[str, Any]]:
    return [{"type": "task-started", "uuid": uuid} for uuid in uuids]


async def send(url: str, *uuids: str, **configuration: Any) -> None:
    """Send events as Celery sends them."""
    app = client_app(url, **configuration)
    await asyncio.to_thread(send_events, app, started(*uuids))
    app.close()


@BOTH
async def test_the_events_of_a_real_worker_arrive_in_order(
    adapter: BrokerAdapter, redis_server: str, tmp_path: Path
) -> None:
    async with listening(adapter.events(BrokerConfig(url=redis_server))) as heard:
        with running_worker(tmp_path, redis_server):
            await eventually(lambda: [e for e in heard.events if e["type"] == "worker-online"], timeout=30.0)
            app = client_app(redis_server)
            sent = await asyncio.to_thread(app.send_task, "collector.add", (2, 3))
            await eventually(lambda: [e for e in heard.events if e["type"] == "task-succeeded"], timeout=30.0)
            app.close()
        await eventually(lambda: [e for e in heard.events if e["type"] == "worker-offline"])
    mine = [e for e in heard.events if e.get("uuid") == sent.id]
    assert [e["type"] for e in mine] == ["task-received", "task-started", "task-succeeded"]
    assert mine[-1]["result"] == "5"
    assert (heard.discarded, heard.errors) == ([], [])


@BOTH
@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("3", {}),
        ("0", {"global_keyprefix": "shop-"}),
        ("0", {"fanout_patterns": False}),
        ("5", {"fanout_patterns": False, "global_keyprefix": "shop-"}),
        ("4", {"fanout_prefix": "/mine{db}."}),
        ("0", {"fanout_prefix": False}),
        ("0", {"body_encoding": None}),
    ],
    ids=["database", "prefix", "no patterns", "no patterns, prefix", "own", "none", "plain body"],
)
async def test_channels_are_found_whatever_the_transport_options_call_them(
    adapter: BrokerAdapter, redis_server: str, path: str, options: dict[str, Any]
) -> None:
    url = redis_server.rpartition("/")[0] + "/" + path
    async with listening(adapter.events(BrokerConfig(url=url, transport_options=options))) as heard:
        await send(redis_server.rpartition("/")[0] + "/9", "elsewhere", broker_transport_options=options)
        await send(url, "here", "too", broker_transport_options=options)
        await eventually(lambda: "too" in heard.uuids)
    # without a prefix of its own, a database cannot be told from another
    assert [uuid for uuid in heard.uuids if uuid != "elsewhere"] == ["here", "too"]
    assert ("elsewhere" in heard.uuids) is (options.get("fanout_prefix") is False)


async def test_a_prefix_is_not_taken_for_a_pattern(redis_server: str) -> None:
    options = {"global_keyprefix": "shop[1]*"}
    async with listening(RedisAdapter().events(BrokerConfig(url=redis_server, transport_options=options))) as heard:
        await send(redis_server, "theirs", broker_transport_options={"global_keyprefix": "shop1x"})
        await send(redis_server, "mine", broker_transport_options=options)
        await eventually(lambda: heard.uuids)
    assert heard.uuids == ["mine"]


@BOTH
async def test_events_of_another_exchange_do_not_arrive(adapter: BrokerAdapter, redis_server: str) -> None:
    async with listening(adapter.events(BrokerConfig(url=redis_server, event_exchange="mine"))) as heard:
        await send(redis_server, "theirs")
        await send(redis_server, "theirs too", event_exchange="mine2")
        await send(redis_server, "mine", event_exchange="mine")
        await eventually(lambda: heard.uuids)
    assert heard.uuids == ["mine"]


async def test_not_one_key_is_written_to_redis_and_no_subscription_stays(redis_server: str) -> None:
    with connected_client(redis_server) as client:
        async with listening(RedisAdapter().events(BrokerConfig(url=redis_server))) as heard:
            client.publish("/0.celeryev/task.started", envelope(json.dumps(started("a")[0]).encode()))
            await eventually(lambda: heard.uuids == ["a"])
            assert client.keys("*") == []
            assert client.pubsub_numpat() == 1
        await eventually(lambda: client.pubsub_numpat() == 0)
        assert client.keys("*") == []
        assert client.info("persistence")["rdb_changes_since_last_save"] == 0


async def test_stopping_wakes_a_reader_that_waits_for_events(redis_server: str) -> None:
    source = RedisAdapter().events(BrokerConfig(url=redis_server))
    async with listening(source) as heard:
        await asyncio.sleep(0)
        begin = time.monotonic()
    assert time.monotonic() - begin < 0.5
    source.stop()
    assert heard.errors == []


async def test_a_unix_socket_with_a_password_and_a_virtual_host(tmp_path: Path) -> None:
    path = tmp_path / "r.sock"
    options = ("--unixsocket", str(path), "--requirepass", "hunter2")
    port = free_port()
    with running_redis_with(tmp_path, port, *options):
        url = f"redis+socket://:hunter2@{path}?virtual_host=3"
        async with listening(RedisAdapter().events(BrokerConfig(url=url))) as heard:
            await send(url, "local")
            await send(f"redis://:hunter2@127.0.0.1:{port}/3", "tcp")
            await eventually(lambda: len(heard.uuids) == 2)
    assert heard.uuids == ["local", "tcp"]


async def test_the_first_of_several_brokers_that_answers_is_read(redis_server: str) -> None:
    second = redis_server.rpartition("/")[0] + "/5"
    url = f"redis://127.0.0.1:{free_port()}/0;{second}"
    async with listening(RedisAdapter().events(BrokerConfig(url=url))) as heard:
        await send(second, "a")
        await eventually(lambda: heard.uuids == ["a"])
    assert heard.errors == []


def envelope(body: bytes, content_type: str | None = "application/json", **changes: Any) -> bytes:
    """A message as kombu publishes it on Redis."""
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": content_type,
            "headers": {"hostname": "w1@stage"},
            "properties": {"delivery_tag": "t", "delivery_info": {}, "body_encoding": "base64", "priority": 0},
        }
        | changes
    ).encode()


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (self.path.write_text, ("exploded",))


async def test_hostile_messages_are_counted_by_reason_and_the_rest_goes_on(redis_server: str, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb"
    deep = b'{"a":' * 200_000
    hostile = {
        b"not json": "undecodable",
        b"\xff\xfe": "undecodable",
        b"[]": "undecodable",
        deep: "undecodable",
        envelope(deep): "undecodable",
        envelope(b"\x81" * 200_000, "application/x-msgpack"): "undecodable",
        envelope(b"{}").replace(b"e30=", b"abcde"): "undecodable",
        envelope(b"x" * 10_000_000): "undecodable",
        envelope(b"{}", headers={"compression": "application/x-gzip"}): "undecodable",
        envelope(pickle.dumps(Bomb(bomb)), "application/x-python-serialize"): "pickle",
        envelope(b"x", "text/plain"): "content-type",
        envelope(b"x", None): "content-type",
    }
    with connected_client(redis_server) as client:
        async with listening(RedisAdapter().events(BrokerConfig(url=redis_server))) as heard:
            for message in hostile:
                await asyncio.to_thread(client.publish, "/0.celeryev/task.multi", message)
            big = json.dumps([{"uuid": "big", "kwargs": "k" * 10_000_000}, {"uuid": "last"}]).encode()
            await asyncio.to_thread(client.publish, "/0.celeryev/task.multi", envelope(big))
            await eventually(lambda: "last" in heard.uuids, timeout=20.0)
    assert [reason for reason, _ in heard.discarded] == list(hostile.values())
    assert all(len(detail) < 400 for _, detail in heard.discarded)
    assert heard.uuids == ["big", "last"]
    assert heard.errors == []
    assert not bomb.exists()


async def test_messages_in_msgpack_arrive_however_kombu_wraps_them(redis_server: str) -> None:
    app = client_app(redis_server)
    plain = client_app(redis_server, broker_transport_options={"body_encoding": None})
    body = msgspec.msgpack.encode([{"uuid": "a"}, {"uuid": "\u00e9", "binary": b"\xff"}])
    async with listening(RedisAdapter().events(BrokerConfig(url=redis_server, event_serializer="msgpack"))) as heard:
        for sender in (app, plain):
            await asyncio.to_thread(publish, sender, body, "application/x-msgpack", "binary")
        await eventually(lambda: len(heard.uuids) == 4)
        app.close()
        plain.close()
    assert heard.uuids == ["a", "\u00e9"] * 2


def publish(app: Any, body: bytes, content_type: str, content_encoding: str) -> None:
    """Publish bytes with kombu to the event exchange, as Celery does once it has serialised an event."""
    with app.connection_for_write() as connection:
        producer: Any = kombu.messaging.Producer(connection.default_channel)
        exchange: Any = kombu.Exchange("celeryev", type="fanout")
        producer.publish(
            body,
            exchange=exchange,
            declare=[exchange],
            routing_key="task.multi",
            content_type=content_type,
            content_encoding=content_encoding,
        )


async def test_pickled_events_are_read_where_the_settings_say_so(redis_server: str) -> None:
    config = BrokerConfig(url=redis_server, accept_pickle=True)
    with connected_client(redis_server) as client:
        async with listening(RedisAdapter().events(config)) as heard:
            client.publish(
                "/0.celeryev/x", envelope(pickle.dumps(started("pickled")[0]), "application/x-python-serialize")
            )
            await eventually(lambda: heard.uuids == ["pickled"])
