"""`meadow doctor`: one check after the other, each with what is wrong and how to mend it."""

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout

from meadow import __version__, plugins
from meadow.access.gate import check_exposure
from meadow.bus import Bus
from meadow.composer import with_data_dir
from meadow.data_directory import DataDirectoryLock
from meadow.errors import DataDirectoryInUse, MeadowError, StartRefused
from meadow.http import HttpServer
from meadow.nats_server import EmbeddedNats, find_binary
from meadow.redact import broker_without_passwords, url_without_password
from meadow.rooms import room
from meadow.settings import Settings

EVENT_PATIENCE = 6.0


@dataclass(frozen=True)
class Finding:
    """What a check found. `advice` says how to mend it when `well` is false; `well` is `None` for a mere remark."""

    title: str
    well: bool | None
    text: str
    advice: str = ""


Say = Callable[[str], None]


async def examine(settings: Settings, say: Say) -> bool:
    """Run every check, say each finding, and tell whether all is well."""
    say(f"Meadow {__version__} on Python {sys.version.split()[0]}")
    found, app = await asyncio.to_thread(_load_app, settings)
    if app is not None:
        settings = with_data_dir(settings, room("collector", "celery_app").describe(app, settings))
    findings = [await _guard(title, check, settings) for title, check in CHECKS]
    findings.append(found)
    for each in findings:
        say(_line(each))
    if app is not None:
        for probe in (_broker, _workers, _events):
            found = await asyncio.to_thread(probe, app)
            say(_line(found))
            findings.append(found)
            if found.well is False:
                break
    ill = sum(finding.well is False for finding in findings)
    say("All is well." if not ill else f"{ill} of {len(findings)} checks failed.")
    return not ill


def _line(finding: Finding) -> str:
    mark = {True: "ok  ", False: "FAIL", None: "note"}[finding.well]
    line = f"{mark}  {finding.title:14} {finding.text}"
    return f"{line}\n      {'':14} → {finding.advice}" if finding.advice else line


async def _guard(title: str, check: Callable[[Settings], Awaitable[str]], settings: Settings) -> Finding:
    try:
        return Finding(title, True, await check(settings))
    except MeadowError as exc:
        sentence, _, advice = str(exc).partition(". ")
        return Finding(title, False, sentence.rstrip(".") + ".", advice)


async def _listening(settings: Settings) -> str:
    server = HttpServer(settings)
    loopback = check_exposure(settings)
    running = await _running_meadow(server.url)
    if running is not None:
        return f"{server.url} is served by a Meadow that says: {running}."
    server.bind()
    url = server.url
    await server.stop()
    return f"{url} is free, {'only this machine can' if loopback else 'other machines can'} connect."


async def _running_meadow(url: str) -> str | None:
    """What a Meadow that already listens there says of itself, or `None`."""
    try:
        async with (
            ClientSession(timeout=ClientTimeout(3)) as session,
            session.get(f"{url}healthcheck", ssl=False) as response,
        ):
            mine = response.headers.get("Server") == "Meadow"
            return f"{response.status} {(await response.text())[:100]}" if mine else None
    except (ClientError, TimeoutError, ValueError):
        return None


async def _data(settings: Settings) -> str:
    directory = Path(settings.data_dir or ".")
    try:
        with DataDirectoryLock(directory):
            return f"{directory} is ours to write."
    except DataDirectoryInUse:
        if await _running_meadow(HttpServer(settings).url) is None:
            raise
        return f"{directory} is in use by the Meadow that runs."


async def _store(settings: Settings) -> str:
    if not settings.store and settings.data_dir is None:
        return "will be a file in the data directory."
    described: str = await room("api", "store_commands").describe(settings)
    return described


async def _nats(settings: Settings) -> str:
    if settings.nats_url is not None:
        return await _nats_at(settings.nats_url, "is there and has JetStream.")
    binary = find_binary(settings.nats_server)
    with tempfile.TemporaryDirectory(prefix="meadow-doctor-") as directory:
        server = EmbeddedNats(Path(directory), binary)
        await server.start()
        try:
            return await _nats_at(server.url, f"started from {binary} and has JetStream.")
        finally:
            await server.stop()


async def _nats_at(url: str, text: str) -> str:
    bus = await Bus.connect(url, name="meadow doctor")
    try:
        await bus.check_jetstream()
    finally:
        await bus.close()
    return f"{url_without_password(url)} {text}"


async def _plugins(settings: Settings) -> str:
    _, statuses = await asyncio.to_thread(plugins.load)
    broken = [f"{status.name} ({status.error})" for status in statuses if status.error]
    if broken:
        raise StartRefused(f"Some plugins do not load: {'; '.join(broken)}. Update or uninstall them.")
    return ", ".join(status.name for status in statuses)


CHECKS: tuple[tuple[str, Callable[[Settings], Awaitable[str]]], ...] = (
    ("listening", _listening),
    ("data directory", _data),
    ("task store", _store),
    ("NATS", _nats),
    ("plugins", _plugins),
)


def _load_app(settings: Settings) -> tuple[Finding, Any]:
    try:
        app = room("controller", "celery_app").load(settings)
    except MeadowError as exc:
        sentence, _, advice = str(exc).partition(". ")
        return Finding("Celery app", False, sentence, advice), None
    return Finding("Celery app", True, f"{app.main or 'a bare app'} with {len(app.tasks)} tasks."), app


def _broker(app: Any) -> Finding:
    problem = room("controller", "probe").broker_problem(app)
    url = broker_without_passwords(app.connection_for_read().as_uri())
    if problem is None:
        return Finding("broker", True, f"{url} answers.")
    return Finding("broker", False, f"{url}: {problem}", "Start the broker, or correct -A or --broker.")


def _workers(app: Any) -> Finding:
    names = room("controller", "probe").answering_workers(app)
    if names:
        return Finding("workers", True, f"{len(names)} answer: {', '.join(sorted(names)[:10])}.")
    return Finding("workers", False, "No worker answers.", "Start one: celery -A proj worker -E")


def _events(app: Any) -> Finding:
    kinds = room("controller", "probe").event_types(app, EVENT_PATIENCE)
    if kinds:
        return Finding("events", True, f"Seen within {EVENT_PATIENCE:.0f} s: {', '.join(sorted(kinds))}.")
    return Finding(
        "events",
        False,
        f"No event came within {EVENT_PATIENCE:.0f} s.",
        "Start the workers with -E, or leave --enable-events on; SQS and Kafka carry no events.",
    )
