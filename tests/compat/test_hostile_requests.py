"""Whatever is sent to Flower's addresses is answered, and nothing but an outage is answered with a 5xx."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import aiohttp
import pytest
from yarl import URL

from meadow.testing import eventually
from tests.compat.test_flower_answers import OPEN_API, Cluster, reads_events
from tests.journeys.stage import Meadow

AT_ONCE = 6
LONGEST_ANSWER = 20.0

TEXTS = [
    "' OR 1=1 --",
    '"; DROP TABLE tasks; --',
    "a%' ESCAPE '\\",
    "%_%\\",
    "a\x00b",
    "\ud7ff\U0010ffff\u202e",
    "../../etc/passwd",
    "a/b//c",
    "<script>alert(1)</script>",
    "{{7*7}}${7*7}",
    "name:" * 50,
    "(" * 500,
    "NEAR(a b, 5) OR *",
    "x" * 6000,
]
NUMBERS = ["", "-1", "1e309", "NaN", "9" * 30, "-" + "9" * 30, "0x10", "1.5", "٣", "1_0", " 7 ", "9223372036854775808"]
BROKEN = ["%FF%FE", "%C0%AF", "%ED%A0%80", "%", "%zz", "%00", "+%2B+"]
"""Not the UTF-8 of any text, or not even an escape; sent as they are."""

READ = {
    "/api/workers": ("refresh", "workername", "status"),
    "/api/tasks": (
        *("limit", "offset", "sort_by", "workername", "taskname", "state"),
        *("received_start", "received_end", "search"),
    ),
    "/api/task/types": ("x",),
    "/api/queues/length": ("x",),
    "/workers": ("json", "refresh"),
    "/tasks": ("search", "state", "name", "sort", "cursor", "limit"),
    "/tasks/datatable": ("draw", "start", "length", "search[value]", "order[0][column]", "order[0][dir]"),
    "/healthcheck": ("x",),
    "/metrics": ("x",),
}
BY_ID = ("/api/task/info/", "/api/task/result/", "/task/", "/worker/")
TASK_COMMANDS = ("revoke", "abort", "apply", "async-apply", "send-task", "rate-limit", "timeout")
WORKER_COMMANDS = ("shutdown", "pool/restart", "pool/grow", "pool/shrink", "pool/autoscale", "queue/add-consumer")
DATATABLE = {"draw": "1", "start": "0", "length": "5", "order[0][column]": "0", "columns[0][data]": "name"}


@dataclass(frozen=True)
class Request:
    """One request; the address is sent as it is."""

    method: str
    address: str
    body: bytes = b""
    content_type: str = "application/x-www-form-urlencoded"


def readings() -> Iterator[Request]:
    """Every parameter of every address, with everything."""
    for path, names in READ.items():
        base = DATATABLE if "datatable" in path else {}
        for name in names:
            for value in [*TEXTS, *NUMBERS]:
                yield Request("GET", f"{path}?{urlencode({**base, name: value})}")
            for value in BROKEN:
                yield Request("GET", f"{path}?{urlencode(base)}&{quote(name)}={value}")
    for path in BY_ID:
        for text in TEXTS:
            yield Request("GET", path + quote(text, safe=""))
        for value in BROKEN:
            yield Request("GET", path + value)


def bodies() -> Iterator[Request]:
    """What is posted: too much of it, the wrong kind, not what it says it is."""
    megabyte = "x" * 2**20
    for value in [megabyte, "(" * 2**20, "a OR " * 2**17, *TEXTS]:
        yield Request("POST", "/tasks/datatable", urlencode({**DATATABLE, "search[value]": value}).encode())
    for name in DATATABLE:
        for value in NUMBERS:
            yield Request("POST", "/tasks/datatable", urlencode({**DATATABLE, name: value}).encode())
    for body in (b"\xff\xfe=\x00", b"a=%zz&%=", b"&" * 2**20, b"a=1&" * 2**18):
        yield Request("POST", "/tasks/datatable", body)
        yield Request("POST", "/tasks/datatable", body, "multipart/form-data; boundary=x")
        yield Request("POST", "/tasks/datatable", body, "application/x-www-form-urlencoded; charset=nonsense")
    for body in (
        b"{",
        b"\xff",
        b"[" * 2**18,
        b'{"args":' * 10_000,
        b"null",
        b"NaN",
        json.dumps({"args": megabyte}).encode(),
    ):
        yield Request("POST", "/api/task/async-apply/proj.add", body, "application/json")
        yield Request("POST", "/api/task/send-task/proj.add", body, "application/json")


def commands() -> Iterator[Request]:
    """Names of tasks and workers in the address."""
    for text in ["a\x00b", "a/b", "' OR 1=1 --", "x" * 3000, "../x"]:
        for command in TASK_COMMANDS:
            yield Request("POST", f"/api/task/{command}/{quote(text, safe='')}")
        for command in WORKER_COMMANDS:
            yield Request("POST", f"/api/worker/{command}/{quote(text, safe='')}")
    for value in BROKEN:
        yield Request("POST", f"/api/task/revoke/{value}?signal={value}")


@pytest.fixture
async def meadow(tmp_path: Path, redis_server: str) -> AsyncIterator[Meadow]:
    """A Meadow as people start Flower, with one task."""
    cluster = Cluster(tmp_path, redis_server, redis_server.removesuffix("/0") + "/1")
    try:
        started = await cluster.start_flower(**OPEN_API, REPLAY_SENT_EVENT="1")
        await eventually(lambda: reads_events(started), timeout=20)
        status, _ = await started.post("api/task/async-apply/proj.add", {"args": [1, 2]})
        assert status == 200
        await eventually(lambda: started.get("api/tasks"), timeout=20)
        yield started
    finally:
        cluster.close()


async def wrong_answers(meadow: Meadow, requests: Iterator[Request], *outages: int) -> list[str]:
    """Requests that got a 5xx (other than `outages`), a refusal that says nothing, or no answer."""
    wrong: list[str] = []

    async def send(client: aiohttp.ClientSession) -> None:
        for request in requests:
            address = URL(meadow.url.rstrip("/") + request.address, encoded=True)
            headers = {"Content-Type": request.content_type} if request.body else {}
            try:
                async with client.request(
                    request.method, address, data=io.BytesIO(request.body) if request.body else None, headers=headers
                ) as answer:
                    text = await answer.read()
            except (aiohttp.ClientError, TimeoutError) as exc:
                wrong.append(f"{request.method} {request.address[:200]}: {exc!r}")
                continue
            silent = answer.status in (400, 403, 413, 414, 422) and not text
            if (answer.status >= 500 and answer.status not in outages) or silent:
                wrong.append(f"{request.method} {request.address[:200]}: {answer.status} {text[:200]!r}")

    timeout = aiohttp.ClientTimeout(LONGEST_ANSWER)
    async with aiohttp.ClientSession(timeout=timeout) as client:
        await asyncio.gather(*(send(client) for _ in range(AT_ONCE)))
    return wrong


async def test_every_hostile_request_gets_a_clear_answer(meadow: Meadow) -> None:
    assert await wrong_answers(meadow, readings()) == []
    assert await wrong_answers(meadow, bodies()) == []
    assert await wrong_answers(meadow, commands(), 503) == []
    assert len(await meadow.get("api/tasks?limit=10")) >= 1
    assert "Traceback" not in meadow.process.text, meadow.process.text[-5000:]


# A line without a version is HTTP/0.9's, and may be answered as such.
REFUSED = (b"HTTP/1.1 400", b"HTTP/1.0 400", b"HTTP/1.1 403", b"HTTP/0.9 404", b"")


async def test_a_request_that_is_not_http_is_refused(meadow: Meadow) -> None:
    host, port = URL(meadow.url).host, URL(meadow.url).port
    for line in (
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET /" + b"a" * 20_000 + b"\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(line)
            writer.write_eof()
            answer = await asyncio.wait_for(reader.read(), 10.0)
        finally:
            writer.close()
            await writer.wait_closed()
        assert answer[:12] in REFUSED, answer[:200]
    assert await meadow.status("healthcheck") == 200
