"""Frames to messages, numbers to acknowledgements, URLs to addresses: the AMQP adapter's pure parts."""

import pickle
import struct
import sys
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadow.broker import BrokerConfig
from meadow.errors import BrokerUnavailable, InvalidEvent
from meadow.event_body import MAX_YAML, decode_body
from meadow_amqp import AmqpAdapter
from meadow_amqp.acknowledgements import Acknowledgements
from meadow_amqp.addresses import Address, addresses
from meadow_amqp.frames import Frames, Message
from meadow_amqp.subscription import queue_name


def frame(kind: int, payload: bytes, channel: int = 1) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def delivery(number: int, body: bytes, *, redelivered: bool = False, piece: int = 1000) -> bytes:
    """A message as RabbitMQ sends it (AMQP 0-9-1, 2.3.5.2)."""
    method = struct.pack(">HHB6sQB", 60, 60, 6, b"meadow", number, redelivered) + b"\x08celeryev\x0atask.multi"
    content = b"\x10application/json\x05utf-8" + struct.pack(">I", 0) + b"\x01"
    header = struct.pack(">HHQH", 60, 0, len(body), 0xF000) + content
    bodies = [frame(3, body[start : start + piece]) for start in range(0, len(body), piece)]
    return frame(1, method) + frame(2, header) + b"".join(bodies)


HEARTBEAT = frame(8, b"", channel=0)


@given(st.lists(st.integers(1, 60)), st.integers(1, 20))
def test_messages_are_the_same_wherever_the_stream_is_cut(cuts: list[int], piece: int) -> None:
    bodies = [b"[1]", b"", b"x" * 45, b"[2]"]
    stream = HEARTBEAT.join(
        delivery(number, body, redelivered=number == 2, piece=piece) for number, body in enumerate(bodies, 1)
    )
    others: list[tuple[int, int, bytes]] = []
    frames = Frames(1, 4096, others.append)
    messages: list[Message] = []
    start = 0
    for cut in [*cuts, len(stream)]:
        messages += frames.feed(stream[start : start + cut])
        start += cut
    assert messages == [Message(number, number == 2, "application/json", body) for number, body in enumerate(bodies, 1)]
    assert others == [(8, 0, b"")] * 3


def test_other_methods_on_the_channel_are_handed_on_and_missing_content_types_are_none() -> None:
    others: list[tuple[int, int, bytes]] = []
    frames = Frames(1, 4096, others.append)
    cancel = struct.pack(">HHB6sB", 60, 30, 6, b"meadow", 1)
    method = struct.pack(">HHB6sQB", 60, 60, 6, b"meadow", 9, 0) + b"\x00\x00"
    header = struct.pack(">HHQH", 60, 0, 1, 0)
    messages = frames.feed(frame(1, cancel) + frame(1, method) + frame(2, header) + frame(3, b"x"))
    assert messages == [Message(9, False, None, b"x")]
    assert others == [(1, 1, cancel)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "bytes, which is not AMQP"),
        (frame(8, b"")[:-1] + b"\x00", "without an end"),
        (
            delivery(1, b"abc").replace(b"abc", b"abcd").replace(b"\x00\x00\x00\x03abcd", b"\x00\x00\x00\x04abcd"),
            "more",
        ),
        (delivery(1, b"abc")[:60] + frame(3, b""), "."),
        (frame(1, b"\x00\x3c\x00\x3c\x00" + b"\x00" * 9) + HEARTBEAT + frame(3, b"x"), "wrong order"),
    ],
)
def test_what_is_not_amqp_ends_the_connection_with_a_reason(data: bytes, reason: str) -> None:
    frames = Frames(1, 4096, lambda other: None)
    with pytest.raises(BrokerUnavailable, match=reason):
        frames.feed(data + b"\x00" * 100)


