"""The watch owns long-running tasks: one that fails is told, and none outlives it."""

import asyncio
import logging

import pytest

from meadow.service import Watch


async def test_a_task_that_fails_is_told_with_its_error(caplog: pytest.LogCaptureFixture) -> None:
    watch = Watch()

    async def fail() -> None:
        raise ValueError("no disk")

    watch.start("the store", fail())
    assert str(await asyncio.wait_for(watch.failed(), 5)) == "no disk"
    assert "the store failed: no disk" in caplog.text


async def test_a_task_that_loses_its_first_cancellation_is_cancelled_again() -> None:
    watch = Watch()
    cancellations = 0

    async def stubborn() -> None:
        nonlocal cancellations
        while cancellations < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancellations += 1

    task = watch.start("stubborn", stubborn())
    await asyncio.sleep(0)
    await watch.stop(deadline=10.0)
    assert task.done()
    assert cancellations == 2


async def test_a_task_that_does_not_stop_is_named(caplog: pytest.LogCaptureFixture) -> None:
    watch = Watch()
    release = asyncio.Event()

    async def deaf() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    task = watch.start("deaf", deaf())
    await asyncio.sleep(0)
    with caplog.at_level(logging.WARNING):
        await watch.stop(deadline=0.1)
    assert "deaf did not stop in time." in caplog.text
    release.set()
    await task
