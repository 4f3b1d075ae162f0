"""The smaller pure parts of web: charts, inspections, notices, the banner, columns."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadow.codec import encode_batch
from meadow.events import CollectorReported
from meadow.queries import Changed, CollectorState, GapRow, Overview, QueueList, RatePoint, WorkerRow
from meadow.settings import FLOWER_COLUMNS
from meadow_web.broker_watch import BrokerWatch
from meadow_web.charts import TOO_EARLY, line, rate_charts
from meadow_web.formats import clock, duration, element_id, iso, name_parts, short
from meadow_web.inspection import Inspection
from meadow_web.pages import overview, queues, task, tasks, worker
from meadow_web.pages.page import BadArgument, whole_number
from meadow_web.pages.task import GONE, actions, buttons
from meadow_web.pages.tasks import columns, page_limit
from meadow_web.pages.worker import OFFLINE, reasons
from meadow_web.pages.workers import occupied


def test_a_line_has_gaps_where_nothing_is_known() -> None:
    drawn = line([0, 10, None, 5, 5], width=40, height=12)
    assert drawn is not None
    assert drawn.stroke == "M0.0 11.0 L10.0 1.0 M30.0 6.0 L40.0 6.0"
    assert line([None, 3]) is None


def test_charts_show_rates_per_minute_and_not_the_slice_under_way() -> None:
    seen = Overview(
        now=1000.0,
        step=10.0,
        points=[RatePoint(at=980.0, received=5), RatePoint(at=990.0, received=10), RatePoint(at=1000.0, received=1)],
        queues=QueueList(),
        collector=CollectorState(),
    )
    throughput, failures = rate_charts(seen)
    assert throughput.times == [980.0, 990.0]
    assert throughput.series[0].values == [30.0, 60.0]
    assert failures.empty


def test_charts_do_not_claim_that_nothing_happened_when_it_is_too_early_for_a_line() -> None:
    points = [RatePoint(at=990.0, received=10, failed=1), RatePoint(at=1000.0, received=1)]
    seen = Overview(now=1000.0, step=10.0, points=points, queues=QueueList(), collector=CollectorState())
    assert [(chart.empty, chart.nothing) for chart in rate_charts(seen)] == [(True, TOO_EARLY)] * 2


def test_gaps_are_marked_where_they_lie_on_the_chart() -> None:
    seen = Overview(
        now=1000.0,
        step=10.0,
        points=[RatePoint(at=float(at), received=5) for at in range(400, 1000, 10)],
        queues=QueueList(),
        collector=CollectorState(),
        gaps=[
            GapRow(start=695.0, end=990.0, reason="buffer-full"),
            GapRow(start=100.0, end=459.0, reason="broker-unavailable"),
            GapRow(start=500.0, end=500.0, reason="stream-limit"),
            GapRow(start=10.0, end=20.0, reason="buffer-full"),
        ],
    )
    throughput, _ = rate_charts(seen)
    assert throughput.times == [float(at) for at in range(400, 1000, 10)]
    assert throughput.bands == [(300.0, 300.0), (0.0, 60.0), (101.7, 1.0)]


def test_a_long_range_is_merged_to_a_readable_number_of_points() -> None:
    points = [RatePoint(at=float(at), received=1) for at in range(0, 3600, 10)]
    seen = Overview(now=3600.0, step=10.0, points=points, queues=QueueList(), collector=CollectorState())
    throughput, _ = rate_charts(seen)
    assert len(throughput.times) == 120
    assert set(throughput.series[0].values) == {6.0}


def test_the_time_before_anybody_looked_is_left_out() -> None:
    points = [RatePoint(at=float(at), received=1 if at >= 3500 else 0) for at in range(0, 3600, 10)]
    seen = Overview(
        now=3600.0,
        step=10.0,
        points=points,
        workers=[WorkerRow(hostname="w", online=True, first_seen=3490.0)],
        queues=QueueList(),
        collector=CollectorState(),
    )
    assert rate_charts(seen)[0].times[0] == 3480.0


STATS = {
    "pid": 9,
    "prefetch_count": 8,
    "uptime": 5,
    "total": {"a": 1, "b": 5},
    "pool": {"implementation": "celery.concurrency.prefork:TaskPool", "max-concurrency": 2, "processes": [1, 2, 3]},
    "rusage": {"utime": 1.5},
    "broker": {"hostname": "h"},
}


def test_an_inspection_reads_as_tables() -> None:
    seen = Inspection(
        {
            "stats": STATS,
            "conf": {"worker_pool_restarts": True, "timezone": None, "a": 1},
            "registered": ["proj.b", "proj.a [rate_limit=10/m]"],
            "active": [{"id": "1", "name": "n", "args": "[1]", "kwargs": "{}", "time_start": 5.5, "worker_pid": 7}],
            "scheduled": [{"eta": "2099", "request": {"id": "2", "name": "m", "args": [5], "kwargs": {}}}],
        }
    )
    assert (seen.implementation, seen.pool_size, seen.pool_restarts) == ("prefork", 3, True)
    assert seen.totals == [("b", "5"), ("a", "1")]
    assert [(limit.name, limit.rate) for limit in seen.limits] == [("proj.a", "10/m"), ("proj.b", "")]
    assert seen.config == [("a", "1"), ("worker_pool_restarts", "True")]
    assert seen.other == [("uptime", "5")]
    assert (seen.tasks("active")[0].started, seen.tasks("active")[0].pid) == (5.5, "7")
    assert (seen.tasks("scheduled")[0].uuid, seen.tasks("scheduled")[0].eta) == ("2", "2099")


ANYTHING: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)
METHODS = ("stats", "conf", "registered", "active", "scheduled", "reserved", "revoked", "active_queues")


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(METHODS, ANYTHING)))
def test_a_worker_may_answer_anything(answers: dict[str, Any]) -> None:
    seen = Inspection(answers)
    for method in ("active", "reserved", "scheduled"):
        seen.tasks(method)
    looked_at = (seen.pool, seen.pool_size, seen.implementation, seen.autoscaler, seen.broker, seen.system, seen.other)
    assert len(looked_at) == 7
    assert len((seen.totals, seen.queues, seen.config, seen.pool_restarts, seen.limits, seen.revoked)) == 6


def test_controls_say_why_they_are_inert() -> None:
    online, offline = WorkerRow(hostname="w", online=True), WorkerRow(hostname="w", online=False)
    known = Inspection({"stats": STATS})
    assert reasons(online, known, "Read only mode is enabled").any == "Read only mode is enabled"
    assert reasons(offline, known, None).resize == OFFLINE
    found = reasons(online, known, None)
    assert (found.any, found.resize) == (None, None)
    assert "--autoscale" in (found.autoscale or "")
    assert "worker_pool_restarts" in (found.restart or "")
    solo = Inspection({"stats": {"pool": {"implementation": "celery.concurrency.solo:TaskPool"}}})
    assert "solo" in (reasons(online, solo, None).resize or "")


@pytest.mark.parametrize(
    ("state", "revoke", "terminate"),
    [("RECEIVED", True, False), ("RETRY", True, False), ("PENDING", True, False), ("STARTED", False, True),
     ("PROGRESS", True, True), ("SUCCESS", False, False), ("REVOKED", False, False)],
)  # fmt: skip
def test_a_task_can_be_revoked_before_it_runs_and_terminated_while_it_runs(
    state: str, revoke: bool, terminate: bool
) -> None:
    reasons_by_action = dict(actions(state))
    if state == "PROGRESS":
        assert reasons_by_action["terminate"] is None
        return
    assert (reasons_by_action["revoke"] is None, reasons_by_action["terminate"] is None) == (revoke, terminate)


def test_a_lost_task_cannot_be_terminated_but_run_again() -> None:
    lost = {"state": "STARTED", "name": "proj.add", "args": "(1,)", "kwargs": "{}", "lost_since": 5.0}
    assert buttons(lost) == (("revoke", None), ("terminate", GONE), ("run-again", None))
    assert buttons({**lost, "lost_since": None}) == actions("STARTED")


def changed(*topics: str, names: tuple[str, ...] | None = (), workers: tuple[str, ...] | None = ()) -> Changed:
    return Changed(cluster="default", sequence=1, topics=topics, tasks=names, workers=workers)


def test_a_page_is_concerned_by_what_it_shows_only() -> None:
    assert tasks.PAGE.concerned(changed("tasks", names=("a",)), None)
    assert not tasks.PAGE.concerned(changed("workers"), None)
    assert task.PAGE.concerned(changed("tasks", names=("a", "b")), frozenset({"b"}))
    assert not task.PAGE.concerned(changed("tasks", names=("a",)), frozenset({"b"}))
    assert task.PAGE.concerned(changed("tasks", names=None), frozenset({"b"}))
    assert task.PAGE.concerned(changed("audit"), frozenset({"b"}))
    assert not worker.PAGE.concerned(changed("workers", workers=("w2",)), frozenset({"w1"}))
    assert worker.PAGE.concerned(changed("workers", workers=("w1",)), frozenset({"w1"}))
    assert overview.PAGE.concerned(changed("collector"), None)
    assert queues.PAGE.concerned(changed("queues"), None)


def report(at: float, *, connected: bool, error: str | None = None) -> bytes:
    fact = CollectorReported(seen=at, broker="redis://h", connected=connected, since=at - 50, error=error)
    return encode_batch("default", "c", [fact])


def test_the_banner_says_that_the_broker_is_away_and_since_when() -> None:
    watch = BrokerWatch()
    assert watch.banner(100.0) is None
    assert watch.hear(report(100.0, connected=True))
    assert watch.banner(101.0) is None
    assert not watch.hear(report(105.0, connected=True))
    assert watch.hear(report(110.0, connected=False, error="refused"))
    banner = watch.banner(111.0)
    assert banner is not None
    assert ("redis://h" in banner.words, "refused" in banner.words, banner.since) == (True, True, 60.0)


def test_a_collector_that_falls_silent_is_told() -> None:
    watch = BrokerWatch(silent_after=20.0)
    watch.hear(report(100.0, connected=True))
    banner = watch.banner(121.0)
    assert banner is not None
    assert banner.since == 100.0


def test_columns_are_ours_unless_somebody_chose() -> None:
    assert columns(FLOWER_COLUMNS)[0] == "state"
    assert columns(("runtime", "nosuch", "name")) == ("runtime", "name")


def test_limits_are_those_on_offer() -> None:
    assert [page_limit(text) for text in ("100", "7", "-50", "", "１００")] == [100, 50, 50, 50, 100]


def test_a_bad_number_is_told_in_flowers_words() -> None:
    assert whole_number("7") == 7
    with pytest.raises(BadArgument, match="Invalid argument 'x' of type 'int'"):
        whole_number("x")


def test_a_worker_is_not_busier_than_it_has_processes() -> None:
    rows = [
        WorkerRow(hostname="a", online=True, active=3, concurrency=1),
        WorkerRow(hostname="b", online=True, active=1, concurrency=4),
        WorkerRow(hostname="c", online=True, active=2),
    ]
    assert occupied(rows) == (4, 5)


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_no_time_is_too_strange_to_show(timestamp: float) -> None:
    assert isinstance(iso(timestamp) + clock(timestamp), str)


@given(st.floats(-1e12, 1e12))
def test_durations_have_a_number_and_a_unit(seconds: float) -> None:
    assert any(unit in duration(seconds) for unit in ("ms", " s", " min", " h", " d"))


def test_names_are_shortened_where_they_do_not_differ() -> None:
    assert name_parts("w1@mail") == ("w1@mail", "", "")
    assert name_parts("celery@worker-7f9c6d5b8-05xkz.prod") == ("celery@worker-7f9c6d5", "b8-05xkz", ".prod")
    assert short("a" * 40) == "aaaaaaaa…aaaa"
    assert element_id('"><script>').startswith("r-")
    assert element_id("a") != element_id("b")
