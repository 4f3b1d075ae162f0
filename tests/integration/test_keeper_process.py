"""The keeper in a process of its own, as Meadow runs it: it may be killed, held up, or refuse, and the api says so."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from meadow import queries, subjects
from meadow.bus import Bus, StreamLimits
from meadow.codec import decode
from meadow.errors import StartRefused
from meadow.service import Context
from meadow.supervise import Children
from meadow.testing import eventually, make_context, running_nats
from meadow_api import keeper_process
from meadow_api.service import ApiService
from tests.integration.api_service import CLUSTER, ask, publish, running_api, stored, task_events

MakeContext = Callable[..., Context]


@pytest.fixture
def context(make_context: MakeContext) -> Context:
    return replace(make_context(), children=Children())


def keepers() -> list[psutil.Process]:
    """The keepers below this process."""
    return [p for p in psutil.Process().children() if p.cmdline()[-2:] == ["meadow.child_main", "keeper"]]


@asynccontextmanager
async def api_and_keeper(context: Context) -> AsyncIterator[tuple[ApiService, psutil.Process]]:
    before = keepers()
    async with running_api(context) as api:
        (keeper,) = [process for process in keepers() if process not in before]
        yield api, keeper
    assert not keeper.is_running(), "it outlived the api"


async def known(bus: Bus) -> int:
    return (await ask(bus, "overview", queries.Overview)).tasks_stored


async def test_it_writes_what_the_api_reads(bus: Bus, context: Context) -> None:
    async with api_and_keeper(context) as (api, _):
        await stored(api, await publish(bus, *task_events(1), *task_events(2)))
        assert await known(bus) == 2
        health = api.health()
        assert (health["ok"], health["error"], health["writes"]) == (True, None, True)
        assert health["streams"][subjects.EVENTS_STREAM]["events"] == 6


async def test_one_that_was_spawned_early_is_the_one_that_works_and_one_that_is_not_needed_ends(
    bus: Bus, context: Context
) -> None:
    children = Children()
    for role in ("keeper", "collector"):
        await children.spawn(role, heard=role == "keeper")
    (early,) = keepers()
    async with running_api(replace(context, children=children)) as api:
        await stored(api, await publish(bus, *task_events(1)))
        assert keepers() == [early]
    (not_needed,) = [p for p in psutil.Process().children() if p.cmdline()[-1:] == ["collector"]]
    await children.close()
    assert not not_needed.is_running()


async def test_when_it_is_killed_the_api_answers_on_and_says_so_and_nothing_is_lost(bus: Bus, context: Context) -> None:
    async with api_and_keeper(context) as (api, keeper):
        await stored(api, await publish(bus, *task_events(1)))
        keeper.kill()
        await eventually(lambda: "ended with -9" in str(api.health()["error"]))
        assert not api.health()["ok"]
        pipeline = await ask(bus, "pipeline", queries.Pipeline)
        assert [str(stream.error).partition(" with ")[2][:2] for stream in pipeline.streams] == ["-9", "-9"]
        last = await publish(bus, *task_events(2))
        assert await known(bus) == 1
        await stored(api, last)
        assert await known(bus) == 2
        assert api.health()["error"] is None
        (successor,) = [process for process in keepers() if process.pid != keeper.pid]
    assert not successor.is_running()


async def test_its_successor_tells_that_anything_may_have_changed(bus: Bus, context: Context) -> None:
    """What was written just before it was killed may not have been told."""
    notices: list[queries.Changed] = []

    async def hear(_: str, data: bytes) -> None:
        notices.append(decode(data, queries.Changed))

    async with api_and_keeper(context) as (api, keeper):
        await stored(api, await publish(bus, *task_events(1)))
        await bus.listen(subjects.changed(CLUSTER), hear)
        keeper.kill()
        notice = await eventually(lambda: next((n for n in notices if n.tasks is None), None))
    assert notice.workers is None
    assert set(notice.topics) == {"audit", "collector", "pipeline", "queues", "tasks", "workers"}


async def test_one_without_nats_says_so(tmp_path: Path) -> None:
    async with running_nats(tmp_path / "nats") as server:
        bus = await Bus.connect(server.url, name="test")
        await bus.declare_streams(StreamLimits())
        context = replace(make_context(bus, tmp_path), children=Children())
        try:
            async with api_and_keeper(context) as (api, _):
                await stored(api, await publish(bus, *task_events(1)))
                await server.stop()
                await eventually(lambda: "no connection to NATS where" in str(api._keeping.report.error))
                assert not api._keeping.report.ok
        finally:
            await context.watch.stop()
            await bus.close()


async def test_of_two_on_one_postgresql_another_writes_when_one_is_killed(
    bus: Bus, make_context: Callable[..., Context], postgres: str
) -> None:
    contexts = [replace(make_context(store=postgres), children=Children()) for _ in range(2)]
    async with api_and_keeper(contexts[0]) as (first, keeper):
        await eventually(lambda: first.health()["writes"])
        async with api_and_keeper(contexts[1]) as (second, _):
            await stored(second, await publish(bus, *task_events(1)))
            assert not second.health()["writes"]
            keeper.kill()
            await eventually(lambda: second.health()["writes"])
            last = await publish(bus, *task_events(2))
            await stored(second, last)
            await stored(first, last)  # it looks on again
            assert await known(bus) == 2
            assert [api.health()["writes"] for api in (first, second)] == [False, True]


async def test_one_that_says_nothing_any_more_is_noticed(
    bus: Bus, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_process, "TOO_SILENT", 2.0)
    async with api_and_keeper(context) as (api, keeper):
        await stored(api, await publish(bus, *task_events(1)))
        keeper.suspend()
        try:
            await eventually(lambda: "has said nothing for" in str(api.health()["error"]))
            assert not api.health()["ok"]
            last = await publish(bus, *task_events(2))
        finally:
            keeper.resume()
        await stored(api, last)
        await eventually(lambda: api.health()["ok"])


async def test_one_that_cannot_be_started_is_refused(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(StartRefused, match=r"could not be started: .*/no/such/python"):
        async with running_api(context):
            pass


async def test_what_it_cannot_open_is_refused_in_its_words(bus: Bus, context: Context) -> None:
    async with api_and_keeper(context):
        pass
    with closing(sqlite3.connect(Path(context.settings.data_dir or "") / "store.db")) as raw:
        raw.execute("UPDATE meta SET value = '9999' WHERE key = 'schema'")
        raw.commit()
    with pytest.raises(StartRefused, match="written by a newer Meadow"):
        async with running_api(context):
            pass
    assert not keepers()


async def test_a_store_that_another_meadow_holds_is_waited_for_a_moment_and_then_refused(
    bus: Bus, context: Context
) -> None:
    """A keeper that was killed with its parent may hold it a moment longer."""
    async with api_and_keeper(context) as (_, keeper):
        with pytest.raises(StartRefused, match=f"in use by process {os.getpid()}"):
            async with running_api(context):
                pass
        assert keeper.is_running()


async def test_a_store_that_it_finds_damaged_is_put_aside_and_the_api_reads_the_new_one(
    bus: Bus, context: Context
) -> None:
    store = Path(context.settings.data_dir or "") / "store.db"
    facts = [fact for number in range(3000) for fact in task_events(number)]
    async with api_and_keeper(context) as (api, _):
        await stored(api, await publish(bus, *facts))
    half = store.stat().st_size // 2
    with store.open("r+b") as file:
        file.seek(half)
        file.write(b"\xff" * half)
    async with api_and_keeper(context) as (api, _):
        assert await known(bus) == 3000
        await stored(api, await publish(bus, *facts[::-1], *task_events(3000)))

        async def reads_the_new_one() -> bool:
            return await known(bus) == 3001

        await eventually(reads_the_new_one)
    assert any(store.parent.glob("store.db.damaged-*"))


@pytest.mark.parametrize("loss", ["deleted", "damaged"])
async def test_an_index_of_texts_that_is_deleted_or_found_damaged_is_made_anew(
    bus: Bus, context: Context, loss: str
) -> None:
    """Whoever searches finds the damage, here the api, and the keeper makes it anew."""
    file = Path(context.settings.data_dir or "") / "search.db"

    async def found() -> list[str]:
        rows = (await ask(bus, "tasks", queries.TaskList, search="needle")).rows
        return [row.uuid for row in rows]

    async with AsyncExitStack() as stack:
        api, _ = await stack.enter_async_context(api_and_keeper(context))
        others = [fact for number in range(50) for fact in task_events(number)]
        await stored(api, await publish(bus, *others, *task_events(50, name="proj.needle")))
        await eventually(lambda: api._keeping.report.text_index is not None)
        before = api._keeping.report.text_index
        stack.enter_context(file.open("rb"))  # else its number may be given to the next file
        if loss == "deleted":
            file.unlink()
        else:
            for suffix in ("", "-wal"):
                with file.with_name(f"search.db{suffix}").open("r+b") as opened:
                    opened.write(b"no index" * (os.fstat(opened.fileno()).st_size // 8))

        async def made_anew() -> bool:
            assert await found() == ["task-50"]
            return api._keeping.report.text_index not in (before, None)

        await eventually(made_anew, timeout=20.0, every=0.1)
        assert await found() == ["task-50"]


async def test_it_does_not_outlive_an_api_that_is_killed(bus: Bus, tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-m", "tests.integration.apps.api_process", bus.url, str(tmp_path)])
    try:
        (keeper,) = await eventually(lambda: psutil.Process(process.pid).children(), timeout=20.0)
        await eventually((tmp_path / "store.db").exists, timeout=20.0)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    await eventually(lambda: not keeper.is_running())
