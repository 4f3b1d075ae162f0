"""Redis behind TLS, with the options in the URL or in `broker_use_ssl`, as kombu takes them."""

import asyncio
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meadow.broker import BrokerConfig
from meadow.testing import eventually
from meadow_redis import RedisAdapter
from tests.integration.apps.collector_stage import client_app, send_events
from tests.integration.apps.redis_stage import listening, refusal, running_redis_with
from tests.servers import free_port, program


async def send(url: str, *uuids: str, **configuration: Any) -> None:
    app = client_app(url, **configuration)
    await asyncio.to_thread(send_events, app, [{"type": "task-started", "uuid": uuid} for uuid in uuids])
    app.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`ca.crt`, and `server.crt` for 127.0.0.1, signed by it; `other.crt` has signed nothing."""
    folder = tmp_path_factory.mktemp("tls")
    extension = folder / "san.cnf"
    extension.write_text("subjectAltName=IP:127.0.0.1\n", encoding="utf-8")

    def openssl(*words: str) -> None:
        subprocess.run([program("openssl"), *words], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "other"):
        openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"),
            *("-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", f"/CN=Test {name}"),
        )
    openssl(
        *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server"),
    )
    openssl(
        *("x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"),
        *("-days", "2", "-out", "server.crt", "-extfile", "san.cnf"),
    )
    return folder


@pytest.fixture
def tls_port(tmp_path: Path, certificates: Path) -> Iterator[int]:
    """The port of a redis-server that speaks TLS only, and asks for no client certificate."""
    port = free_port()
    files = ("--tls-cert-file", str(certificates / "server.crt"), "--tls-key-file", str(certificates / "server.key"))
    options = ("--port", "0", "--tls-port", str(port), *files, "--tls-ca-cert-file", str(certificates / "ca.crt"))
    with running_redis_with(tmp_path, port, *options, "--tls-auth-clients", "no", "--requirepass", "hunter2"):
        yield port


@pytest.mark.parametrize("where", ["the URL", "broker_use_ssl", "broker_use_ssl of redis://", "nowhere"])
async def test_events_and_depths_are_read_through_tls(certificates: Path, tls_port: int, where: str) -> None:
    authority = str(certificates / "ca.crt")
    scheme = "redis" if "redis://" in where else "rediss"
    query = f"?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs={authority}" if where == "the URL" else ""
    url = f"{scheme}://:hunter2@127.0.0.1:{tls_port}/0{query}"
    use_ssl = {"ssl_cert_reqs": "required", "ssl_ca_certs": authority} if where.startswith("broker_use_ssl") else None
    config = BrokerConfig(url=url, use_ssl=use_ssl)
    many = [f"{number}" for number in range(3000)]
    async with listening(RedisAdapter().events(config)) as heard:
        await send(url, *many, broker_use_ssl=use_ssl)
        await eventually(lambda: len(heard.uuids) == len(many), timeout=30.0)
    reader = RedisAdapter().queue_reader(config)
    (depth,) = await asyncio.to_thread(reader.read, ["celery"])
    reader.close()
    assert heard.uuids == many
    assert heard.errors == []
    assert depth.messages == 0


async def test_a_certificate_that_nobody_trusts_is_refused(certificates: Path, tls_port: int) -> None:
    other = certificates / "other.crt"
    url = f"rediss://:hunter2@127.0.0.1:{tls_port}/0?ssl_cert_reqs=required&ssl_ca_certs={other}"
    reason = await asyncio.to_thread(refusal, RedisAdapter(), BrokerConfig(url=url))
    assert "certificate verify failed" in reason
    assert "hunter2" not in reason


async def test_a_reader_behind_tls_stops_at_once(tls_port: int) -> None:
    source = RedisAdapter().events(BrokerConfig(url=f"rediss://:hunter2@127.0.0.1:{tls_port}/0"))
    async with listening(source) as heard:
        begin = time.monotonic()
    assert time.monotonic() - begin < 0.5
    assert heard.errors == []
