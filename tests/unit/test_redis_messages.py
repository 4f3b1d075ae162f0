"""What kombu publishes on Redis is taken out of its envelope; what is not plainly harmless is refused."""

import base64
import json
import pickle
from typing import Any

import msgspec
import pytest

from meadow.errors import InvalidEvent
from meadow_redis.envelope import decode_message
from meadow_redis.queue_reader import Names, unacked_by_queue

EVENT = {"type": "task-started", "uuid": "a", "hostname": "h", "timestamp": 1.5, "note": "\u00e9"}


def envelope(body: Any, content_type: Any = "application/json", *, encoded: bool = True, **changes: Any) -> bytes:
    return json.dumps(
        {
            "body": base64.b64encode(body).decode() if encoded else body,
            "content-encoding": "utf-8",
            "content-type": content_type,
            "headers": {"hostname": "w@h"},
            "properties": {"body_encoding": "base64" if encoded else None, "priority": 0, "delivery_tag": "t"},
        }
        | changes
    ).encode()


def decoded(message: bytes) -> Any:
    return decode_message(message, accept_pickle=False)


@pytest.mark.parametrize("value", [EVENT, [EVENT, EVENT], [], 5, None, "text"])
def test_json_in_base64_and_plain(value: Any) -> None:
    body = json.dumps(value)
    assert decoded(envelope(body.encode())) == value
    assert decoded(envelope(body, encoded=False)) == value
    assert decoded(envelope(body.encode(), headers=None)) == value


def test_msgpack_in_base64_and_as_kombu_puts_bytes_into_json() -> None:
    body = msgspec.msgpack.encode([EVENT])
    wrapped = {"__type__": "base64", "__value__": base64.b64encode(body).decode()}
    assert decoded(envelope(body, "application/x-msgpack")) == [EVENT]
    assert decoded(envelope(wrapped, "application/x-msgpack", encoded=False)) == [EVENT]
    text = {"__type__": "bytes", "__value__": json.dumps(EVENT)}
    assert decoded(envelope(text, encoded=False)) == EVENT


def test_json_that_only_python_reads_is_read_as_python_reads_it() -> None:
    found = decoded(envelope(b'{"uuid": "a", "runtime": NaN, "note": "\\ud800"}'))
    assert found["runtime"] != found["runtime"]
    assert found["note"] == "\ud800"


def test_a_body_of_several_megabytes() -> None:
    assert decoded(envelope(json.dumps({"args": "x" * 3_000_000}).encode()))["args"] == "x" * 3_000_000


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "undecodable"),
        (b"\xff", "undecodable"),
        (b"5", "undecodable"),
        (b"{}", "undecodable"),
        (b"[" * 200_000, "undecodable"),
        (envelope(b"not json"), "undecodable"),
        (envelope(b"\xff"), "undecodable"),
        (envelope(b"[" * 200_000), "undecodable"),
        (envelope(b""), "undecodable"),
        (envelope(b"\x92\x01", "application/x-msgpack"), "undecodable"),
        (envelope(b"{}", properties={}), "undecodable"),
        (envelope(b"{}", properties=[]), "undecodable"),
        (envelope(b"{}", headers=[1]), "undecodable"),
        (envelope(b"{}", headers={"compression": "application/x-gzip"}), "undecodable"),
        (envelope(5, encoded=False), "undecodable"),
        (envelope(b"{}", 5), "undecodable"),
        (envelope(b"{}", None), "content-type"),
        (envelope(b"{}", "text/plain"), "content-type"),
        (envelope(pickle.dumps(EVENT), "application/x-python-serialize"), "pickle"),
        (envelope(pickle.dumps(EVENT), "application/x-pickle"), "pickle"),
    ],
)
def test_what_cannot_be_decoded_is_refused_with_its_reason(message: bytes, reason: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        decoded(message)
    assert caught.value.reason == reason
    assert len(str(caught.value)) < 400


def test_pickle_is_read_where_it_is_asked_for() -> None:
    message = envelope(pickle.dumps(EVENT), "application/x-python-serialize")
    assert decode_message(message, accept_pickle=True) == EVENT


def test_keys_of_a_queue() -> None:
    names = Names({"global_keyprefix": "p-", "sep": ":", "priority_steps": [0, 4], "unacked_key": "held"})
    assert names.lists("jobs") == ["p-jobs", "p-jobs:4"]
    assert names.unacked == "p-held"
    assert Names({}).lists("jobs") == ["jobs", *(f"jobs\x06\x16{step}" for step in (3, 6, 9))]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], {"jobs": 0, "mail": 0}),
        ([b'[{"body": ""}, "", "jobs"]', b'[{}, "x", "jobs"]', b'[{}, "", "mail"]'], {"jobs": 2, "mail": 1}),
        ([b'[{}, "", "jobs"]', b'[{}, "", "elsewhere"]'], {}),
        ([b'[{}, "", "jobs"]', b"not json"], {}),
        ([b'[{}, "", "jobs"]', b"\xff"], {}),
        ([b'[{}, "jobs"]'], {}),
        ([b'[{}, "", 5]'], {}),
    ],
)
def test_held_messages_are_counted_by_queue_or_not_at_all(values: list[bytes], expected: dict[str, int]) -> None:
    assert unacked_by_queue(values, ["jobs", "mail"]) == expected
