"""How late the event loop is."""

import asyncio
import time

from meadow.loop_lag import INTERVAL, LoopLag
from meadow.testing import eventually


async def test_a_loop_that_is_held_up_says_for_how_long() -> None:
    lag = LoopLag()
    measuring = asyncio.create_task(lag.run())
    await asyncio.sleep(0)
    end = time.monotonic() + 0.3
    while time.monotonic() < end:  # nothing else runs meanwhile
        pass
    await eventually(lambda: 0.15 < lag.seconds < 30.0)
    measuring.cancel()


def test_a_delay_is_remembered_for_one_interval_and_forgotten_after_two() -> None:
    lag = LoopLag()
    lag.note(0.4, 1.0)
    lag.note(0.1, INTERVAL)
    assert lag.seconds == 0.4
    lag.note(0.2, 2 * INTERVAL)
    assert lag.seconds == 0.2
    lag.note(0.0, 3 * INTERVAL)
    assert lag.seconds == 0.2
    lag.note(0.0, 4 * INTERVAL)
    assert lag.seconds == 0.0
