"""The whole road: a real worker's task on an open page, a click that stops it, the record of who did that, and all of
it still there when Meadow was killed. On one port, as five processes, and on RabbitMQ."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from meadow.testing import eventually
from tests.journeys.stage import Meadow, Stage
from tests.servers import RabbitMQ, free_port

ALICE = {"username": "alice", "password": "wonder:land"}
AUTH = "--basic-auth=alice:wonder:land,bob:builder"


@asynccontextmanager
async def signed_in(browser: Browser) -> AsyncIterator[Page]:
    """A tab of alice's."""
    context = await browser.new_context(http_credentials=ALICE)
    page = await context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    refused = "net::ERR_CONNECTION_REFUSED"  # while Meadow is away
    yield page
    assert not [problem for problem in problems if refused not in problem]
    await context.close()


def row(page: Page, uuid: str) -> str:
    return f"main tr:has(a[href$='/task/{uuid}'])"


async def watch_a_task_run(stage: Stage, page: Page, url: str) -> str:
    """Open the Tasks page, send a task, and see it appear and end without a reload."""
    await page.goto(f"{url}tasks")
    await page.evaluate("window.notReloaded = true")
    uuid = await stage.send("shop.wait", 1.5)
    line = page.locator(row(page, uuid))
    await expect(line).to_contain_text("shop.wait", timeout=15_000)
    await expect(line).to_contain_text("SUCCESS", ignore_case=True, timeout=15_000)
    assert await page.evaluate("window.notReloaded") is True
    return uuid


async def terminate_a_task(stage: Stage, page: Page, url: str) -> str:
    """Send a slow task, stop it from its page with a confirmation, and see it REVOKED there."""
    uuid = await stage.send("shop.wait", 600)
    await page.goto(f"{url}tasks")
    await expect(page.locator(row(page, uuid))).to_contain_text("STARTED", ignore_case=True, timeout=15_000)
    await page.goto(f"{url}task/{uuid}")
    await page.evaluate("window.notReloaded = true")
    await page.get_by_role("button", name="Terminate").first.click()
    dialog = page.locator("dialog[open]")
    await expect(dialog).to_contain_text("SIGTERM")
    await dialog.get_by_placeholder("for the audit log").fill("it hangs")
    await dialog.get_by_role("button", name="Terminate").click()
    await expect(page.locator("main")).to_contain_text("REVOKED", ignore_case=True, timeout=15_000)
    assert await page.evaluate("window.notReloaded") is True
    return uuid


async def audit_names_alice(page: Page, url: str, uuid: str) -> None:
    await page.goto(f"{url}audit")
    line = page.locator("main tr").filter(has_text=uuid[:8])
    for words in ("alice", "terminate (SIGTERM)", "it hangs"):
        await expect(line.first).to_contain_text(words, ignore_case=True)


async def everything_is_there(page: Page, url: str, done: str, stopped: str) -> None:
    await page.goto(f"{url}tasks")
    await expect(page.locator(row(page, done))).to_contain_text("SUCCESS", ignore_case=True)
    await expect(page.locator(row(page, stopped))).to_contain_text("REVOKED", ignore_case=True)
    await audit_names_alice(page, url, stopped)


async def wait_for_worker(meadow: Meadow) -> None:
    headers = {"Authorization": "Basic YWxpY2U6d29uZGVyOmxhbmQ="}

    async def online() -> bool:
        status: dict[str, bool] = await meadow.get("api/workers?status=1", **headers)
        return any(status.values())

    await eventually(online, timeout=30)


async def test_on_one_port_and_after_a_kill(stage: Stage, browser: Browser) -> None:
    stage.start_worker("w1@shop")
    argv = ("celery", "-A", "shop", "flower", "--port=0", "--address=127.0.0.1", AUTH)
    meadow = await stage.start_meadow(*argv)
    await wait_for_worker(meadow)
    async with signed_in(browser) as page:
        done = await watch_a_task_run(stage, page, meadow.url)
        stopped = await terminate_a_task(stage, page, meadow.url)
        await audit_names_alice(page, meadow.url, stopped)
        meadow.process.kill()
        again = await stage.start_meadow(*argv)
        await everything_is_there(page, again.url, done, stopped)


async def start_services(stage: Stage, *options: str) -> tuple[Meadow, Meadow]:
    """A standalone nats-server and five processes; gives api and web."""
    nats_port, ports = free_port(), {name: free_port() for name in ("collector", "controller", "metrics", "api", "web")}
    stage.start(
        "nats-server", "-js", "-a", "127.0.0.1", "-p", str(nats_port), "-sd", str(stage.directory / "jetstream")
    )
    with_app = {"collector": ("-A", "shop"), "controller": ("-A", "shop")}
    started = await asyncio.gather(
        *(
            stage.start_meadow(
                "meadow",
                "run",
                name,
                *with_app.get(name, ()),
                f"--nats-url=nats://127.0.0.1:{nats_port}",
                f"--port={port}",
                "--address=127.0.0.1",
                AUTH,
                *options,
            )
            for name, port in ports.items()
        )
    )
    return started[3], started[4]


async def test_as_five_processes_with_a_nats_of_its_own(stage: Stage, browser: Browser) -> None:
    stage.start_worker("w1@shop")
    api, web = await start_services(stage)
    await wait_for_worker(api)
    async with signed_in(browser) as page:
        done = await watch_a_task_run(stage, page, web.url)
        stopped = await terminate_a_task(stage, page, web.url)
        await everything_is_there(page, web.url, done, stopped)


@pytest.fixture
def rabbit_stage(tmp_path: Path, rabbitmq_server: RabbitMQ) -> Iterator[Stage]:
    made = Stage(tmp_path, rabbitmq_server.url, f"file://{tmp_path / 'results'}")
    (tmp_path / "results").mkdir()
    try:
        yield made
    finally:
        made.close()


async def test_on_rabbitmq(rabbit_stage: Stage, browser: Browser) -> None:
    rabbit_stage.start_worker("w1@shop")
    meadow = await rabbit_stage.start_meadow(
        "celery", "-A", "shop", "flower", "--port=0", "--address=127.0.0.1", AUTH, f"--broker={rabbit_stage.broker}"
    )
    await wait_for_worker(meadow)
    async with signed_in(browser) as page:
        await watch_a_task_run(rabbit_stage, page, meadow.url)
        await terminate_a_task(rabbit_stage, page, meadow.url)
