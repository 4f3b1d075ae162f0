"""The calls that docs/api.md and the API's own page show are calls that work."""

import asyncio
import re
import shlex
import time
from pathlib import Path

import aiohttp

from meadow_api.v1.documents import call
from tests.integration.api_service import MakeContext
from tests.integration.v1_store import failed, family, task, telling

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"
EXAMPLE_ID = "4a1b7c3e-0000-4000-8000-5b0d7c9e1f2a"


async def test_every_call_in_the_documentation_works_as_it_stands_there(
    make_context: MakeContext, tmp_path: Path
) -> None:
    facts = [*task(1, uuid=EXAMPLE_ID), *task(2), *family(), *failed(3, 42, at=time.time())]
    async with telling(make_context, *facts) as (service, client):
        origin = await origin_of(client)
        calls = re.findall(r"^    (curl .*)$", PAGE.read_text(), re.MULTILINE)
        shown = [call(e, x.query) for e in service._resources.endpoints for x in e.examples if e.name != "followEvents"]
        assert len(calls) >= 12
        assert len(shown) >= 10
        for line in (*calls, *shown):
            code, output = await run(line.replace("http://localhost:5555", origin), tmp_path)
            if "/events" in line:  # it does not end by itself
                assert (line, code) == (line, 28), output
            else:
                assert (line, code) == (line, 0), output
    assert (tmp_path / "failed.csv").read_text().splitlines()[1] == "failed-3,proj.charge,Declined('client 42')"
    assert (tmp_path / "tasks.ndjson").read_text().splitlines()[-1] == '{"end":true,"tasks":2}'


async def run(line: str, directory: Path) -> tuple[int, str]:
    """The call's exit code, which is not 0 for a status of 400 or more, and what it printed."""
    program, *arguments = shlex.split(line)
    process = await asyncio.create_subprocess_exec(
        *(program, "--silent", "--show-error", "--fail-with-body", "--max-time", "2" if "/events" in line else "20"),
        *arguments,
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def origin_of(client: aiohttp.ClientSession) -> str:
    async with client.get("/healthcheck") as response:
        return str(response.url.origin())
