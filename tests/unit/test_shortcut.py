"""The short way to a fact leads where the careful way leads, or nowhere."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meadow.broker import JsonBodies
from meadow.codec import decode_batch, encode, join_batch
from meadow.errors import InvalidEvent
from meadow.event_body import JSON, decode_body
from meadow.events import AnyFact
from meadow.redact import Redactor
from meadow_collector.intake import Intake, kind_of
from meadow_collector.normalise import Normaliser, each
from meadow_collector.outbox import Outbox
from meadow_collector.shortcut import FACTS, Shortcut

LIMIT = 2048
HEAD = {"hostname": "w@h", "timestamp": 1.5, "pid": 3, "clock": 4, "utcoffset": 0, "uuid": "u"}
KINDS = [str(fact.__struct_config__.tag) for fact in FACTS]

USUAL: list[dict[str, Any]] = [
    {"type": "task-sent", "name": "t", "args": "(1,)", "kwargs": "{}", "root_id": "u", "parent_id": None, "retries": 0},
    {"type": "task-sent", "queue": "q", "exchange": "", "routing_key": "q", "eta": None, "expires": None},
    {"type": "task-received", "name": "t", "args": "('x',)", "kwargs": "{'password': 'x'}", "retries": 2},
    {"type": "task-started"},
    {"type": "task-succeeded", "result": "'redis://ada:x@h'", "runtime": 0.25},
    {"type": "task-succeeded", "result": None, "runtime": 3},
    {"type": "task-failed", "exception": "E()", "traceback": "Traceback\n  token = 'x'\n"},
    {"type": "task-retried", "exception": "E()", "traceback": "Traceback"},
    {"type": "task-revoked", "terminated": True, "signum": "9", "expired": False},
    {"type": "task-rejected", "requeue": True},
    {"type": "task-cancelled"},
    {"type": "worker-online", "freq": 2.0, "sw_ident": "py-celery", "sw_ver": "5.7.0", "sw_sys": "Linux"},
    {"type": "worker-heartbeat", "freq": 2, "active": 1, "processed": 9, "loadavg": [0.5, 1, 2.5]},
    {"type": "worker-offline", "freq": 2.0},
]


def careful(event: dict[str, Any], limit: int = LIMIT) -> AnyFact | None:
    try:
        data = encode(Normaliser(limit, Redactor()).fact(event, 9.0))
    except InvalidEvent:
        return None
    return read(data)


def read(data: bytes) -> AnyFact:
    (fact,) = decode_batch(join_batch("c", "i", [data])).events
    return fact


@pytest.mark.parametrize("event", USUAL, ids=lambda event: event["type"])
def test_usual_events_take_the_short_way_to_the_same_fact(event: dict[str, Any]) -> None:
    entry = Shortcut(LIMIT, Redactor()).take({**HEAD, **event}, 9.0)
    assert entry is not None
    fact = read(entry.data)
    assert fact == careful({**HEAD, **event})
    assert (entry.kind, entry.seen) == (kind_of(fact), 9.0)  # type: ignore[arg-type]
    assert json.loads(entry.data)["seen"] == 9.0


def test_secrets_do_not_take_the_short_way_past_redaction() -> None:
    event = {**HEAD, "type": "task-received", "args": "('token=abc',)", "kwargs": "{'my_word': 'abc'}"}
    entry = Shortcut(LIMIT, Redactor(["my_word"])).take(event, 9.0)
    assert entry is not None
    assert b"abc" not in entry.data


@pytest.mark.parametrize(
    "event",
    [
        None,
        5,
        "task-started",
        [],
        {},
        {**HEAD},
        {**HEAD, "type": []},
        {**HEAD, "type": "task-progress"},
        {**HEAD, "type": "custom", "event": "x"},
        {**HEAD, "type": "collector-gap", "seen": 1.0, "start": 1.0, "end": 1.0, "reason": "x"},
        {**HEAD, "type": "queues-observed"},
        {**HEAD, "type": "task-started", "uuid": ""},
        {**HEAD, "type": "task-started", "uuid": "u" * 256},
        {**HEAD, "type": "task-started", "uuid": "\ud800"},
        {**HEAD, "type": "task-started", "uuid": "\x00"},
        {**HEAD, "type": "task-received", "name": "\u00fc" * 513},
        {**HEAD, "type": "task-received", "args": "\u00fc" * (LIMIT // 2)},
        {**HEAD, "type": "task-started", "hostname": None},
        {**HEAD, "type": "task-started", "timestamp": 0},
        {**HEAD, "type": "task-started", "timestamp": float("nan")},
        {**HEAD, "type": "task-started", "timestamp": "1.5"},
        {**HEAD, "type": "task-started", "timestamp": True},
        {**HEAD, "type": "task-started", "timestamp": 31 * 86400.0},
        {**HEAD, "type": "task-started", "pid": -1},
        {**HEAD, "type": "task-started", "clock": 2**53 + 1},
        {**HEAD, "type": "task-started", "clock": None},
        {**HEAD, "type": "task-received", "name": "n" * 1025},
        {**HEAD, "type": "task-received", "args": [1]},
        {**HEAD, "type": "task-received", "args": "x" * LIMIT},
        {**HEAD, "type": "task-received", "args": f"password='{'x' * LIMIT}'"},
        {**HEAD, "type": "task-succeeded", "runtime": float("inf")},
        {**HEAD, "type": "task-succeeded", "runtime": -1.0},
        {**HEAD, "type": "task-revoked", "signum": 9},
        {**HEAD, "type": "worker-heartbeat", "loadavg": [1.0] * 9},
        {**HEAD, "type": "worker-heartbeat", "freq": 0},
    ],
)
def test_whatever_is_not_usual_takes_the_careful_way(event: Any) -> None:
    assert Shortcut(LIMIT, Redactor()).take(event, 9.0) is None


anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["", "w@h", "{'password': 'x'}", "redis://a:b@h", "x" * 300, "x" * 1100, "\x00", "\ud800", "\u00e9"]
    ),
    st.lists(st.one_of(st.floats(), st.integers(), st.none()), max_size=9),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
NAMES = sorted({name for fact in FACTS for name in fact.__struct_fields__} | {"utcoffset", "extra"})
events = st.builds(
    lambda kind, head, rest: {**(HEAD if head else {}), "type": kind, **rest},
    st.sampled_from([*KINDS, "custom", "worker-moved"]),
    st.booleans(),
    st.dictionaries(st.sampled_from(NAMES), anything, max_size=4),
)


@settings(max_examples=400, deadline=None)
@given(events)
def test_the_short_way_never_leads_elsewhere_than_the_careful_way(event: dict[str, Any]) -> None:
    before = repr(event)
    entry = Shortcut(LIMIT, Redactor()).take(event, 9.0)
    if entry is not None:
        assert read(entry.data) == careful(event)
    assert repr(event) == before


def told(bodies: list[bytes], limit: int = LIMIT, redactor: Redactor | None = None) -> tuple[list[AnyFact], Intake]:
    """What an intake makes of messages in JSON that arrived together."""
    outbox = Outbox(10_000_000, enough=10)
    intake = Intake(outbox, redactor or Redactor(), limit, lambda: 1_000_000)
    intake.deliver(JsonBodies(bodies), 9.0)
    entries = outbox.take(10**6, 10**9)
    assert sum(entry.events for entry in entries) + sum(intake.discarded.values()) == intake.received
    singles = [single for entry in entries for single in entry.singles()]
    facts = [read(single.data) for single in singles]
    assert [single.kind for single in singles] == [kind_of(fact) for fact in facts]  # type: ignore[arg-type]
    return facts, intake


def test_usual_messages_in_json_are_packed_together_in_their_order() -> None:
    outbox = Outbox(10_000_000, enough=100)
    tasks = [{**HEAD, **event, "uuid": f"u{number}"} for number, event in enumerate(USUAL[:11])]
    beat = {**HEAD, **USUAL[12]}
    bodies = [json.dumps(body).encode() for body in (tasks[0], tasks[1:6], beat, tasks[6:])]
    Intake(outbox, Redactor(), LIMIT, lambda: 1_000_000).deliver(JsonBodies(bodies), 9.0)
    entries = outbox.take(100, 10**6)
    assert [(entry.kind, entry.events) for entry in entries] == [("tasks", 6), ("workers", 1), ("tasks", 5)]
    facts = decode_batch(join_batch("c", "i", [entry.data for entry in entries])).events
    assert list(facts) == [careful(event) for event in (*tasks[:6], beat, *tasks[6:])]


def test_an_unusual_message_keeps_its_place_among_usual_ones() -> None:
    bodies = [
        json.dumps({**HEAD, "type": kind, "uuid": uuid}).encode()
        for kind, uuid in (("task-started", "a"), ("task-progress", "b"), ("task-started", "c"), ("task-started", ""))
    ]
    facts, intake = told([*bodies, b"no json", b"[]", json.dumps({**HEAD, "type": "task-started"}).encode()])
    assert [fact.uuid for fact in facts] == ["a", "b", "c", "u"]  # type: ignore[union-attr]
    assert intake.discarded == {"no-uuid": 1, "undecodable": 1}


def test_one_text_that_must_be_mended_does_not_change_its_neighbours() -> None:
    usual = {**HEAD, "type": "task-failed", "exception": "E('\u00e9')", "traceback": "password='hunter2'"}
    odd = {**HEAD, "type": "task-received", "uuid": "v", "name": "a\x00b", "args": "token='hunter2'"}
    facts, _ = told([json.dumps(event).encode() for event in (usual, odd, usual)])
    assert facts == [careful(usual), careful(odd), careful(usual)]
    assert "hunter2" not in str(facts)


@pytest.mark.parametrize(
    "body",
    [
        b'{"type":"task-started","type":"task-failed","hostname":"h","uuid":"u","timestamp":1}',
        b'{"hostname":"h","uuid":"u","uuid":"v","timestamp":1,"type":"task-started"}',
        b'{"hostname":"h","uuid":"u","timestamp":1,"type":"task-started"},{"hostname":"h"}',
        b'{"hostname":"h","uuid":"u","timestamp":1,"type":"task-received","kwargs":"p\\u0061ssword=\'hunter2\'"}',
        b'{"hostname":"h","uuid":"u","timestamp":1,"type":"task-received","kwargs":"redis:\\/\\/a:hunter2@h"}',
        b'{"hostname":"h","uuid":"u","timestamp":1,"type":"task-started","seen":77.5,"clock":3.0}',
        b'{"hostname":"h","uuid":"u","timestamp":1,"type":"task-started","extra":"\xff"}',
        b'{"hostname":"h","uuid":"\\ud800","timestamp":NaN,"type":"task-started"}',
        b'[{"hostname":"h","uuid":"u","timestamp":1,"type":"worker-online"}]',
        b'[{"hostname":"h","uuid":"u","timestamp":1,"type":"task-started"},{"hostname":"h"},5]',
        b'\xef\xbb\xbf{"hostname":"h","uuid":"u","timestamp":1,"type":"task-started"}',
        b"[" * 100_000,
        b"",
    ],
)
def test_odd_json_is_read_as_it_always_was(body: bytes) -> None:
    facts, _ = told([body])
    try:
        content = decode_body(body, JSON, accept_pickle=False)
    except InvalidEvent:
        content = []
    assert facts == [fact for event in each(content) if (fact := careful(event)) is not None]
    assert "hunter2" not in str(facts)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(events, st.lists(events, max_size=3)), max_size=4))
def test_messages_in_json_lead_where_the_careful_way_leads(contents: list[Any]) -> None:
    facts, _ = told([json.dumps(content).encode() for content in contents])
    expected = [careful(event) for content in contents for event in each(content)]
    assert repr(facts) == repr([fact for fact in expected if fact is not None])


def test_the_intake_cuts_what_the_shortcut_would_let_through() -> None:
    outbox = Outbox(10_000_000, enough=10)
    intake = Intake(outbox, Redactor(), 1_000_000, lambda: 3000)
    intake.deliver({**HEAD, "type": "task-failed", "exception": "E()", "traceback": "t" * 50_000}, 9.0)
    (entry,) = outbox.take(9, 10**6)
    assert len(entry.data) <= 3000
    assert b"cut by Meadow" in entry.data
