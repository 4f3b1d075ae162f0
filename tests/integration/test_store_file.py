"""The SQLite file itself: owned by one process, put aside when it is damaged, and clear about what is wrong."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, literal, select

from meadow.errors import StartRefused
from meadow_api.errors import QueryTooSlow, StoreDamaged, StoreError
from meadow_api.store import schema
from meadow_api.store.database import Database
from tests.integration.store_rows import task_row

OWNER = """
import asyncio, sys
from pathlib import Path
from meadow_api.store.database import Database

async def own(path):
    database = Database(Path(path))
    await database.open()
    print("opened", flush=True)
    await asyncio.Event().wait()

asyncio.run(own(sys.argv[1]))
"""


@asynccontextmanager
async def opened(path: Path, **how: bool) -> AsyncIterator[Database]:
    database = Database(path)
    try:
        await database.open(**how)
        yield database
    finally:
        await database.close()


@contextlib.contextmanager
def owned_by_another(path: Path) -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"opened\n"
        yield process.pid
    finally:
        process.kill()
        process.communicate()


def fill(connection: Connection) -> None:
    connection.execute(insert(schema.tasks), [task_row(n, args="x" * 1000) for n in range(500)])


def damage_second_half(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + b"\xff" * (len(whole) // 2))


async def test_a_second_process_is_told_who_has_the_file(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with owned_by_another(path) as pid:
        with pytest.raises(StartRefused, match=f"in use by process {pid}") as refused:
            async with opened(path):
                pass
        assert "--data-dir" in str(refused.value)
        async with opened(path, create=False) as database:  # reading is safe
            assert await database.read(lambda c: c.execute(select(schema.meta)).all())
    async with opened(path):  # a killed owner leaves nothing behind that would have to be removed
        pass


async def test_a_place_that_cannot_be_written_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StartRefused, match=r"cannot be written: .*--data-dir"):
        async with opened(tmp_path / "file" / "store.db"):
            pass


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
async def test_a_file_that_may_not_be_written_is_refused_with_advice(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with opened(path):
        pass
    path.chmod(0o400)
    with pytest.raises(StoreError, match="Let the user that runs Meadow"):
        async with opened(path):
            pass


async def test_a_full_disk_is_named_and_writing_goes_on_once_there_is_room(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as database:
        await database.write(lambda c: c.exec_driver_sql("PRAGMA max_page_count=70").scalar())
        with pytest.raises(StoreError, match="The disk is full"):
            await database.write(fill)
        await database.write(lambda c: c.exec_driver_sql("PRAGMA max_page_count=100000").scalar())
        await database.write(fill)
        assert len(await database.read(lambda c: c.execute(select(schema.tasks.c.id)).all())) == 500


async def test_questions_wait_while_a_damaged_file_makes_room(tmp_path: Path) -> None:
    """A question between the old file and the new one once failed with 'the store is closed'."""
    path = tmp_path / "store.db"
    async with opened(path) as database:
        await database.write(fill)
    await asyncio.to_thread(damage_second_half, path)
    async with opened(path) as database:
        with pytest.raises(StoreDamaged):
            await database.read(lambda c: c.execute(select(schema.tasks)).all())
        moved = asyncio.Event()
        asked = []

        async def ask_on_and_on() -> None:
            while not moved.is_set() or len(asked) < 10:
                asked.append(await database.read(lambda c: c.execute(select(schema.meta)).all()))

        asking = [asyncio.create_task(ask_on_and_on()) for _ in range(3)]
        await asyncio.gather(database.put_aside(), database.put_aside())
        moved.set()
        await asyncio.gather(*asking)
    assert all(asked)
    aside = [p.name for p in tmp_path.glob("store.db.damaged-*") if not p.name.endswith(("-wal", "-shm"))]
    assert len(aside) == 1


async def test_who_reads_in_another_process_goes_on_with_the_file_that_takes_the_place_of_a_damaged_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as database:
        await database.write(fill)
    await asyncio.to_thread(damage_second_half, path)
    async with opened(path) as owner, opened(path, create=False, follow=True) as reader:
        with pytest.raises(StoreDamaged):
            await owner.read(lambda c: c.execute(select(schema.tasks)).all())
        moved = asyncio.Event()
        asked = []

        async def ask_on_and_on() -> None:
            while not moved.is_set() or len(asked) < 10:
                asked.append(await reader.read(lambda c: c.execute(select(schema.meta)).all()))

        asking = [asyncio.create_task(ask_on_and_on()) for _ in range(3)]
        await owner.put_aside()
        await owner.write(lambda c: c.execute(insert(schema.tasks), [task_row(1)]))
        moved.set()
        await asyncio.gather(*asking)
        assert all(asked)
        assert len(await reader.read(lambda c: c.execute(select(schema.tasks.c.id)).all())) == 1


async def test_who_reads_a_store_from_end_to_end_is_told_when_another_takes_its_place(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as database:
        await database.write(fill)
    async with opened(path, create=False) as reader:
        assert len(await reader.read(lambda c: c.execute(select(schema.tasks.c.id)).all())) == 500
        path.rename(tmp_path / "aside.db")
        async with opened(path):
            with pytest.raises(StoreError, match="was replaced meanwhile"):
                await reader.read(lambda c: c.execute(select(schema.tasks.c.id)).all())


FOR_EVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


async def test_quick_questions_pass_a_slow_one(tmp_path: Path) -> None:
    database = Database(tmp_path / "store.db")
    await database.open()
    slow = asyncio.create_task(database.read(lambda c: c.exec_driver_sql(FOR_EVER).scalar(), limit=30.0))
    try:
        for number in range(5):
            assert await database.read(lambda c, n=number: c.execute(select(literal(n))).scalar()) == number
        assert not slow.done()
    finally:
        await database.close()
    with pytest.raises(QueryTooSlow):
        await slow
