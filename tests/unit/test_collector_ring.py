"""What a collector keeps while another one publishes, and what it passes on when it takes over."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from meadow.codec import decode, encode, join_batch
from meadow.events import CollectorGap, TaskStarted, WorkerHeartbeat
from meadow_collector.heard import Heard, missing
from meadow_collector.outbox import OVERHEAD, Entry, Outbox
from meadow_collector.readback import Told
from meadow_collector.ring import LATECOMERS, SPARE, Position, Ring

PLENTY = 1_000_000


def published(ring: Ring, outbox: Outbox) -> list[int]:
    """The numbers of all that is passed on while NATS takes it."""
    numbers: list[int] = []
    while taken := passed_on(outbox):
        numbers += taken
        outbox.settle(outbox.left)
        ring.catch_up()
    return numbers


class Clock:
    """Goes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def fact(number: int, seen: float = 1.0) -> TaskStarted:
    return TaskStarted(uuid=f"t{number}", hostname="w@h", pid=7, clock=number, timestamp=1.5, seen=seen)


def entry(*numbers: int, seen: float = 1.0) -> Entry:
    data = b",".join(encode(fact(number, seen)) for number in numbers)
    return Entry("tasks", seen, data, len(numbers))


def told(*numbers: int) -> "Counter[int]":
    """What a collector finds in the stream that holds these."""
    found = Told()
    found.add([b"no batch", join_batch("c", "another", [encode(fact(number, seen=9.0)) for number in numbers])])
    return found.marks


def passed_on(outbox: Outbox) -> list[int]:
    """The numbers of the events that are to be published."""
    entries = outbox.take(PLENTY, PLENTY)
    return [
        int(decode(single.data, TaskStarted).uuid[1:])
        for each in entries
        if each.kind == "tasks"
        for single in each.singles()
    ]


def made(limit: int = PLENTY) -> tuple[Ring, Outbox, Clock]:
    clock, outbox = Clock(), Outbox(PLENTY, enough=10)
    return Ring(outbox, limit, clock), outbox, clock


def take_over(ring: Ring, told: "Counter[int]") -> int:
    """Lead, do what the ring's own thread does, and give how many events were stored already."""
    ring.lead(told)
    ring.catch_up()
    return ring.skipped


def test_an_event_is_known_again_by_whoever_heard_it_and_whenever() -> None:
    assert missing(entry(1, 2, 3, seen=5.0), told(2)) == [entry(1, seen=5.0), entry(3, seen=5.0)]
    assert missing(entry(4, 5), told(1, 2)) == [entry(4, 5)]


def test_what_meadow_says_of_itself_is_never_taken_for_what_another_collector_has_said() -> None:
    gap = Entry("collector", 1.0, encode(CollectorGap(seen=1.0, start=0.0, end=1.0, reason="broker-unavailable")))
    found = Told()
    found.add([join_batch("c", "another", [gap.data])])
    assert missing(gap, found.marks) == [gap]


def test_of_two_equal_events_one_is_missing_when_the_stream_holds_one() -> None:
    assert missing(entry(1, 1), told(1)) == [entry(1)]


def test_a_standby_publishes_nothing() -> None:
    ring, outbox, _ = made()
    ring.put([entry(1)])
    assert passed_on(outbox) == []
    assert len(ring) == 1


def test_who_takes_over_publishes_what_the_stream_lacks_in_order_and_then_all_that_comes() -> None:
    ring, outbox, _ = made()
    ring.put([entry(1, 2), entry(3)])
    ring.put([entry(4)])
    assert take_over(ring, told(1, 3)) == 2
    ring.put([entry(5)])
    assert passed_on(outbox) == [2, 4, 5]


def test_what_the_one_before_had_stored_is_left_out_also_when_it_is_heard_later() -> None:
    ring, outbox, clock = made()
    ring.put([entry(1)])
    take_over(ring, told(1, 2, 3))
    clock.now += LATECOMERS - 1.0
    ring.put([entry(2, 4)])
    clock.now += 2.0
    ring.put([entry(3)])  # nobody is that late: it is another one that looks the same
    assert passed_on(outbox) == [4, 3]


def event(number: int) -> Heard:
    """What another collector says of an event that it has stored."""
    return decode(encode(fact(number, seen=9.0)), Heard)


def test_what_came_before_an_event_that_another_one_has_stored_is_let_go() -> None:
    ring, _, clock = made()
    for number in range(1, 5):
        ring.put([entry(number)])
        clock.now += SPARE
    assert ring.stored(event(3), 70) == Position(102.0, 70)
    assert len(ring) == 2
    assert ring.stored(event(3), 70) == Position(102.0, 70)


def test_an_event_that_is_heard_later_than_another_one_has_stored_it_lets_go_when_it_comes() -> None:
    ring, _, clock = made()
    ring.put([entry(1)])
    clock.now += 60.0
    assert ring.stored(event(3), 70) is None
    assert ring.stored(event(4), 80) is None
    ring.put([entry(2)])
    assert ring.stored(event(5), 90) is None
    assert len(ring) == 2
    ring.put([entry(3)])
    clock.now += 2 * SPARE
    assert ring.stored(event(6), 95) == Position(160.0, 70)
    assert len(ring) == 1


