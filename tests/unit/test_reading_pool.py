"""The threads that answer questions: in turns while they are quick, beside each other when one is slow."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from meadow_api.store import reading_pool
from meadow_api.store.reading_pool import NotTaken, ReadingPool

THREADS = 3
PATIENCE = 10.0


@asynccontextmanager
async def opened(*, in_turns: bool) -> AsyncIterator[ReadingPool]:
    pool = ReadingPool(THREADS, "test", in_turns=in_turns)
    try:
        yield pool
    finally:
        pool.shut()
        await asyncio.to_thread(pool.join)


def held(until: threading.Event, begun: threading.Event | None = None) -> Callable[[], str]:
    """A question that takes until then."""

    def work() -> str:
        if begun is not None:
            begun.set()
        assert until.wait(PATIENCE)
        return "slow"

    return work


async def test_quick_questions_are_answered_in_order_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_pool, "MOMENT", PATIENCE)  # a machine that is busy makes any question slow
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
        pool.shut()
        free.set()
        await asyncio.to_thread(pool.join)
        assert await asyncio.gather(*under_way) == ["slow"] * THREADS
        for refused in (waiting, pool.run(lambda: "never")):
            with pytest.raises(NotTaken, match="closed"):
                await refused


async def test_a_question_that_ends_just_when_it_is_looked_at_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look once read twice when the leader began, and its thread may be done in between."""
    pool = ReadingPool(THREADS, "test", in_turns=True)
    free = threading.Event()

    class Clock:
        """Tells the look that much time has gone by, and lets the question end before it is told."""

        @staticmethod
        def monotonic() -> float:
            if threading.current_thread() is threading.main_thread() and not free.is_set():
                free.set()
                wait_until(lambda: pool._leader.began is None)
            return time.monotonic()

    async with asyncio.timeout(PATIENCE):
        first, second = (asyncio.create_task(pool.run(work)) for work in (held(free), held(free)))
        monkeypatch.setattr(reading_pool, "time", Clock)
        assert await asyncio.gather(first, second) == ["slow", "slow"]
        slow, begun = threading.Event(), threading.Event()
        monkeypatch.undo()
        behind = asyncio.create_task(pool.run(held(slow, begun)))
        await asyncio.to_thread(begun.wait, PATIENCE)
        assert await pool.run(lambda: "passed") == "passed"
        slow.set()
        await behind
    pool.shut()
    await asyncio.to_thread(pool.join)


def wait_until(condition: Callable[[], bool]) -> None:
    """In a thread, for a moment: the other thread may have to come first."""
    end = time.monotonic() + 1.0
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)


async def test_too_many_questions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_pool, "MOST_OPEN", 2)
    free = threading.Event()
    async with opened(in_turns=True) as pool, asyncio.timeout(PATIENCE):
        asked = [asyncio.create_task(pool.run(held(free))) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(NotTaken, match="Too many"):
            await pool.run(lambda: "one too many")
        free.set()
        assert await asyncio.gather(*asked) == ["slow", "slow"]
        assert await pool.run(lambda: "on") == "on"


async def test_what_no_future_can_carry_is_an_error_too() -> None:
    async with opened(in_turns=True) as pool:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await pool.run(lambda: next(iter(())))
        assert await pool.run(lambda: 1) == 1


async def test_a_pool_that_nobody_asked_can_be_shut() -> None:
    async with opened(in_turns=True):
        pass
