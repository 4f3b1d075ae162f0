"""Batches survive the bus, and what is no batch is refused in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadow.codec import decode_batch, encode_batch
from meadow.errors import InvalidMessage
from meadow.events import CustomEvent, TaskReceived, TaskSucceeded, WorkerHeartbeat, type_of

FACTS = (
    TaskReceived(uuid="a", hostname="w@h", timestamp=1.5, seen=2.5, name="proj.add", args="(1, 2)", retries=3),
    TaskSucceeded(uuid="ä", hostname="w@h", timestamp=1.5, seen=2.5, result="'日本'", runtime=0.25),
    CustomEvent(uuid="c", hostname="w@h", timestamp=1.0, seen=2.0, event="task-progress", fields={"percent": 50}),
    WorkerHeartbeat(hostname="w@h", timestamp=1.0, seen=2.0, active=1, loadavg=(0.5, 0.25, 0.125)),
)


def test_a_batch_comes_back_as_it_went() -> None:
    batch = decode_batch(encode_batch("prod", "c1", FACTS))
    assert (batch.cluster, batch.collector) == ("prod", "c1")
    assert tuple(batch.events) == FACTS


def test_a_custom_event_is_known_by_the_type_it_was_sent_with() -> None:
    assert [type_of(fact) for fact in FACTS] == ["task-received", "task-succeeded", "task-progress", "worker-heartbeat"]


def test_another_version_is_refused_by_its_number() -> None:
    with pytest.raises(InvalidMessage, match="version 7"):
        decode_batch(b'{"v":7,"cluster":"a","collector":"b","events":[]}')
    with pytest.raises(InvalidMessage, match="version 2"):
        decode_batch(b'{"v":2,"another":"shape"}')


def test_an_unknown_type_in_a_batch_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="not valid"):
        decode_batch(b'{"v":1,"cluster":"a","collector":"b","events":[{"type":"task-invented"}]}')


@given(st.binary(max_size=300))
def test_any_bytes_are_either_a_batch_or_an_invalid_message(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        decode_batch(data)


@given(st.integers(min_value=1, max_value=2000))
def test_deep_nesting_does_not_break_the_reader(depth: int) -> None:
    nested = b"[" * depth + b"]" * depth
    with pytest.raises(InvalidMessage):
        decode_batch(b'{"v":1,"cluster":"a","collector":"b","events":' + nested + b'{"type"}')
