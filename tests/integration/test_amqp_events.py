"""What workers send arrives from Meadow's own queue on RabbitMQ; what is hostile does not stop the rest."""

import asyncio
import pickle
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import msgspec
import pytest

from meadow.broker import BrokerConfig
from meadow.bus import Bus
from meadow.errors import BrokerUnavailable
from meadow.events import TaskReceived, TaskStarted, TaskSucceeded, WorkerOnline
from meadow.service import Context
from meadow.testing import eventually
from meadow_amqp import AmqpAdapter
from meadow_amqp.queue_reader import AmqpQueues
from meadow_collector.service import build, choose_adapter
from tests.integration.apps.amqp_stage import ask, connected, our_queue, publish, started
from tests.integration.apps.collector_stage import client_app, facts_of, running_collector, running_worker
from tests.servers import RabbitMQ, free_port

MakeContext = Callable[..., Context]


async def test_a_workers_events_arrive_in_order_and_hostile_ones_are_acknowledged_and_counted(
    make_context: MakeContext, bus: Bus, rabbitmq_server: RabbitMQ, tmp_path: Path
) -> None:
    url = rabbitmq_server.url
    context = make_context(cluster="hostile")
    broker = BrokerConfig(url=url, heartbeat=4.0, cluster="hostile")
    assert isinstance(choose_adapter(context, broker), AmqpAdapter)
    app = client_app(url)
    async with running_collector(context, broker) as service:
        with running_worker(tmp_path, url):
            await eventually(lambda: facts_of(bus, WorkerOnline), timeout=60.0)
            await asyncio.to_thread(publish, url, [b"not json", b"[5]", b'{"a":' * 100_000])
            await asyncio.to_thread(publish, url, [pickle.dumps(1)], "application/x-python-serialize")
            await asyncio.to_thread(publish, url, [b"x"], "text/plain")
            await asyncio.to_thread(publish, url, [b""], "application/json")
            sent = await asyncio.to_thread(app.send_task, "collector.add", (2, 3))
            (succeeded,) = await eventually(lambda: facts_of(bus, TaskSucceeded), timeout=30.0)
        health = service.health()

        async def nothing_waits() -> bool:
            return (await our_queue(rabbitmq_server, "hostile")).get("messages") == 0

        await eventually(nothing_waits, timeout=20.0, every=0.5)
    app.close()
    mine = [fact for fact in await facts_of(bus, object, "tasks") if getattr(fact, "uuid", "") == sent.id]
    assert [type(fact) for fact in mine] == [TaskReceived, TaskStarted, TaskSucceeded]
    assert (succeeded.uuid, succeeded.result) == (sent.id, "5")
    assert health["discarded"] == {"undecodable": 3, "pickle": 1, "content-type": 1, "not-an-object": 1}


async def test_the_queue_is_durable_bounded_and_outlives_the_collector(
    make_context: MakeContext, bus: Bus, rabbitmq_server: RabbitMQ
) -> None:
    async with running_collector(
        make_context(cluster="kept"), BrokerConfig(url=rabbitmq_server.url, cluster="kept")
    ) as service:
        assert service.health()["ok"]
    queue = await eventually(lambda: our_queue(rabbitmq_server, "kept"), timeout=20.0, every=0.5)
    assert (queue["durable"], queue["exclusive"], queue["auto_delete"]) == (True, False, False)
    assert queue["arguments"] == {
        "x-max-length-bytes": 256 * 1024 * 1024,
        "x-overflow": "drop-head",
        "x-expires": 24 * 3600 * 1000,
    }


async def test_msgpack_lists_and_bodies_of_many_frames_are_read(
    make_context: MakeContext, bus: Bus, rabbitmq_server: RabbitMQ
) -> None:
    broker = BrokerConfig(url=rabbitmq_server.url, cluster="bodies", in_flight_bytes=1000)
    async with running_collector(make_context(cluster="bodies"), broker):
        packed = msgspec.msgpack.encode([started("packed 1"), started("packed 2")])
        await asyncio.to_thread(publish, rabbitmq_server.url, [packed], "application/x-msgpack")
        large = [started(f"large {number}", runtime=1.0, filler="x" * 400_000) for number in range(5)]
        await asyncio.to_thread(publish, rabbitmq_server.url, [large, started("last")])

        async def all_arrived() -> bool:
            return len(await facts_of(bus, TaskStarted)) == 8

        await eventually(all_arrived, timeout=20.0)
    assert [fact.uuid for fact in await facts_of(bus, TaskStarted)] == [
        "packed 1",
        "packed 2",
        *(f"large {number}" for number in range(5)),
        "last",
    ]


async def test_a_virtual_host_a_password_and_a_second_broker_are_taken_from_the_url(
    make_context: MakeContext, bus: Bus, rabbitmq_server: RabbitMQ
) -> None:
    port = urlsplit(rabbitmq_server.url).port
    await asyncio.to_thread(ask, rabbitmq_server, f"vhosts/{quote('my/host', safe='')}", "PUT", {})
    await asyncio.to_thread(ask, rabbitmq_server, "users/ada", "PUT", {"password": "a/b@c;", "tags": ""})
    permissions = {"configure": "^meadow\\.|^celeryev$", "write": "^meadow\\.", "read": "^(meadow\\.|celeryev$)"}
    await asyncio.to_thread(ask, rabbitmq_server, f"permissions/{quote('my/host', safe='')}/ada", "PUT", permissions)
    url = f"amqp://127.0.0.1:{free_port()}//;amqp://ada:a%2Fb%40c%3B@localhost:{port}/my%2Fhost"
    service = build(make_context(cluster="second"), BrokerConfig(url=url, cluster="second"))
    await service.listen()
    await service.speak()
    await eventually(lambda: service.health()["ok"], timeout=20.0)
    assert await eventually(lambda: our_queue(rabbitmq_server, "second", "my/host"), timeout=20.0, every=0.5)
    await service.stop()


