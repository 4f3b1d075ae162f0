"""The OpenAPI document says what is so: schemathesis asks everything that it allows, and much that it forbids."""

import asyncio
import re
import sys
from pathlib import Path

import aiohttp
from aiohttp.test_utils import TestServer

from meadow import subjects
from meadow.audit import AuditIntent, AuditOutcome
from meadow.codec import encode
from meadow.events import QueueDepth, QueuesObserved, WorkerInspected
from meadow.http import LONGEST_LINE, build_application
from tests.integration.api_service import CLUSTER, MakeContext, heartbeat, publish, running_api, stored
from tests.integration.v1_store import NOW, ODD_ID, failed, family, task, telling

EXAMPLES = "15"
ENDLESS = "followEvents"

CONFIGURATION = """\
[checks]
# 422: the parameter is what the document says, but its text is no search, no cursor.
positive_data_acceptance.expected-statuses = ["2xx", "404", "422"]
"""


async def test_every_answer_is_as_the_document_says_and_nothing_else_is_accepted(
    make_context: MakeContext, tmp_path: Path
) -> None:
    context = make_context()
    async with running_api(context) as service:
        await publish(context.bus, heartbeat("w1@h"), kind=subjects.WORKERS)
        await publish(context.bus, WorkerInspected(hostname="w1@h", seen=NOW, replies={"stats": {"pid": 7}}))
        depth = QueueDepth(name="high", messages=3)
        await publish(context.bus, QueuesObserved(seen=NOW, queues=(depth,)), kind=subjects.QUEUES)
        intent = {"id": "a1", "cluster": CLUSTER, "actor": "ada", "actor_kind": "user", "source": "::1"}
        await context.bus.append(
            subjects.audit(CLUSTER), encode(AuditIntent(**intent, at=NOW, command="revoke", target="task-1"))
        )
        await context.bus.append(
            subjects.audit(CLUSTER), encode(AuditOutcome(id="a1", cluster=CLUSTER, at=NOW, code="ok"))
        )
        facts = [*family(), *task(900, uuid=ODD_ID), *(f for n in range(40) for f in task(n))]
        facts += [f for n in range(10) for f in failed(n, n, at=NOW + n)]
        await stored(service, await publish(context.bus, *facts))
        application = build_application(context.settings, context.gate, [service])
        server = TestServer(application)
        await server.start_server(max_line_size=LONGEST_LINE)  # as HttpServer has it
        async with server:
            code, output = await schemathesis(str(server.make_url("/api/openapi.json")), tmp_path)
    assert code == 0, output
    found = re.search(r"(\d+) generated, (\d+) passed", output)
    assert found is not None, output
    assert found[1] == found[2]
    assert int(found[1]) > 800


async def schemathesis(url: str, directory: Path) -> tuple[int, str]:
    """Its exit code and what it says."""
    configuration = directory / "schemathesis.toml"
    configuration.write_text(CONFIGURATION)
    excluded = ["--exclude-operation-id", ENDLESS]
    options = [
        "--request-timeout",
        "20",
        "--checks",
        "all",
        "--max-examples",
        EXAMPLES,
        "--generation-deterministic",
        "--warnings",
        "off",
    ]
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("st")), "--config-file", str(configuration), "run", url),
        *(*options, *excluded, "--exclude-method", "HEAD", "--phases", "coverage,fuzzing,stateful"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=directory,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def test_the_document_names_every_endpoint_once_and_every_parameter_says_what_it_is(
    make_context: MakeContext,
) -> None:
    async with telling(make_context) as (service, client):
        async with client.get("/api/openapi.json") as response:
            document = await response.json()
        paths = set(document["paths"])
        assert document["openapi"] == "3.1.0"
        operations = [operation for item in document["paths"].values() for operation in item.values()]
        assert len({operation["operationId"] for operation in operations}) == len(operations)
        for operation in operations:
            assert operation["summary"]
            for parameter in operation["parameters"]:
                assert parameter["description"].endswith((".", "`", ")")), parameter
        served = {e.path for e in service._resources.endpoints}
        assert paths == {f"/api/v1{path}" for path in served}


async def test_the_page_needs_nothing_from_elsewhere_and_its_style_is_allowed_by_digest(
    make_context: MakeContext,
) -> None:
    async with telling(make_context) as (_, client):
        html, headers = await page(client)
    assert "default-src 'none'; style-src 'sha256-" in headers["Content-Security-Policy"]
    assert re.search(r"<script|<link|<img|https?://(?!localhost:5555)", html) is None
    assert html.count("<section>") > 10
    assert "<code>GET /api/v1/tasks/{uuid}</code>" in html


async def page(client: aiohttp.ClientSession) -> tuple[str, dict[str, str]]:
    async with client.get("/api/docs") as response:
        assert (response.status, response.content_type) == (200, "text/html")
        return await response.text(), dict(response.headers)
