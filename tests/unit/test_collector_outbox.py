"""The buffer between the readers and NATS: bounded, first in first out, and honest about what it dropped."""

import asyncio

from meadow_collector.outbox import OVERHEAD, Entry, Gap, Outbox


def entry(number: int, size: int = 100) -> Entry:
    return Entry("tasks", float(number), str(number).encode().ljust(size))


def numbers(entries: list[Entry]) -> list[int]:
    return [int(entry.data) for entry in entries]


def test_entries_leave_in_the_order_in_which_they_came() -> None:
    outbox = Outbox(10_000, enough=5)
    outbox.put(entry(n) for n in range(4))
    outbox.put([entry(4)])
    assert numbers(outbox.take(3, 10_000)) == [0, 1, 2]
    assert numbers(outbox.take(3, 10_000)) == [3, 4]
    assert outbox.take(3, 10_000) == []
    assert outbox.bytes == 0


def test_a_full_buffer_gives_up_the_oldest_and_counts_them() -> None:
    outbox = Outbox(3 * (100 + OVERHEAD), enough=5)
    outbox.put(entry(n) for n in range(5))
    assert outbox.dropped == 2
    assert outbox.take_gap() == Gap(start=0.0, end=1.0, events=2)
    assert outbox.take_gap() is None
    outbox.put([entry(5)])
    assert outbox.take_gap() == Gap(start=2.0, end=2.0, events=1)
    assert numbers(outbox.take(9, 10_000)) == [3, 4, 5]


def test_an_entry_larger_than_the_buffer_is_dropped_and_nothing_breaks() -> None:
    outbox = Outbox(1000, enough=5)
    outbox.put([entry(0, size=5000), entry(1)])
    assert numbers(outbox.take(9, 10_000)) == [1]
    assert outbox.dropped == 1


def test_a_batch_is_no_larger_than_asked_but_never_empty() -> None:
    outbox = Outbox(100_000, enough=5)
    outbox.put(entry(n, size=100) for n in range(4))
    assert numbers(outbox.take(9, 250)) == [0, 1]
    assert numbers(outbox.take(9, 10)) == [2]


async def test_a_full_batch_does_not_wait_for_more() -> None:
    outbox = Outbox(100_000, enough=3)
    outbox.open(asyncio.get_running_loop())
    outbox.put(entry(n) for n in range(3))
    async with asyncio.timeout(1):
        await outbox.filled(patience=3600.0)


async def test_a_batch_that_fills_while_it_waits_goes_at_once() -> None:
    outbox = Outbox(100_000, enough=3)
    outbox.open(asyncio.get_running_loop())
    waiting = asyncio.create_task(outbox.filled(patience=3600.0))
    await asyncio.to_thread(outbox.put, [entry(0)])
    await asyncio.to_thread(outbox.put, [entry(1), entry(2)])
    async with asyncio.timeout(1):
        await waiting


async def test_in_a_hurry_nothing_waits_for_others() -> None:
    outbox = Outbox(100_000, enough=3)
    outbox.open(asyncio.get_running_loop())
    waiting = asyncio.create_task(outbox.filled(patience=3600.0))
    await asyncio.to_thread(outbox.put, [entry(0)])
    outbox.hurry()
    async with asyncio.timeout(1):
        await waiting
        await outbox.filled(patience=3600.0)


def block(*numbers: int) -> Entry:
    data = b",".join(b'{"type":"task-started","uuid":"%d"}' % number for number in numbers)
    return Entry("tasks", float(numbers[0]), data, len(numbers))


def test_facts_that_were_encoded_together_count_one_by_one() -> None:
    outbox = Outbox(3 * (len(block(1, 2, 3).data) + OVERHEAD), enough=5)
    outbox.put([block(1, 2, 3), block(4, 5, 6), block(7, 8, 9)])
    assert len(outbox) == 9
    outbox.put([block(0, 1, 2)])
    assert (len(outbox), outbox.dropped) == (9, 3)
    assert outbox.take_gap() == Gap(start=1.0, end=1.0, events=3)
    assert [entry.events for entry in outbox.take(7, 10_000)] == [3, 3]
    assert [entry.events for entry in outbox.take(1, 10_000)] == [3]
    assert (len(outbox), outbox.bytes) == (0, 0)


def test_facts_that_were_encoded_together_can_be_had_one_by_one() -> None:
    together = block(4, 5)
    singles = together.singles()
    assert [single.data for single in singles] == [block(4).data, block(5).data]
    assert [(single.kind, single.seen, single.events) for single in singles] == [("tasks", 4.0, 1)] * 2
    assert singles[0].singles() == [singles[0]]