def test_what_just_came_is_kept_for_a_moment_though_it_is_stored() -> None:
    ring, _, _ = made()
    ring.put([entry(1)])
    ring.put([entry(2)])
    assert ring.stored(event(2), 70) is not None
    assert len(ring) == 2


def test_an_event_of_a_worker_is_found_too() -> None:
    beat = WorkerHeartbeat(hostname="w@h", pid=7, clock=12, timestamp=1.5, seen=1.0)
    ring, _, clock = made()
    ring.put([entry(1), Entry("workers", 1.0, encode(beat))])
    clock.now += 2 * SPARE
    assert ring.stored(decode(encode(beat), Heard), 70) is not None


def test_a_leader_says_which_event_it_has_stored_last() -> None:
    ring, outbox, clock = made()
    take_over(ring, Counter())
    assert ring.newest_stored is None
    ring.put([entry(1, 2)])
    clock.now += 1.0
    ring.put([entry(3)])
    outbox.take(2, PLENTY)
    outbox.settle(outbox.left)
    newest = ring.newest_stored
    assert newest is not None
    assert (newest[0].mark, newest[1]) == (event(2).mark, 100.0)


def test_a_leader_keeps_what_is_under_way_and_stands_by_with_it() -> None:
    ring, outbox, _ = made()
    take_over(ring, Counter())
    ring.put([entry(1)])
    ring.put([entry(2)])
    assert len(outbox.take(1, PLENTY)) == 1
    outbox.settle(outbox.left)
    ring.follow()
    outbox.forget()
    ring.put([entry(3)])
    assert len(outbox) == 0
    take_over(ring, Counter())
    assert passed_on(outbox) == [2, 3]


def test_a_full_ring_gives_up_the_oldest_and_says_which() -> None:
    size = len(entry(1).data) + OVERHEAD
    ring, outbox, clock = made(limit=2 * size)
    for number in range(1, 6):
        ring.put([entry(number, seen=float(number))])
        clock.now += 1.0
    assert ring.overflow is not None
    assert (ring.overflow.start, ring.overflow.end, ring.overflow.events) == (1.0, 3.0, 3)
    assert ring.reach == 3.0  # the third came then
    take_over(ring, Counter())
    assert published(ring, outbox) == [4, 5]


def test_an_overflow_that_another_one_has_stored_is_forgotten() -> None:
    ring, _, _ = made(limit=1)
    ring.put([entry(1)])
    ring.put([entry(2)])
    assert ring.stored(event(1), 70) is None
    assert ring.overflow is not None
    assert ring.stored(event(2), 71) is not None
    assert ring.overflow is None


def test_a_leader_whose_nats_is_away_keeps_no_more_than_it_may_and_counts_what_it_gives_up() -> None:
    size = len(entry(1000).data) + OVERHEAD
    ring, outbox, _ = made(limit=40 * size)
    take_over(ring, Counter())
    for number in range(1000, 1100):
        ring.put([entry(number)])
        assert ring.bytes <= 40 * size
    assert outbox.dropped == 60
    assert len(ring) == 40
    numbers = published(ring, outbox)
    assert numbers == [*range(1000, 1010), *range(1070, 1100)]  # behind what was on its way already
    assert (len(ring), ring.bytes) == (0, 0)
    ring.put([entry(2000)])
    assert passed_on(outbox) == [2000]


def test_what_a_leader_gave_up_and_could_not_tell_is_told_by_whoever_leads_next() -> None:
    ring, outbox, _ = made(limit=4 * (len(entry(1).data) + OVERHEAD))
    take_over(ring, Counter())
    for number in range(1, 9):
        ring.put([entry(number, seen=float(number))])
    ring.follow()
    outbox.forget()
    assert ring.overflow is not None
    assert ring.overflow.events == outbox.dropped == 4


def test_a_message_is_acknowledged_at_once_because_another_collector_heard_it_too() -> None:
    ring, _, _ = made()
    told: list[str] = []
    ring.put([entry(1)], lambda: told.append("one"))
    assert told == ["one"]


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=30), st.integers(0, 100), st.integers(0, 100), st.integers(0, 100)
)
def test_whenever_a_leader_dies_each_event_is_published_once(
    sizes: list[int], heard_there: int, stored: int, heard_here: int
) -> None:
    numbers = iter(range(PLENTY))
    messages = [[next(numbers) for _ in range(size)] for size in sizes]
    one, its_outbox, _ = made()
    other, my_outbox, _ = made()
    take_over(one, Counter())
    for message in messages[: heard_there * len(messages) // 100]:
        one.put([entry(*message)])
    under_way = passed_on(its_outbox)
    stream = under_way[: stored * len(under_way) // 100]
    heard = heard_here * len(messages) // 100
    for message in messages[:heard]:
        other.put([entry(*message)])
    take_over(other, told(*stream))
    for message in messages[heard:]:
        other.put([entry(*message)])
    assert Counter(stream + passed_on(my_outbox)) == Counter(number for message in messages for number in message)
