"""Events, also hostile ones, become facts or are discarded with a reason."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadow.codec import decode_batch, encode, join_batch
from meadow.errors import InvalidEvent
from meadow.events import (
    CeleryEvent,
    CustomEvent,
    TaskCancelled,
    TaskFailed,
    TaskReceived,
    TaskRejected,
    TaskRetried,
    TaskRevoked,
    TaskSent,
    TaskStarted,
    TaskSucceeded,
    WorkerHeartbeat,
    WorkerOffline,
    WorkerOnline,
)
from meadow.redact import Redactor
from meadow_collector.normalise import Normaliser, each

SEEN = 1_790_000_000.25
LIMIT = 2048

normaliser = Normaliser(LIMIT, Redactor())


def event(kind: str = "task-received", **fields: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "hostname": "celery@w1",
        "timestamp": 1_790_000_000.0,
        "utcoffset": -2,
        "clock": 7,
        "pid": 3,
        "uuid": "abc",
        **fields,
    }


def without(name: str, **fields: Any) -> dict[str, Any]:
    return {key: value for key, value in event(**fields).items() if key != name}


HEAD = {"hostname": "celery@w1", "timestamp": 1_790_000_000.0, "seen": SEEN, "clock": 7, "pid": 3}


@pytest.mark.parametrize(
    ("sent", "fact"),
    [
        (
            event("task-sent", name="p.add", args="(1,)", kwargs="{}", root_id="abc", parent_id=None, retries=0,
                  eta=None, expires=None, queue="celery", exchange="", routing_key="celery"),
            TaskSent(uuid="abc", name="p.add", args="(1,)", kwargs="{}", root_id="abc", queue="celery", exchange="",
                     routing_key="celery", **HEAD),
        ),
        (
            event("task-received", name="p.add", args="(1,)", kwargs="{}", retries=2, eta="2030-01-01T00:00:00+00:00"),
            TaskReceived(uuid="abc", name="p.add", args="(1,)", kwargs="{}", retries=2,
                         eta="2030-01-01T00:00:00+00:00", **HEAD),
        ),
        (event("task-started"), TaskStarted(uuid="abc", **HEAD)),
        (event("task-succeeded", result="'ok'", runtime=1),
         TaskSucceeded(uuid="abc", result="'ok'", runtime=1.0, **HEAD)),
        (event("task-failed", exception="E()", traceback="T"),
         TaskFailed(uuid="abc", exception="E()", traceback="T", **HEAD)),
        (event("task-retried", exception="E()", traceback="T"),
         TaskRetried(uuid="abc", exception="E()", traceback="T", **HEAD)),
        (event("task-revoked", terminated=True, signum=15, expired=False),
         TaskRevoked(uuid="abc", terminated=True, signum="15", **HEAD)),
        (event("task-revoked", terminated=True, signum="SIGKILL", expired=True),
         TaskRevoked(uuid="abc", terminated=True, signum="SIGKILL", expired=True, **HEAD)),
        (event("task-rejected", requeue=True), TaskRejected(uuid="abc", requeue=True, **HEAD)),
        (event("task-cancelled"), TaskCancelled(uuid="abc", **HEAD)),
        (event("worker-online", freq=2.0, sw_ident="py-celery", sw_ver="5.7.0", sw_sys="Linux"),
         WorkerOnline(freq=2.0, sw_ident="py-celery", sw_ver="5.7.0", sw_sys="Linux", **HEAD)),
        (event("worker-heartbeat", freq=5, active=1, processed=9, loadavg=[0.5, 1, 2.0]),
         WorkerHeartbeat(freq=5.0, active=1, processed=9, loadavg=(0.5, 1.0, 2.0), **HEAD)),
        (event("worker-offline"), WorkerOffline(**HEAD)),
        (event("task-progress", done=3), CustomEvent(event="task-progress", uuid="abc", fields={"done": 3}, **HEAD)),
        (without("uuid", kind="worker-moved", rack=[1, None]),
         CustomEvent(event="worker-moved", fields={"rack": [1, None]}, **HEAD)),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)  # fmt: skip
def test_each_type_of_event_becomes_its_fact(sent: dict[str, Any], fact: Any) -> None:
    assert normaliser.fact(sent, SEEN) == fact


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ("task-received", "not-an-object"),
        (None, "not-an-object"),
        (3, "not-an-object"),
        ([], "not-an-object"),
        (without("type"), "no-type"),
        (event("task-received", type=5), "bad-type"),
        (event(""), "no-type"),
        (without("uuid"), "no-uuid"),
        (event(uuid=""), "no-uuid"),
        (event(uuid=["a"]), "bad-type"),
        (event(uuid="x" * 256), "too-large"),
        (without("hostname"), "no-hostname"),
        (event(hostname=1), "bad-type"),
        (event(hostname="h" * 300), "too-large"),
        (without("timestamp"), "no-timestamp"),
        (event(timestamp=None), "no-timestamp"),
        (event(timestamp=True), "bad-type"),
        (event(timestamp="1790000000"), "bad-type"),
        (event(timestamp=float("nan")), "bad-timestamp"),
        (event(timestamp=float("inf")), "bad-timestamp"),
        (event(timestamp=-1.0), "bad-timestamp"),
        (event(timestamp=0), "bad-timestamp"),
        (event(timestamp=1e11), "bad-timestamp"),
        (event(timestamp=10**400), "bad-timestamp"),
    ],
)
def test_an_event_without_what_it_needs_is_discarded_with_a_reason(sent: Any, reason: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        normaliser.fact(sent, SEEN)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": 5},
        {"args": object()},
        {"kwargs": b"x" * 3},
        {"retries": -1},
        {"retries": "3"},
        {"retries": True},
        {"retries": 2**53 + 1},
        {"eta": 12.5},
        {"root_id": {}},
        {"clock": "7"},
        {"pid": [1]},
    ],
)
def test_a_wrong_optional_field_is_dropped_and_the_event_stays(wrong: dict[str, Any]) -> None:
    fact = normaliser.fact(event("task-received", **wrong), SEEN)
    assert isinstance(fact, TaskReceived)
    (field,) = wrong
    if field in ("args", "kwargs"):
        assert len(str(getattr(fact, field))) < 20
    else:
        assert getattr(fact, field) in (None, 0)


@pytest.mark.parametrize("runtime", [float("nan"), float("inf"), -1.0, "1", True, 10**400])
def test_a_runtime_that_is_no_duration_is_dropped(runtime: Any) -> None:
    fact = normaliser.fact(event("task-succeeded", runtime=runtime), SEEN)
    assert isinstance(fact, TaskSucceeded)
    assert fact.runtime is None


@pytest.mark.parametrize("loadavg", [None, "1", [1, "2"], [float("nan")], [1.0] * 9, {"a": 1}])
def test_a_load_average_that_is_none_is_dropped(loadavg: Any) -> None:
    fact = normaliser.fact(event("worker-heartbeat", loadavg=loadavg, freq="x", active=-1), SEEN)
    assert isinstance(fact, WorkerHeartbeat)
    assert (fact.loadavg, fact.freq, fact.active) == ((), 2.0, None)


def test_a_clock_that_is_a_day_off_is_kept_as_sent_and_the_offset_never_shifts_it() -> None:
    fact = normaliser.fact(event(timestamp=SEEN - 86400.0, utcoffset=-14), SEEN)
    assert (fact.timestamp, fact.seen) == (SEEN - 86400.0, SEEN)


@pytest.mark.parametrize("timestamp", [12.0, SEEN - 31 * 86400.0, SEEN + 31 * 86400.0, SEEN + 50 * 365 * 86400.0])
def test_a_clock_of_another_year_discards_the_event_under_a_reason_of_its_own(timestamp: float) -> None:
    with pytest.raises(InvalidEvent) as discarded:
        normaliser.fact(event(timestamp=timestamp), SEEN)
    assert discarded.value.reason == "implausible-time"


def test_arguments_sent_as_plain_data_are_shown_as_their_repr() -> None:
    fact = normaliser.fact(event(args=[1, "two"], kwargs={"a": None, "password": "x"}), SEEN)
    assert isinstance(fact, TaskReceived)
    assert (fact.args, fact.kwargs) == ("[1, 'two']", "{'a': None, 'password': '***'}")


def test_lone_surrogates_and_nul_become_replacement_characters() -> None:
    fact = normaliser.fact(event(name="a\x00b", args="('\ud800é',)", uuid="u\udfff"), SEEN)
    assert isinstance(fact, TaskReceived)
    assert (fact.name, fact.args, fact.uuid) == ("a\ufffdb", "('\ufffdé',)", "u\ufffd")
    encode(fact)


def test_a_long_text_is_cut_visibly_and_says_by_how_much() -> None:
    fact = normaliser.fact(event(kwargs="k" * 10_000_000), SEEN)
    assert isinstance(fact, TaskReceived)
    assert fact.kwargs is not None
    assert len(fact.kwargs.encode()) <= LIMIT
    kept = fact.kwargs.count("k")
    assert fact.kwargs.endswith(f"…[cut by Meadow: {10_000_000 - kept} bytes]")


def test_a_long_text_is_cut_between_characters() -> None:
    fact = normaliser.fact(event(kwargs="a" + "é" * 5000), SEEN)
    assert isinstance(fact, TaskReceived)
    assert fact.kwargs is not None
    assert len(fact.kwargs.encode()) <= LIMIT
    assert "\ufffd" not in fact.kwargs


def test_a_secret_on_the_cut_is_not_shown_in_part() -> None:
    text = "{'pad': '" + "x" * (LIMIT - 70) + "', 'u': 'redis://ada:hunter2hunter2hunter2hunter2@host'}" + "y" * 9000
    fact = normaliser.fact(event(kwargs=text), SEEN)
    assert isinstance(fact, TaskReceived)
    assert "hunter2" not in str(fact.kwargs)


def test_secrets_are_hidden_in_every_text_of_every_event() -> None:
    secret = "{'password': 'hunter2'}"
    for kind, fields in {
        "task-sent": ("args", "kwargs"),
        "task-received": ("args", "kwargs"),
        "task-succeeded": ("result",),
        "task-failed": ("exception", "traceback"),
        "task-retried": ("exception", "traceback"),
        "task-custom": ("whatever",),
    }.items():
        fact = normaliser.fact(event(kind, **dict.fromkeys(fields, secret)), SEEN)
        data = encode(fact).decode()
        assert "hunter2" not in data
        assert data.count("***") == len(fields)


def test_fields_of_a_custom_event_are_bounded_in_size_and_depth() -> None:
    deep: Any = "bottom"
    for _ in range(500):
        deep = {"a": deep}
    fact = normaliser.fact(
        event("task-x", deep=deep, wide=["y" * 100] * 10_000, many=dict.fromkeys(range(9999), 1)), SEEN
    )
    assert isinstance(fact, CustomEvent)
    data = encode(fact)
    assert len(data) < 4 * LIMIT
    assert b"[cut by Meadow]" in data


def test_numbers_in_custom_fields_that_json_readers_disagree_on_are_dropped() -> None:
    fact = normaliser.fact(event("task-x", a=2**53 + 1, b=float("nan"), c=2**53, d={1: 2}), SEEN)
    assert isinstance(fact, CustomEvent)
    assert fact.fields == {"a": None, "b": None, "c": 2**53, "d": {"1": 2}}


def test_a_message_is_one_event_or_a_list_of_them() -> None:
    assert list(each(event())) == [event()]
    assert list(each([event(), 5])) == [event(), 5]
    assert list(each([])) == []


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=5),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=12,
)
KINDS = [
    "task-sent",
    "task-received",
    "task-succeeded",
    "task-failed",
    "task-revoked",
    "worker-heartbeat",
    "x",
    "task-y",
]
FIELDS = ["uuid", "hostname", "timestamp", "clock", "pid", "name", "args", "kwargs", "retries", "eta", "result",
          "runtime", "exception", "signum", "loadavg", "freq", "active", "queue", "extra"]  # fmt: skip


REASONS = {
    "no-uuid",
    "no-hostname",
    "no-timestamp",
    "no-type",
    "bad-type",
    "bad-timestamp",
    "implausible-time",
    "too-large",
}


def outcome(sent: dict[str, Any]) -> tuple[CeleryEvent | None, str]:
    try:
        return normaliser.fact(sent, SEEN), ""
    except InvalidEvent as exc:
        return None, exc.reason


@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(FIELDS), JUNK, max_size=10), st.booleans())
def test_whatever_comes_is_a_valid_fact_or_an_invalid_event(kind: str, fields: dict[str, Any], whole: bool) -> None:
    sent = {**(event(kind) if whole else {"type": kind}), **fields}
    fact, reason = outcome(sent)
    if fact is None:
        assert reason in REASONS
        return
    data = join_batch("default", "c", [encode(fact)])
    assert decode_batch(data).events == [fact]
    assert json.loads(data)["events"][0]["hostname"] == fact.hostname
