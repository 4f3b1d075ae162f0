"""The lease on publishing, on a real NATS: one holds it, and nobody's clock is compared with another's."""

import contextlib
from pathlib import Path

import pytest

from meadow.bus import Bus, Fence
from meadow.errors import BusUnavailable, Superseded
from meadow.testing import eventually, running_nats
from meadow_collector.lease import LASTS, WAIT_FOR_BETTER, Holder, Lease
from meadow_collector.stream import LeasedStream

TERM = "meadow.events.c.term"
TASKS = "meadow.events.c.tasks"


class Clock:
    """Goes when it is told to."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def lease(bus: Bus, name: str, clock: Clock) -> Lease:
    return Lease(bus, "c", name, clock)


async def test_a_lease_that_is_renewed_is_never_free_and_one_that_is_not_is_free_when_it_has_lasted(bus: Bus) -> None:
    here, there = Clock(5.0), Clock(70_000.0)
    one, other = lease(bus, "one", here), lease(bus, "other", there)
    await one.look()
    assert one.free(eager=True)
    await one.write(Holder("one"))
    for _ in range(3):
        assert (await other.look()).name == "one"
        there.now += LASTS - 0.1
        assert not other.free(eager=True)
        await one.write(Holder("one"))
    await other.look()
    there.now += LASTS
    assert other.free(eager=True)
    assert not other.free(eager=False)
    there.now += WAIT_FOR_BETTER
    assert other.free(eager=False)
    await other.write(Holder("other"))
    with pytest.raises(Superseded):
        await one.write(Holder("one"))


async def test_who_holds_a_lease_stops_by_its_own_clock_before_anybody_else_may_begin(bus: Bus) -> None:
    clock = Clock(5.0)
    one = lease(bus, "one", clock)
    await one.look()
    await one.write(Holder("one"))
    assert one.held
    clock.now += LASTS
    assert not one.held


async def test_of_two_that_take_a_free_lease_one_gets_it(bus: Bus) -> None:
    one, other = lease(bus, "one", Clock(1.0)), lease(bus, "other", Clock(1.0))
    await one.look()
    await other.look()
    await other.write(Holder("other"))
    with pytest.raises(Superseded):
        await one.write(Holder("one"))
    assert not one.held


async def test_a_lease_that_was_given_back_is_free_at_once(bus: Bus) -> None:
    one, other = lease(bus, "one", Clock(1.0)), lease(bus, "other", Clock(1.0))
    await one.look()
    await one.write(Holder("one"))
    await other.look()
    assert not other.free(eager=True)
    await one.let_go()
    assert not one.held
    await other.look()
    assert other.free(eager=True)


async def test_while_nats_is_away_the_lease_of_another_does_not_become_free(tmp_path: Path) -> None:
    async with running_nats(tmp_path) as server, contextlib.AsyncExitStack() as stack:
        bus = await Bus.connect(server.url, name="test")
        stack.push_async_callback(bus.close)
        clock = Clock(1.0)
        one, other = lease(bus, "one", Clock(1.0)), lease(bus, "other", clock)
        await one.look()
        await one.write(Holder("one"))
        await other.look()
        await server.stop()
        await eventually(lambda: not bus.connected)
        with pytest.raises(BusUnavailable):
            await other.look()
        clock.now += 60.0
        assert not other.free(eager=True)
        await server.start()
        await eventually(lambda: bus.connected)
        await other.look()
        assert not other.free(eager=True)
        clock.now += LASTS + 0.1
        assert other.free(eager=True)


async def test_what_a_collector_began_to_send_before_another_took_over_is_refused_by_nats(bus: Bus) -> None:
    one = lease(bus, "one", Clock(1.0))
    await one.look()
    await one.write(Holder("one"))
    stream = LeasedStream(bus, one)
    stream.fence = Fence(TERM, await bus.append(TERM, b"{}", fence=Fence(TERM, 0)))
    assert await stream.append(TASKS, b"first") == stream.newest
    after = stream.fence.sequence
    await bus.append(TERM, b"{}", fence=Fence(TERM, after))
    with pytest.raises(Superseded):
        await stream.append(TASKS, b"late")  # by its own clock it still holds the lease
    assert stream.refused
    last = await bus.last_on("MEADOW_EVENTS", TASKS)
    assert last is not None
    assert last.data == b"first"


async def test_of_two_that_put_up_a_fence_behind_the_same_one_the_second_is_refused(bus: Bus) -> None:
    await bus.append(TERM, b"{}", fence=Fence(TERM, 0))
    with pytest.raises(Superseded):
        await bus.append(TERM, b"{}", fence=Fence(TERM, 0))


async def test_without_the_lease_nothing_is_sent(bus: Bus) -> None:
    clock = Clock(1.0)
    one = lease(bus, "one", clock)
    stream = LeasedStream(bus, one)
    stream.fence = Fence(TERM, 0)
    with pytest.raises(BusUnavailable):
        await stream.append(TASKS, b"never")
    await one.look()
    await one.write(Holder("one"))
    await stream.append(TASKS, b"now")
    clock.now += LASTS
    with pytest.raises(BusUnavailable):
        await stream.append(TASKS, b"too late")
    assert (await bus.stream_state("MEADOW_EVENTS")).last == 1
