"""What arrives is counted, made into facts and put into the outbox; what is invalid is counted by reason."""

from typing import Any

import pytest

from meadow.broker import BrokerConfig
from meadow.codec import decode_batch, join_batch
from meadow.errors import InvalidEvent
from meadow.events import TaskFailed
from meadow.rabbitmq_management import Broker, depth, request_for
from meadow.redact import Redactor
from meadow_collector.backoff import Backoff
from meadow_collector.depths import QueueNames
from meadow_collector.intake import MOST_REASONS, Intake
from meadow_collector.outbox import Outbox
from meadow_kombu import KombuAdapter
from meadow_kombu.connections import transport_options
from meadow_kombu.decoding import decode


def make(largest: int = 1_000_000, field_bytes: int = 65536) -> tuple[Intake, Outbox]:
    outbox = Outbox(10_000_000, enough=10)
    return Intake(outbox, Redactor(), field_bytes, lambda: largest), outbox


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "uuid": "u", "hostname": "h", "timestamp": 5.0, **fields}


def test_one_bad_event_of_a_list_does_not_take_the_others_with_it() -> None:
    intake, outbox = make()
    intake.deliver([event("task-started"), None, event("task-started", uuid=None), event("worker-online")], 6.0)
    assert [entry.kind for entry in outbox.take(9, 10**6)] == ["tasks", "workers"]
    assert (intake.received, intake.discarded) == (4, {"not-an-object": 1, "no-uuid": 1})


def test_custom_events_go_where_their_name_says() -> None:
    intake, outbox = make()
    intake.deliver([event("task-progress"), event("worker-moved"), event("deploy-started")], 6.0)
    assert [entry.kind for entry in outbox.take(9, 10**6)] == ["tasks", "workers", "tasks"]


def test_reasons_are_bounded_and_the_first_of_each_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    intake, _ = make()
    for number in range(MOST_REASONS + 10):
        intake.discard(f"reason-{number}", "redis://ada:hunter2@h")
        intake.discard("reason-0", "again")
    assert len(intake.discarded) == MOST_REASONS + 1
    assert intake.discarded["other"] == 10
    assert len(caplog.records) == MOST_REASONS + 1
    assert "hunter2" not in caplog.text


def test_an_event_that_does_not_fit_is_cut_further_until_it_does() -> None:
    intake, outbox = make(largest=3000)
    intake.deliver(event("task-failed", exception="\x01" * 50_000, traceback="t" * 50_000), 6.0)
    (entry,) = outbox.take(9, 10**6)
    (fact,) = decode_batch(join_batch("c", "i", [entry.data])).events
    assert len(entry.data) <= 3000
    assert isinstance(fact, TaskFailed)
    assert "[cut by Meadow" in (fact.traceback or "")
    assert intake.discarded == {}


def test_what_cannot_fit_at_all_is_counted() -> None:
    intake, outbox = make(largest=100)
    intake.deliver(event("task-failed", exception="x" * 5000), 6.0)
    assert outbox.take(9, 10**6) == []
    assert intake.discarded == {"too-large": 1}


def test_pauses_double_up_to_fifteen_seconds_and_begin_anew_after_a_connection_that_stood() -> None:
    backoff = Backoff()
    assert [backoff.pause(stood=0.0) for _ in range(7)] == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]
    assert backoff.pause(stood=0.5) == 15.0
    assert [backoff.pause(stood=60.0), backoff.pause(stood=0.0)] == [0.5, 1.0]


def test_queue_names_are_learnt_once_and_junk_is_not() -> None:
    names = QueueNames(("celery", "vip"))
    names.learn([{"name": "vip"}, {"name": "slow"}, {"name": 3}, {}, 5, {"name": ""}, {"name": "x" * 300}])
    names.learn({"name": "no list"})
    assert names.all() == ["celery", "vip", "slow"]
    names.learn([{"name": f"q{number}"} for number in range(100_000)])
    assert len(names.all()) < 2100


@pytest.mark.parametrize(
    ("url", "fits"),
    [
        ("redis://h", True),
        ("rediss://h", True),
        ("redis+socket:///run/redis.sock", True),
        ("sentinel://h;sentinel://i", True),
        ("amqp://h", True),
        ("filesystem://", True),
        ("carrier://pigeon", False),
        ("", False),
    ],
)
def test_the_adapter_fits_what_kombu_has_a_transport_for(url: str, fits: bool) -> None:
    assert KombuAdapter().fits(url) is fits


def test_socket_options_are_numbers_again_after_their_way_through_json() -> None:
    config = BrokerConfig(
        url="redis://h", transport_options={"socket_keepalive_options": {"4": 60}, "socket_timeout": 9}
    )
    options = transport_options(config)
    assert options["socket_keepalive_options"] == {4: 60}
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (9, 4.0)


@pytest.mark.parametrize(
    ("broker", "api", "url", "credentials"),
    [
        (Broker("/", "ada", "a/b"), "http://h:15672/api/", "http://h:15672/api/queues/%2F", "ada:a/b"),
        (Broker("my/host", "ada", "x"), "http://h:15672/api", "http://h:15672/api/queues/my%2Fhost", "ada:x"),
        (Broker("v", None, None), "https://eve:p%40ss@h/rabbit/api/", "https://h/rabbit/api/queues/v", "eve:p@ss"),
        (Broker("v", "ada", "x"), "https://eve@h/api", "https://h/api/queues/v", "eve:"),
    ],
)
def test_the_management_api_is_asked_for_the_brokers_virtual_host(
    broker: Broker, api: str, url: str, credentials: str
) -> None:
    import base64

    asked, headers = request_for(api, broker)
    assert asked == url
    assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")).decode() == credentials


def test_numbers_of_the_management_api_that_are_none_are_left_out() -> None:
    raw = {"name": "q", "messages": "7", "messages_ready": -1, "messages_unacknowledged": True, "consumers": 2}
    found = depth("q", raw)
    assert (found.messages, found.ready, found.unacked, found.consumers, found.raw) == (None, None, None, 2, raw)


@pytest.mark.parametrize(
    ("content_type", "reason"),
    [
        ("application/x-python-serialize", "pickle"),
        ("application/data", "content-type"),
        (None, "content-type"),
        ("application/x-msgpack", "undecodable"),
        ("application/json", "undecodable"),
    ],
)
def test_what_is_not_plainly_harmless_is_refused(content_type: str | None, reason: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        decode(b"\xc1", content_type, "binary", accept_pickle=False)
    assert caught.value.reason == reason