class Woken:
    """Counts how often it was woken."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def test_only_what_is_stored_without_a_hole_is_acknowledged_and_one_wake_up_is_enough() -> None:
    woken = Woken()
    acknowledgements = Acknowledgements(woken)
    for _ in range(5):
        acknowledgements.delivered(10)
    acknowledgements.stored(3, 3)
    acknowledgements.stored(2, 2)
    assert woken.times == 1
    assert acknowledgements.due() is None
    assert (len(acknowledgements), acknowledgements.bytes) == (5, 50)
    acknowledgements.stored(1, 1)
    assert woken.times == 2
    assert acknowledgements.due() == 3
    assert (len(acknowledgements), acknowledgements.bytes) == (2, 20)
    assert acknowledgements.due() is None
    acknowledgements.stored(5, 5)
    acknowledgements.stored(4, 4)
    assert acknowledgements.due() == 5
    assert (len(acknowledgements), acknowledgements.bytes) == (0, 0)


@given(st.permutations(range(12)), st.lists(st.integers(1, 4), min_size=12, max_size=12), st.sets(st.integers(0, 11)))
def test_everything_is_acknowledged_in_the_end_and_nothing_too_early(
    order: list[int], sizes: list[int], asked: set[int]
) -> None:
    acknowledgements = Acknowledgements(lambda: None)
    ends = list(accumulate(sizes))
    for _ in range(ends[-1]):
        acknowledgements.delivered(1)
    stored: set[int] = set()
    last = 0
    for index, group in enumerate(order):
        numbers = range(ends[group] - sizes[group] + 1, ends[group] + 1)
        acknowledgements.stored(numbers[0], numbers[-1])
        stored.update(numbers)
        if index in asked or index == len(order) - 1:
            last = acknowledgements.due() or last
            assert set(range(1, last + 1)) <= stored
            assert last + 1 not in stored
    assert last == ends[-1]
    assert acknowledgements.bytes == 0


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("amqp://", Address("127.0.0.1", 5672, "guest", "guest", "/", False)),
        ("amqp://guest@localhost//", Address("127.0.0.1", 5672, "guest", "guest", "/", False)),
        ("pyamqp://ada:x@Rabbit:7/v", Address("rabbit", 7, "ada", "x", "v", False)),
        ("amqps://a%40b:%2F%3B%25@h/%2Fmy%2Fv", Address("h", 5671, "a@b", "/;%", "/my/v", True)),
        ("amqp://h/a/b", Address("h", 5672, "guest", "guest", "a/b", False)),
        ("amqp://[::1]:1//", Address("::1", 1, "guest", "guest", "/", False)),
    ],
)
def test_urls_mean_what_they_mean_to_kombu(url: str, address: Address) -> None:
    assert addresses(url) == [address]
    assert address.password == "guest" or address.password not in repr(address)


def test_tls_that_is_asked_for_by_options_changes_the_port() -> None:
    assert addresses("amqp://h", tls=True) == [Address("h", 5671, "guest", "guest", "/", True)]


@pytest.mark.parametrize(
    ("url", "fits"),
    [("amqp://h", True), ("amqps://h;amqps://i", True), ("pyamqp://", True), ("redis://h", False), ("sqs://", False)],
)
def test_the_adapter_fits_amqp_only(url: str, fits: bool) -> None:
    assert AmqpAdapter().fits(url) is fits


def test_the_queue_is_named_after_cluster_and_group() -> None:
    assert queue_name(BrokerConfig(cluster="shop")) == "meadow.shop.events"
    assert queue_name(BrokerConfig(cluster="shop", group="ab12")) == "meadow.shop.events.ab12"


@pytest.mark.parametrize(
    ("body", "content_type", "value"),
    [
        (b'{"a": 1}', "application/json", {"a": 1}),
        (b'{"a": Infinity}', "application/json", {"a": float("inf")}),
        (b"\x81\xa1a\x01", "application/x-msgpack", {"a": 1}),
    ],
)
def test_harmless_bodies_are_read(body: bytes, content_type: str, value: Any) -> None:
    assert decode_body(body, content_type, accept_pickle=False) == value


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (pickle.dumps({}), "application/x-python-serialize", "pickle"),
        (b"{}", "text/plain", "content-type"),
        (b"{}", None, "content-type"),
        (b"{", "application/json", "undecodable"),
        (b"\xc1", "application/x-msgpack", "undecodable"),
        (b" " * (MAX_YAML + 1), "application/x-yaml", "too-large"),
    ],
)
def test_other_bodies_are_refused(body: bytes, content_type: str | None, reason: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        decode_body(body, content_type, accept_pickle=False)
    assert caught.value.reason == reason


def test_pickled_bodies_are_read_where_the_settings_say_so() -> None:
    assert decode_body(pickle.dumps({"a": 1}), "application/x-python-serialize", accept_pickle=True) == {"a": 1}


def test_yaml_is_refused_where_nothing_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(InvalidEvent, match="PyYAML"):
        decode_body(b"a: 1", "application/x-yaml", accept_pickle=False)
