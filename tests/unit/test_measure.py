"""Facts become Flower's series with Flower's meaning, and no stranger can make them grow without end."""

import math
from collections.abc import Iterable, Iterator

import pytest
from msgspec import convert, to_builtins
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from meadow.events import (
    AnyFact,
    CollectorReported,
    CustomEvent,
    QueueDepth,
    QueuesObserved,
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
from meadow.settings import PROMETHEUS_BUCKETS
from meadow_metrics import facts as slim
from meadow_metrics.exposition import encode, process_registry
from meadow_metrics.measure import Limits, Measures

W1 = "celery@w1"
NOW = 1000.0


def at(timestamp: float, hostname: str = W1) -> dict[str, object]:
    return {"hostname": hostname, "timestamp": timestamp, "seen": timestamp}


def received(uuid: str, timestamp: float, hostname: str = W1, name: str = "app.add", eta: str | None = None) -> AnyFact:
    return TaskReceived(uuid=uuid, hostname=hostname, timestamp=timestamp, seen=timestamp, name=name, eta=eta)


def started(uuid: str, timestamp: float, hostname: str = W1) -> AnyFact:
    return TaskStarted(uuid=uuid, hostname=hostname, timestamp=timestamp, seen=timestamp)


def succeeded(uuid: str, timestamp: float, runtime: float | None = None, hostname: str = W1) -> AnyFact:
    return TaskSucceeded(uuid=uuid, hostname=hostname, timestamp=timestamp, seen=timestamp, runtime=runtime)


def failed(uuid: str, timestamp: float) -> AnyFact:
    return TaskFailed(uuid=uuid, hostname=W1, timestamp=timestamp, seen=timestamp, exception="ValueError()")


def heartbeat(active: int | None = 0, hostname: str = W1, freq: float = 2.0, pid: int | None = None) -> AnyFact:
    return WorkerHeartbeat(hostname=hostname, timestamp=1.0, seen=1.0, active=active, freq=freq, pid=pid)


def offline(hostname: str = W1) -> AnyFact:
    return WorkerOffline(hostname=hostname, timestamp=1.0, seen=1.0)


class Page:
    """What Prometheus would see after these facts."""

    def __init__(
        self,
        facts: Iterable[AnyFact] = (),
        buckets: tuple[float, ...] = PROMETHEUS_BUCKETS,
        limits: Limits | None = None,
    ) -> None:
        self.measures = Measures(buckets, limits or Limits())
        self.hear(facts)

    def hear(self, facts: Iterable[AnyFact], now: float = NOW) -> None:
        self.measures.observe([convert(to_builtins(fact), slim.AnyFact) for fact in facts], now)

    def samples(self, now: float = NOW) -> Iterator[tuple[str, dict[str, str], float]]:
        body = encode(process_registry(), self.measures.snapshot(now), "").body.decode()
        for family in parse_text(body):
            for sample in family.samples:
                yield sample.name, sample.labels, sample.value

    def value(self, series: str, now: float = NOW, **labels: str) -> float | None:
        found = [value for name, has, value in self.samples(now) if name == series and has == labels]
        assert len(found) < 2, "a series stands twice on the page"
        return found[0] if found else None

    def sum(self, series: str) -> float:
        return sum(value for name, _, value in self.samples() if name == series)

    def count(self, series: str) -> int:
        return sum(1 for name, _, _ in self.samples() if name == series)

    def events(self, type_: str, task: str = "app.add", worker: str = W1) -> float | None:
        return self.value("flower_events_total", worker=worker, type=type_, task=task)

    def prefetched(self, task: str = "app.add", worker: str = W1, now: float = NOW) -> float | None:
        return self.value("flower_worker_prefetched_tasks", now, worker=worker, task=task)

    def prefetch_time(self, task: str = "app.add", worker: str = W1) -> float | None:
        return self.value("flower_task_prefetch_time_seconds", worker=worker, task=task)

    def online(self, now: float = NOW, worker: str = W1) -> float | None:
        return self.value("flower_worker_online", now, worker=worker)

    def executing(self, now: float = NOW, worker: str = W1) -> float | None:
        return self.value("flower_worker_number_of_currently_executing_tasks", now, worker=worker)


def test_the_life_of_one_task_is_counted_as_flower_counts_it() -> None:
    sent = TaskSent(uuid="a", hostname="gen77@web1", timestamp=1.0, seen=1.0, name="app.add", queue="prio")
    page = Page([heartbeat(active=3), sent, received("a", 2.0), started("a", 3.0)])
    assert page.events("task-sent", worker="gen77@web1") == 1
    assert page.prefetch_time() == 1
    assert page.prefetched() == 0
    assert page.online() == 1
    assert page.executing() == 3
    page.hear([succeeded("a", 5.0, runtime=1.9)])
    assert page.prefetch_time() == 0
    assert page.value("flower_task_runtime_seconds_sum", worker=W1, task="app.add") == 1.9
    assert page.value("flower_task_runtime_seconds_count", worker=W1, task="app.add") == 1
    assert [page.events(f"task-{word}") for word in ("received", "started", "succeeded")] == [1, 1, 1]


def test_a_publisher_is_no_worker() -> None:
    page = Page([TaskSent(uuid="a", name="app.add", **at(1.0, "gen77@web1"))])
    assert page.online(worker="gen77@web1") is None


def test_an_event_of_an_unknown_task_is_counted_without_a_name() -> None:
    page = Page([failed("never seen", 1.0)])
    assert page.events("task-failed", task="") == 1


def test_the_name_is_remembered_for_the_events_that_do_not_carry_it() -> None:
    revoked = TaskRevoked(uuid="a", hostname=W1, timestamp=2.0, seen=2.0)
    retried = TaskRetried(uuid="a", hostname=W1, timestamp=2.0, seen=2.0)
    cancelled = TaskCancelled(uuid="a", hostname=W1, timestamp=2.0, seen=2.0)
    page = Page([received("a", 1.0), revoked, retried, cancelled])
    assert [page.events(f"task-{word}") for word in ("revoked", "retried", "cancelled")] == [1, 1, 1]


def test_events_of_workers_are_not_counted() -> None:
    page = Page([WorkerOnline(hostname=W1, timestamp=1.0, seen=1.0), heartbeat(), offline()])
    assert page.count("flower_events_total") == 0


def test_custom_events_about_tasks_are_counted_and_others_are_not() -> None:
    custom = [
        CustomEvent(hostname=W1, timestamp=1.0, seen=1.0, event="task-progress", uuid="a", fields={"runtime": 0.25}),
        CustomEvent(hostname=W1, timestamp=1.0, seen=1.0, event="task-progress", uuid="a", fields={"runtime": "long"}),
        CustomEvent(hostname=W1, timestamp=1.0, seen=1.0, event="task-progress"),
        CustomEvent(hostname=W1, timestamp=1.0, seen=1.0, event="user-login", uuid="b"),
    ]
    page = Page([received("a", 0.5), *custom])
    assert page.events("task-progress") == 2
    assert page.sum("flower_events_total") == 3
    assert page.value("flower_task_runtime_seconds_count", worker=W1, task="app.add") == 1


@pytest.mark.parametrize("runtime", [None, 0.0, -1.0, math.nan, math.inf])
def test_a_runtime_that_says_nothing_is_not_observed(runtime: float | None) -> None:
    page = Page([received("a", 1.0), succeeded("a", 2.0, runtime)])
    assert page.count("flower_task_runtime_seconds_count") == 0


def test_a_runtime_falls_into_the_bucket_whose_bound_it_does_not_exceed() -> None:
    page = Page(buckets=(1.0, 2.0))  # the infinite one is added
    page.hear([received("a", 1.0), *(succeeded("a", 2.0, runtime) for runtime in (0.5, 1.0, 1.5, 99.0))])
    buckets = {
        labels["le"]: value for name, labels, value in page.samples() if name == "flower_task_runtime_seconds_bucket"
    }
    assert buckets == {"1.0": 2, "2.0": 3, "+Inf": 4}


# -- prefetching -----------------------------------------------------------------------------------------------------


def test_a_task_that_waits_in_the_worker_is_prefetched_until_it_starts_or_is_given_up() -> None:
    page = Page([received(uuid, 1.0) for uuid in "abcd"])
    assert page.prefetched() == 4
    page.hear([started("a", 2.0)])
    assert page.prefetched() == 3
    page.hear([TaskRevoked(uuid="b", hostname=W1, timestamp=2.0, seen=2.0)])
    page.hear([TaskRejected(uuid="c", hostname=W1, timestamp=2.0, seen=2.0)])
    assert page.prefetched() == 1
    page.hear([TaskRevoked(uuid="a", hostname=W1, timestamp=3.0, seen=3.0)])  # it ran already
    assert page.prefetched() == 1


def test_a_task_with_an_eta_says_nothing_about_prefetching() -> None:
    page = Page([received("a", 1.0, eta="2026-01-01T00:00:00"), started("a", 60.0), succeeded("a", 61.0)])
    assert page.prefetched() is None
    assert page.prefetch_time() is None


def test_a_start_without_the_receipt_says_nothing_about_prefetching() -> None:
    page = Page([started("a", 60.0), succeeded("a", 61.0)])
    assert page.prefetched(task="") is None
    assert page.prefetch_time(task="") is None


def test_a_task_delivered_again_to_another_worker_is_prefetched_once() -> None:
    page = Page([received("a", 1.0), received("a", 2.0, hostname="celery@w2")])
    assert page.prefetched() == 0
    assert page.prefetched(worker="celery@w2") == 1
    page.hear([started("a", 3.0, hostname="celery@w2")])
    assert page.prefetched(worker="celery@w2") == 0


def test_a_receipt_that_comes_after_the_start_does_not_count_as_waiting() -> None:
    page = Page([started("a", 2.0), received("a", 1.0)])
    assert page.prefetched() is None


def test_an_end_whose_start_was_lost_ends_the_waiting_too() -> None:
    page = Page([received("a", 1.0), failed("a", 2.0)])
    assert page.prefetched() == 0


@pytest.mark.parametrize("sign", ["offline", "another pid", "online"])
def test_what_a_worker_had_prefetched_goes_with_its_process(sign: str) -> None:
    page = Page([heartbeat(pid=1), received("a", 1.0), received("b", 1.0)])
    assert page.prefetched() == 2
    signs = {"offline": offline(), "another pid": heartbeat(pid=2), "online": WorkerOnline(**at(2.0))}
    page.hear([signs[sign], *([heartbeat(pid=1)] if sign == "offline" else [])])
    assert page.prefetched() == 0
    page.hear([received("c", 5.0), TaskRevoked(uuid="a", hostname=W1, timestamp=6.0, seen=6.0)])
    assert page.prefetched() == 1


def test_clocks_that_disagree_give_no_negative_waiting_time() -> None:
    assert Page([received("a", 9.0), started("a", 1.0)]).prefetch_time() == 0


# -- workers ---------------------------------------------------------------------------------------------------------


def test_an_offline_event_turns_the_worker_and_its_gauges_off_at_once() -> None:
    page = Page([heartbeat(active=3), offline()])
    assert page.online() == 0
    assert page.executing() == 0


@pytest.mark.parametrize(
    ("freq", "patience"), [(2.0, 5.0), (0.5, 5.0), (10.0, 25.0), (0.0, 5.0), (-3.0, 5.0), (math.nan, 5.0), (1e12, 300)]
)
def test_a_silent_worker_goes_offline_by_our_clock(freq: float, patience: float) -> None:
    page = Page([heartbeat(active=3, freq=freq), received("a", 1.0)])
    last = NOW + patience
    assert (page.online(last), page.executing(last), page.prefetched(now=last)) == (1, 3, 1)
    late = last + 0.1
    assert (page.online(late), page.executing(late), page.prefetched(now=late)) == (0, 0, 0)
    page.hear([heartbeat(active=2)], now=late)
    assert (page.online(late), page.executing(late), page.prefetched(now=late)) == (1, 2, 1)


def test_a_worker_that_is_busy_with_tasks_is_not_silent() -> None:
    page = Page([heartbeat()])
    page.hear([succeeded("a", 1.0)], now=NOW + 4)
    assert page.online(NOW + 8) == 1


def test_offline_workers_and_silent_publishers_are_purged_and_others_stay() -> None:
    page = Page([heartbeat(hostname="celery@gone"), received("a", 1.0, hostname="celery@gone")])
    page.hear([started("a", 2.0, hostname="celery@gone"), succeeded("a", 3.0, 1.0, hostname="celery@gone")])
    page.hear([TaskSent(uuid="b", name="app.add", **at(1.0, "gen1@web"))])
    page.hear([heartbeat(), received("c", 1.0)], now=NOW + 100)
    page.measures.purge(NOW + 99, 100)
    assert page.online(NOW + 100, worker="celery@gone") == 0
    page.measures.purge(NOW + 100, 100)
    left = {labels["worker"] for _, labels, _ in page.samples() if "worker" in labels}
    assert left == {W1}
    assert page.online(NOW + 100) == 1


# -- bounds ----------------------------------------------------------------------------------------------------------


def test_made_up_names_are_folded_and_no_count_is_lost() -> None:
    page = Page(limits=Limits(label_sets=20))
    for number in range(200):
        uuid, name = str(number), f"app.task{number}"
        page.hear([received(uuid, 1.0, name=name), started(uuid, 2.0), succeeded(uuid, 3.0, 1.5)])
    assert page.sum("flower_events_total") == 600
    assert page.count("flower_events_total") <= 20
    assert page.events("task-succeeded", worker="other", task="other") > 100  # type: ignore[operator]
    assert page.sum("flower_task_runtime_seconds_count") == 200
    assert page.sum("flower_task_runtime_seconds_sum") == 300
    assert page.sum("flower_worker_prefetched_tasks") == 0
    assert page.count("flower_worker_prefetched_tasks") == 20
    assert page.value("meadow_folded_label_sets_total", family="flower_worker_prefetched_tasks") == 180


def test_what_is_busy_is_not_folded() -> None:
    page = Page(limits=Limits(label_sets=20))
    for number in range(100):
        page.hear([received(f"a{number}", 1.0), received(f"b{number}", 1.0, name=f"junk{number}")])
    assert page.events("task-received") == 100


def test_made_up_event_types_are_folded_into_one() -> None:
    page = Page(limits=Limits(label_sets=20))
    page.hear(
        CustomEvent(hostname=W1, timestamp=1.0, seen=1.0, event=f"task-{number}", uuid="a") for number in range(100)
    )
    assert page.events("other", worker="other", task="other") == 81
    assert page.count("flower_events_total") == 20


def test_a_forgotten_task_does_not_stay_prefetched() -> None:
    page = Page([received(str(number), 1.0) for number in range(50)], limits=Limits(tasks=10))
    assert page.prefetched() == 10


def test_strange_labels_stay_on_one_line_and_within_bounds() -> None:
    strange = 'a"b\\c\nd\x00\u2028\ud800' + "x" * 10_000
    page = Page([received("a", 1.0, hostname=strange, name=strange), heartbeat(hostname=strange)])
    (labels,) = [labels for name, labels, _ in page.samples() if name == "flower_events_total"]
    assert labels["task"].startswith('a"b\\c d   xxx')
    assert len(labels["task"]) <= 200
    assert page.online(worker=labels["worker"]) == 1


# -- Meadow's own ----------------------------------------------------------------------------------------------------


def test_queue_depths_are_those_of_the_last_observation() -> None:
    first = QueuesObserved(seen=1.0, queues=(QueueDepth(name="a", messages=3), QueueDepth(name="b", messages=1)))
    second = QueuesObserved(seen=2.0, queues=(QueueDepth(name="a", messages=0), QueueDepth(name="c")))
    page = Page([first])
    assert page.value("meadow_queue_messages", queue="b") == 1
    page.hear([second])
    assert page.value("meadow_queue_messages", queue="a") == 0
    assert page.count("meadow_queue_messages") == 1


def test_the_collector_counts_as_disconnected_when_it_says_so_or_says_nothing() -> None:
    page = Page()
    assert page.value("meadow_collector_connected") == 0
    report = CollectorReported(seen=1.0, broker="redis://", connected=True, since=0.0, dropped=7, discarded={"uuid": 2})
    page.hear([report])
    assert page.value("meadow_collector_connected") == 1
    assert page.value("meadow_collector_connected", NOW + 31) == 0
    assert page.value("meadow_collector_dropped_events_total") == 7
    assert page.value("meadow_collector_discarded_events_total", reason="uuid") == 2
    page.hear([CollectorReported(seen=2.0, broker="redis://", connected=False, since=2.0)])
    assert page.value("meadow_collector_connected") == 0


def test_the_page_is_the_same_in_openmetrics() -> None:
    page = Page([heartbeat(), received("a", 1.0), started("a", 2.0), succeeded("a", 3.0, 0.2)])
    accept = "application/openmetrics-text; version=1.0.0"
    encoded = encode(process_registry(), page.measures.snapshot(NOW), accept, "gzip;q=0")
    assert encoded.content_type.startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in parse_openmetrics(encoded.body.decode())}
    assert families["flower_events"].type == "counter"
    assert [sample.value for sample in families["flower_events"].samples] == [1, 1, 1]


def test_flowers_families_are_announced_before_anything_happened() -> None:
    body = encode(process_registry(), Measures(PROMETHEUS_BUCKETS).snapshot(NOW), "").body.decode()
    announced = dict(line.split(" ")[2:4] for line in body.splitlines() if line.startswith("# TYPE flower_"))
    assert announced == {
        "flower_events_total": "counter",
        "flower_task_runtime_seconds": "histogram",
        "flower_task_prefetch_time_seconds": "gauge",
        "flower_worker_prefetched_tasks": "gauge",
        "flower_worker_online": "gauge",
        "flower_worker_number_of_currently_executing_tasks": "gauge",
    }
    for name in ("python_info", "python_gc_collections_total", "process_resident_memory_bytes"):
        assert f"\n{name}" in body