async def test_a_missing_permission_is_named_and_no_password_is_told(
    make_context: MakeContext, bus: Bus, rabbitmq_server: RabbitMQ
) -> None:
    port = urlsplit(rabbitmq_server.url).port
    await asyncio.to_thread(ask, rabbitmq_server, "users/eve", "PUT", {"password": "hunter2", "tags": ""})
    await asyncio.to_thread(
        ask, rabbitmq_server, "permissions/%2F/eve", "PUT", {"configure": "^$", "write": ".*", "read": ".*"}
    )
    with connected(rabbitmq_server.url):
        reason = await refusal(make_context, f"amqp://eve:hunter2@127.0.0.1:{port}//")
    assert "configure '^meadow\\.'" in reason
    assert "access to queue 'meadow.default" in reason
    wrong = await refusal(make_context, f"amqp://eve:hunter3@127.0.0.1:{port}//")
    assert f"127.0.0.1:{port}" in wrong
    assert "ACCESS_REFUSED" in wrong
    nowhere = await refusal(make_context, f"amqp://guest:guest@127.0.0.1:{port}/nowhere")
    assert "nowhere" in nowhere
    invalid = await refusal(make_context, "amqp://eve:hun/ter2@127.0.0.1//")
    assert "%-codes" in invalid
    assert "hun" not in reason + wrong + nowhere + invalid


async def refusal(make_context: MakeContext, url: str) -> str:
    """Why a collector cannot read that broker."""
    service = build(make_context(), BrokerConfig(url=url))
    await service.listen()
    await service.speak()
    try:
        return str(await eventually(lambda: service.health()["error"], timeout=20.0))
    finally:
        await service.stop()


async def test_depths_of_queues_that_are_not_there_cost_no_channels(rabbitmq_server: RabbitMQ) -> None:
    with connected(rabbitmq_server.url) as channel:
        channel.queue_declare("depths", auto_delete=False, exclusive=True)
        reader = AmqpQueues(BrokerConfig(url=rabbitmq_server.url))
        for _ in range(3):
            found = await asyncio.to_thread(reader.read, ["missing", "celery", "missing too"])
        assert [(queue.name, queue.messages) for queue in found][::2] == [("missing", None), ("missing too", None)]

        async def one_channel_at_most() -> bool:
            connections = await asyncio.to_thread(ask, rabbitmq_server, "connections")
            mine = [c for c in connections if c["client_properties"].get("connection_name", "").startswith("Meadow q")]
            return [connection.get("channels") for connection in mine] in ([0], [1])

        await eventually(one_channel_at_most, timeout=20.0, every=0.5)
        reader.close()
        reader.close()


async def test_depths_cannot_be_read_from_a_broker_that_is_not_there() -> None:
    reader = AmqpQueues(BrokerConfig(url=f"amqp://ada:hunter2@127.0.0.1:{free_port()}//"))
    with pytest.raises(BrokerUnavailable, match="cannot be reached") as caught:
        await asyncio.to_thread(reader.read, ["celery"])
    assert "hunter2" not in str(caught.value)


@contextmanager
def tls_in_front_of(port: int, directory: Path) -> Iterator[tuple[int, Path]]:
    """A port that speaks TLS and passes everything on to `port`; and the certificate to trust."""
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate]
    subject = ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*made, *subject], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, front = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(passed_on(reader, front), passed_on(behind, writer))

    async def passed_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        except OSError:
            return  # the other side is gone, so this one goes, too
        finally:
            sink.close()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(serve, "127.0.0.1", 0, ssl=context), loop
        ).result()
        yield server.sockets[0].getsockname()[1], certificate
        server.close()
    finally:

        async def end() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def test_events_arrive_over_tls_from_a_host_whose_certificate_is_trusted(
    make_context: MakeContext, bus: Bus, rabbitmq_server: RabbitMQ, tmp_path: Path
) -> None:
    with tls_in_front_of(urlsplit(rabbitmq_server.url).port or 0, tmp_path) as (port, certificate):
        url = f"amqps://guest:guest@localhost:{port}//"
        trust = {"ca_certs": str(certificate), "cert_reqs": 2, "server_hostname": "localhost"}
        broker = BrokerConfig(url=url, use_ssl=trust, cluster="tls", heartbeat=4.0)
        async with running_collector(make_context(cluster="tls"), broker):
            bodies = [[started(f"t{n}", clock=n, filler="x" * 2000)] for n in range(1000)]
            await asyncio.to_thread(publish, rabbitmq_server.url, bodies)

            async def all_arrived() -> bool:
                return len(await facts_of(bus, TaskStarted)) == 1000

            await eventually(all_arrived, timeout=20.0)
        service = build(make_context(cluster="tls"), BrokerConfig(url=url, cluster="tls"))
        await service.listen()
        await service.speak()
        reason = await eventually(lambda: service.health()["error"], timeout=20.0)
        await service.stop()
    assert "certificate verify failed" in reason
