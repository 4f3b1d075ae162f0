"""What a receipt means, and how an event that the stream holds already is known again."""

from collections import Counter

from meadow.codec import encode, encode_batch
from meadow.events import QueuesObserved, TaskStarted
from meadow_collector.outbox import OVERHEAD, Entry, Outbox
from meadow_collector.redelivery import Identity, matches, missing


def task(uuid: str, clock: int = 1, seen: float = 1.0) -> TaskStarted:
    return TaskStarted(uuid=uuid, hostname="w@h", pid=7, clock=clock, timestamp=1.5, seen=seen)


def entry(fact: TaskStarted) -> Entry:
    return Entry("tasks", fact.seen, encode(fact))


def identity(uuid: str, clock: int = 1) -> Identity:
    return Identity(type="task-started", hostname="w@h", pid=7, clock=clock, timestamp=1.5, uuid=uuid)


def test_an_event_is_known_again_whenever_it_was_seen() -> None:
    wanted = frozenset({identity("a"), identity("b", clock=2), identity("z")})
    batch = encode_batch("c", "i", [task("a"), task("b"), task("b", clock=2), QueuesObserved(seen=1.0)])
    found = Counter(matches([b"no batch", batch], wanted))
    assert found == {identity("a"): 1, identity("b", clock=2): 1}
    assert missing([entry(task("a", seen=9.0)), entry(task("z", seen=9.0))], found) == [entry(task("z", seen=9.0))]


def test_of_two_equal_events_one_is_missing_when_the_stream_holds_one() -> None:
    found = Counter({identity("a"): 1})
    assert missing([entry(task("a")), entry(task("a"))], found) == [entry(task("a"))]


def test_a_receipt_is_given_when_all_that_was_put_before_is_settled() -> None:
    outbox, told = Outbox(10_000, enough=5), []
    outbox.put([entry(task("a")), entry(task("b"))], lambda: told.append("ab"))
    outbox.put([], lambda: told.append("nothing of its own"))
    outbox.put([entry(task("c"))], lambda: told.append("c"))
    outbox.take(1, 10_000)
    outbox.settle(outbox.left)
    assert told == []
    outbox.take(1, 10_000)
    outbox.settle(outbox.left)
    assert told == ["ab", "nothing of its own"]
    outbox.take(9, 10_000)
    outbox.settle(outbox.left)
    assert told == ["ab", "nothing of its own", "c"]
    outbox.put([], lambda: told.append("at once"))
    assert told[-1] == "at once"


def test_what_was_dropped_is_settled_with_what_follows_it() -> None:
    fact = entry(task("a"))
    outbox, told = Outbox(len(fact.data) + OVERHEAD, enough=5), []
    outbox.put([fact], lambda: told.append("dropped"))
    outbox.put([fact], lambda: told.append("kept"))
    assert outbox.dropped == 1
    outbox.take(9, 10_000)
    outbox.settle(outbox.left)
    assert told == ["dropped", "kept"]
