"""Sentinels name the master; when they name another one, that is the one to read."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from meadow.broker import BrokerConfig
from meadow.testing import eventually
from meadow_redis import RedisAdapter
from meadow_redis.event_source import RedisEvents
from tests.integration.apps.collector_stage import client_app, send_events
from tests.integration.apps.redis_stage import (
    connected_client,
    listening,
    refusal,
    running_redis_with,
    running_sentinel,
)
from tests.servers import free_port

EVENT = (
    b'{"body": "eyJ1dWlkIjogInJhdyJ9", "content-type": "application/json", "content-encoding": "utf-8", '
    b'"properties": {"body_encoding": "base64"}, "headers": {}}'
)


async def send(url: str, *uuids: str, **configuration: Any) -> None:
    app = client_app(url, **configuration)
    await asyncio.to_thread(send_events, app, [{"type": "task-started", "uuid": uuid} for uuid in uuids])
    app.close()


async def test_after_a_failover_the_new_master_is_read(tmp_path: Path) -> None:
    first, second = free_port(), free_port()
    options = {"master_name": "shop"}
    with (
        running_redis_with(tmp_path, first, "--repl-diskless-sync-delay", "0"),
        running_redis_with(tmp_path, second, "--replicaof", "127.0.0.1", str(first)),
        connected_client(f"redis://127.0.0.1:{second}") as replica,
    ):
        await eventually(lambda: replica.info("replication").get("master_link_status") == "up", timeout=20.0)
        with running_sentinel(tmp_path, first) as sentinel, connected_client(f"redis://127.0.0.1:{sentinel}") as asked:
            await eventually(lambda: asked.sentinel_slaves("shop"), timeout=20.0)
            url = f"sentinel://127.0.0.1:{sentinel}/2"
            nobody = f"sentinel://127.0.0.1:{free_port()}/2"
            config = BrokerConfig(url=f"{nobody};{url}", transport_options=options)
            async with listening(RedisAdapter().events(config)) as heard:
                await send(url, "before", broker_transport_options=options)
                await eventually(lambda: heard.uuids == ["before"])
                os.kill(pid_of(first), signal.SIGKILL)
                await eventually(lambda: heard.connections == 2, timeout=30.0)
                await send(f"redis://127.0.0.1:{second}/2", "after")
                await eventually(lambda: heard.uuids == ["before", "after"])
    assert heard.errors


def pid_of(port: int) -> int:
    with connected_client(f"redis://127.0.0.1:{port}") as client:
        return int(client.info("server")["process_id"])


async def test_a_master_that_was_replaced_but_still_answers_is_left(tmp_path: Path) -> None:
    """The old master lives on at the other side of a split network; only the sentinels know better."""
    old, new = free_port(), free_port()
    with (
        running_redis_with(tmp_path, old),
        running_redis_with(tmp_path, new),
        running_sentinel(tmp_path, old) as sentinel,
        connected_client(f"redis://127.0.0.1:{sentinel}") as asked,
    ):
        config = BrokerConfig(url=f"sentinel://127.0.0.1:{sentinel}/0", transport_options={"master_name": "shop"})
        source = RedisEvents(config, quiet=0.05, dead=5.0, moved_every=0.1)
        async with listening(source) as heard:
            asked.sentinel_remove("shop")
            asked.sentinel_monitor("shop", "127.0.0.1", new, 1)
            await eventually(lambda: heard.connections == 2)
            await send(f"redis://127.0.0.1:{new}/0", "there")
            await eventually(lambda: heard.uuids == ["there"])
    assert heard.errors[0] == "The sentinels name another master now."


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"master_name": "nobody"}, "No sentinel names a master of 'nobody' (asked: 127.0.0.1:"),
        ({}, "broker_transport_options lack the sentinels' master_name."),
    ],
)
async def test_sentinels_that_know_no_master_are_told_without_passwords(
    tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    port = free_port()
    with running_redis_with(tmp_path, port), running_sentinel(tmp_path, port) as sentinel:
        config = BrokerConfig(url=f"sentinel://:hunter2@127.0.0.1:{sentinel}/0", transport_options=options)
        reason = await asyncio.to_thread(refusal, RedisAdapter(), config)
    assert reason.startswith(sentence)
    assert "hunter2" not in reason


async def test_during_a_rolling_upgrade_each_event_arrives_once(tmp_path: Path) -> None:
    port = free_port()
    with running_redis_with(tmp_path, port), running_sentinel(tmp_path, port) as sentinel:
        options = {"master_name": "shop", "sentinel_fanout_compat": True}
        url = f"sentinel://127.0.0.1:{sentinel}/0"
        config = BrokerConfig(url=url, transport_options=options)
        with connected_client(f"redis://127.0.0.1:{port}") as client:
            async with listening(RedisAdapter().events(config)) as heard:
                await send(url, "upgraded", "upgraded too", broker_transport_options=options)
                client.publish("/{db}.celeryev/task.started", EVENT)
                await eventually(lambda: "raw" in heard.uuids)
    assert heard.uuids == ["upgraded", "upgraded too", "raw"]
    assert heard.connections == 1
