"""What comes faster than it can be decoded waits; what is too much is given up, oldest first, and counted."""

import base64
import json

from meadow.broker import Dropped
from meadow.codec import decode_batch, join_batch
from meadow.events import TaskStarted
from meadow.redact import Redactor
from meadow_collector.intake import Intake
from meadow_collector.outbox import Gap, Outbox
from meadow_redis.backlog import OVERHEAD, Backlog, Piece
from meadow_redis.envelope import count_events

EVENT = {"type": "task-started", "uuid": "u", "hostname": "h", "timestamp": 5.0}


def message(*uuids: str) -> bytes:
    body = json.dumps([{"uuid": uuid} for uuid in uuids]).encode()
    properties = {"body_encoding": "base64"}
    envelope = {"body": base64.b64encode(body).decode(), "content-type": "application/json", "properties": properties}
    return json.dumps(envelope).encode()


def piece(seen: float, *uuids: str) -> Piece:
    return Piece(seen, [message(uuid) for uuid in uuids])


SIZE = len(message("a")) + OVERHEAD


def test_what_fits_leaves_in_the_order_of_its_arrival() -> None:
    backlog = Backlog(SIZE * 3)
    pieces = [piece(1.0, "a"), piece(2.0, "b", "c")]
    for one in pieces:
        backlog.add(one)
    assert [backlog.take(), backlog.take(), backlog.take()] == [*pieces, None]
    assert backlog.take_dropped() is None


def test_the_oldest_is_given_up_and_counted_by_events() -> None:
    backlog = Backlog(SIZE * 2)
    backlog.add(Piece(1.0, [message("a", "b", "c"), b"not a message"]))
    for number in range(2, 7):
        backlog.add(piece(float(number), "x"))
    assert backlog.take() == piece(5.0, "x")
    assert backlog.take_dropped() == Dropped(events=3 + 1 + 3, start=1.0, end=4.0)
    assert backlog.take_dropped() is None
    assert backlog.take() == piece(6.0, "x")
    backlog.add(piece(7.0, "x"))
    assert backlog.take() == piece(7.0, "x")
    assert backlog.take_dropped() is None


def test_one_piece_is_kept_whatever_its_size() -> None:
    backlog = Backlog(10)
    backlog.add(piece(1.0, "a", "b"))
    assert backlog.take() == piece(1.0, "a", "b")


def test_a_lasting_overload_is_told_once_for_each_second_of_it() -> None:
    backlog = Backlog(SIZE)
    told = []
    for tenth in range(35):
        backlog.add(piece(tenth / 10, "x"))
        dropped = backlog.take_dropped()
        if dropped is not None:
            told.append(dropped)
    assert [(dropped.start, dropped.end, dropped.events) for dropped in told] == [
        (0.0, 0.9, 10),
        (1.0, 1.9, 10),
        (2.0, 2.9, 10),
    ]


def test_events_of_a_message_are_counted_without_decoding_them() -> None:
    assert count_events(message("a", "b")) == 2
    assert count_events(message()) == 0
    assert count_events(message("a").replace(b'"content-type"', b'"other"')) == 1
    assert count_events(b"\xff") == 1


def test_the_intake_counts_what_was_given_up_as_received_and_as_part_of_the_gap() -> None:
    outbox = Outbox(10_000_000, enough=10)
    intake = Intake(outbox, Redactor(), 65536, lambda: 1_000_000)
    intake.deliver(Dropped(events=7, start=3.0, end=4.0), 4.0)
    intake.deliver(Dropped(events=2, start=5.0, end=6.0), 6.0)
    intake.deliver(EVENT, 6.5)
    assert (intake.received, outbox.dropped) == (10, 9)
    assert outbox.take_gap() == Gap(start=3.0, end=6.0, events=9)
    (entry,) = outbox.take(9, 10**6)
    (fact,) = decode_batch(join_batch("c", "i", [entry.data])).events
    assert isinstance(fact, TaskStarted)
