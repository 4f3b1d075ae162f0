"""The threads that answer questions: in turns while they are quick, beside each other when one is slow."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from meadow.testing import eventually
from meadow_api.store.reading_pool import PoolShut, ReadingPool

THREADS = 3
PATIENCE = 10.0


@asynccontextmanager
async def opened(*, in_turns: bool) -> AsyncIterator[ReadingPool]:
    pool = ReadingPool(THREADS, "test", in_turns=in_turns)
    try:
        yield pool
    finally:
        await asyncio.to_thread(pool.shutdown)


def held(until: threading.Event, begun: threading.Event | None = None) -> Callable[[], str]:
    """A question that takes until then."""

    def work() -> str:
        if begun is not None:
            begun.set()
        assert until.wait(PATIENCE)
        return "slow"

    return work


async def test_quick_questions_are_answered_in_order_by_one_thread() -> None:
    order: list[int] = []

    def work(number: int) -> tuple[int, int]:
        order.append(number)
        return number, threading.get_ident()

    async with opened(in_turns=True) as pool:
        found = await asyncio.gather(*(pool.run(lambda number=number: work(number)) for number in range(50)))
    assert order == [number for number, _ in found] == list(range(50))
    assert len({thread for _, thread in found}) == 1


async def test_slow_questions_are_passed_by_those_that_come_after_and_hold_up_none_before() -> None:
    free = threading.Event()
    async with opened(in_turns=True) as pool, asyncio.timeout(PATIENCE):
        before = asyncio.create_task(pool.run(lambda: "before"))
        slow = [asyncio.create_task(pool.run(held(free))) for _ in range(THREADS - 1)]
        after = asyncio.create_task(pool.run(lambda: "after"))
        assert [await before, await after] == ["before", "after"]
        assert not any(task.done() for task in slow)
        free.set()
        assert await asyncio.gather(*slow) == ["slow"] * (THREADS - 1)
        assert await pool.run(lambda: "on") == "on"


async def test_when_all_threads_are_at_slow_ones_those_after_them_wait_and_those_before_them_do_not() -> None:
    free = threading.Event()
    async with opened(in_turns=True) as pool, asyncio.timeout(PATIENCE):
        before = asyncio.create_task(pool.run(lambda: "before"))
        begun = [threading.Event() for _ in range(THREADS)]
        slow = [asyncio.create_task(pool.run(held(free, each))) for each in begun]
        after = asyncio.create_task(pool.run(lambda: "after"))
        assert await before == "before"
        assert all(await asyncio.gather(*(asyncio.to_thread(each.wait, PATIENCE) for each in begun)))
        assert not after.done()
        free.set()
        assert await after == "after"
        assert await asyncio.gather(*slow) == ["slow"] * THREADS


async def test_without_turns_all_are_answered_at_the_same_time() -> None:
    together = threading.Barrier(THREADS, timeout=PATIENCE)
    async with opened(in_turns=False) as pool:
        found = await asyncio.gather(*(pool.run(together.wait) for _ in range(THREADS)))
    assert sorted(found) == list(range(THREADS))


async def test_what_a_question_raises_is_raised_where_it_was_asked() -> None:
    def fail() -> None:
        raise ValueError("no such thing")

    async with opened(in_turns=True) as pool:
        with pytest.raises(ValueError, match="no such thing"):
            await pool.run(fail)
        assert await pool.run(lambda: 1) == 1


async def test_a_question_that_was_given_up_before_it_began_is_not_answered() -> None:
    free, begun, answered = threading.Event(), threading.Event(), list[int]()
    async with opened(in_turns=True) as pool, asyncio.timeout(PATIENCE):
        slow = [asyncio.create_task(pool.run(held(free, begun))) for _ in range(THREADS)]
        await asyncio.to_thread(begun.wait, PATIENCE)
        given_up = asyncio.create_task(pool.run(lambda: answered.append(1)))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait([given_up])
        free.set()
        await asyncio.gather(*slow)
        assert await pool.run(lambda: 2) == 2
    assert answered == []


@pytest.mark.parametrize("in_turns", [True, False])
async def test_a_pool_that_is_shut_finishes_what_it_began_and_refuses_the_rest(in_turns: bool) -> None:
    free, begun = threading.Event(), [threading.Event() for _ in range(THREADS)]
    pool = ReadingPool(THREADS, "test", in_turns=in_turns)
    async with asyncio.timeout(PATIENCE):
        under_way = [asyncio.create_task(pool.run(held(free, each))) for each in begun]
        await asyncio.gather(*(asyncio.to_thread(each.wait, PATIENCE) for each in begun))
        waiting = asyncio.create_task(pool.run(lambda: "never"))
        await asyncio.sleep(0)
        shutting = asyncio.create_task(asyncio.to_thread(pool.shutdown))
        await eventually(lambda: pool._closed)
        free.set()
        await shutting
        assert await asyncio.gather(*under_way) == ["slow"] * THREADS
        for refused in (waiting, pool.run(lambda: "never")):
            with pytest.raises(PoolShut):
                await refused


async def test_a_pool_that_nobody_asked_can_be_shut() -> None:
    async with opened(in_turns=True):
        pass
