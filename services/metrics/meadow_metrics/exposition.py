"""Values in Prometheus' formats: the only module that knows prometheus_client."""

import gzip
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from meadow_metrics.label_sets import Labels
from meadow_metrics.measure import Snapshot

SMALL = 2048


@dataclass(frozen=True)
class Page:
    """What goes over the wire."""

    body: bytes
    content_type: str
    gzipped: bool


def process_registry() -> CollectorRegistry:
    """What the client library says of this process: `python_gc_*`, `python_info`, `process_*`."""
    registry = CollectorRegistry()
    GCCollector(registry)
    PlatformCollector(registry)
    ProcessCollector(registry=registry)
    return registry


def encode(process: CollectorRegistry, snapshot: Snapshot, accept: str, accept_encoding: str = "") -> Page:
    """The page in the format that `accept` (a request's Accept header) asks for. May take a while with many series."""
    encoder, content_type = choose_encoder(accept)
    body = encoder(_Families(process, snapshot))
    gzipped = len(body) > SMALL and accepts_gzip(accept_encoding)
    return Page(gzip.compress(body, compresslevel=5) if gzipped else body, content_type, gzipped)


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header allows gzip.

    >>> [accepts_gzip(header) for header in ("deflate, gzip;q=0.5", "gzip;q=0", "")]
    [True, False, False]
    """
    for part in accept_encoding.lower().split(","):
        coding, _, quality = part.partition(";")
        if coding.strip() == "gzip":
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


@dataclass(frozen=True)
class _Families:
    """Looks like a registry to the library's encoders."""

    process: CollectorRegistry
    snapshot: Snapshot

    def collect(self) -> Iterator[Metric]:
        yield from self.process.collect()
        yield from flower_families(self.snapshot)
        yield from meadow_families(self.snapshot)


def flower_families(values: Snapshot) -> Iterator[Metric]:
    """Flower's six families, with its names and texts."""
    yield _counter("flower_events", "Number of events", ("worker", "type", "task"), values.events)
    runtime = HistogramMetricFamily("flower_task_runtime_seconds", "Task runtime", labels=("worker", "task"))
    for labels, distribution in values.runtime.items():
        runtime.add_metric(labels, _cumulative(distribution.counts, values.bounds), distribution.sum)
    yield runtime
    yield _gauge(
        "flower_task_prefetch_time_seconds",
        "The time the task spent waiting at the celery worker to be executed.",
        ("worker", "task"),
        values.prefetch_time,
    )
    yield _gauge(
        "flower_worker_prefetched_tasks",
        "Number of tasks of given type prefetched at a worker",
        ("worker", "task"),
        values.prefetched,
    )
    yield _gauge("flower_worker_online", "Worker online status", ("worker",), _single(values.online))
    yield _gauge(
        "flower_worker_number_of_currently_executing_tasks",
        "Number of tasks currently executing at a worker",
        ("worker",),
        _single(values.executing),
    )


def meadow_families(values: Snapshot) -> Iterator[Metric]:
    """What Meadow says of itself, of the collector and of the queues."""
    yield CounterMetricFamily("meadow_events_processed", "Facts that this service has taken in", value=values.processed)
    yield CounterMetricFamily(
        "meadow_invalid_messages", "Messages on the bus that could not be decoded", value=values.invalid
    )
    if values.lag is not None:
        text = "Seconds from an event's arrival in Meadow to its place in these series, for the newest event"
        yield GaugeMetricFamily("meadow_pipeline_lag_seconds", text, value=values.lag)
    text = "Seconds by which the event loop of this process was late at most, in the last 15 to 30 seconds"
    yield GaugeMetricFamily("meadow_loop_lag_seconds", text, value=values.loop_lag)
    for role, lag in values.child_lags.items():
        text = f"Seconds by which the event loop of the {role} process was late at most, in the last 15 to 30 seconds"
        yield GaugeMetricFamily(f"meadow_{role}_loop_lag_seconds", text, value=lag)
    text = "Label sets that were given up for new ones; counts and histograms go on in the label set 'other'"
    yield _counter("meadow_folded_label_sets", text, ("family",), _single(values.folded))
    text = "Whether the collector reads events; 0 also when it has not reported for 30 s"
    yield GaugeMetricFamily("meadow_collector_connected", text, value=float(values.connected))
    if values.collector is not None:
        if values.collector.loop_lag is not None:
            text = "Seconds by which the event loop of the collector was late at most, in the last 15 to 30 seconds"
            yield GaugeMetricFamily("meadow_collector_loop_lag_seconds", text, value=values.collector.loop_lag)
        text = "Events that the collector gave up because its buffer was full"
        yield CounterMetricFamily("meadow_collector_dropped_events", text, value=values.collector.dropped)
        text = "Events that the collector could not understand"
        discarded = _single(values.collector.discarded)
        yield _counter("meadow_collector_discarded_events", text, ("reason",), discarded)
        text = "How often one collector of the cluster has followed another as the one that publishes"
        yield CounterMetricFamily("meadow_collector_takeovers", text, value=values.collector.takeovers)
        text = "Collectors that stand by to take over"
        yield GaugeMetricFamily("meadow_collector_standbys", text, value=len(values.collector.standbys))
    yield _gauge("meadow_queue_messages", "Messages that wait in a queue", ("queue",), _single(values.queues))


def _counter(name: str, text: str, names: Iterable[str], values: Mapping[Labels, float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=tuple(names))
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def _gauge(name: str, text: str, names: Iterable[str], values: Mapping[Labels, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=tuple(names))
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def _single(values: Mapping[str, float]) -> dict[Labels, float]:
    return {(name,): value for name, value in values.items()}


def _cumulative(counts: list[int], bounds: tuple[float, ...]) -> list[tuple[str, float]]:
    total = 0
    buckets = []
    for bound, count in zip(bounds, counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound == float("inf") else str(bound), float(total)))
    return buckets
