"""The tables of the task store.

Columns that lists are sorted by are never NULL: what is unknown is `NO_TIME`, `NO_NUMBER` or the empty text, which
sort first. That is what lets a page begin behind the last row of the page before it, in every order.
"""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

SCHEMA_VERSION = 3

NO_TIME = -1e300
NO_NUMBER = -1e300
NO_TEXT = ""

Whole = BigInteger().with_variant(Integer, "sqlite")
"""Whole numbers have 64 bits in both databases; SQLite's row numbers have to be called INTEGER."""
Word = Text().with_variant(Text(collation="C"), "postgresql")
"""Names and ids, compared and sorted by their bytes in both databases."""

ENDED = ("SUCCESS", "FAILURE", "REVOKED", "PENDING", "RETRY", "REJECTED")
OPEN = " AND ".join([*(f"state <> '{state}'" for state in ENDED), "lost_since IS NULL"])
"""A worker holds the task, as far as known. Databases use `tasks_open` for a question that says it in these words.

Single comparisons: for `NOT IN` SQLite took a tenth of the time of inserting a task to see that it is not open.
"""

metadata = MetaData()

meta = Table("meta", metadata, Column("key", Word, primary_key=True), Column("value", Text, nullable=False))

positions = Table(
    "positions",
    metadata,
    Column("stream", Word, primary_key=True),
    Column("identity", Word, nullable=False),
    Column("sequence", Whole, nullable=False),
)

digests = Table(
    "digests",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("sequence", Whole, nullable=False, index=True),
    sqlite_with_rowid=False,
)

clusters = Table(
    "clusters",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("name", Word, nullable=False, unique=True),
    Column("tasks", Whole, nullable=False, server_default="0"),
)


def _cluster() -> Column[int]:
    return Column("cluster", Whole, ForeignKey("clusters.id"), primary_key=True)


def _where(condition: Any) -> dict[str, Any]:
    return {"sqlite_where": condition, "postgresql_where": condition}


# The order of the columns matters: SQLite reads a row from its front, so the long texts come last.
tasks = Table(
    "tasks",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("cluster", Whole, nullable=False),
    Column("state", Word, nullable=False),
    Column("timestamp", Float, nullable=False),
    Column("received", Float, nullable=False),
    Column("started", Float, nullable=False),
    Column("runtime", Float, nullable=False),
    Column("name", Word, nullable=False),
    Column("worker", Word, nullable=False),
    Column("uuid", Word, nullable=False),
    Column("sent", Float),
    Column("succeeded", Float),
    Column("failed", Float),
    Column("retried", Float),
    Column("revoked", Float),
    Column("rejected", Float),
    Column("cancelled", Float),
    Column("custom_at", Float),
    Column("custom", Word),
    Column("retries", Whole),
    Column("eta", Text),
    Column("expires", Text),
    Column("root_id", Word),
    Column("parent_id", Word),
    Column("details_at", Float),
    Column("details_received", Whole),
    Column("older", Text),
    Column("pid", Whole),
    Column("clock", Whole),
    Column("exchange", Word),
    Column("routing_key", Word),
    Column("queue", Word),
    Column("client", Word),
    # Celery's state stays when the worker goes away: this says since when, and why, nothing more is to be expected.
    Column("lost_since", Float),
    Column("lost_reason", Word),
    Column("args", Text),
    Column("kwargs", Text),
    Column("result", Text),
    Column("exception", Text),
    Column("traceback", Text),
    # The events of a task that ran more than once (`meadow_api.attempts`); NULL for all others.
    Column("attempts", Text),
    UniqueConstraint("cluster", "uuid"),
)
Index("tasks_received", tasks.c.cluster, tasks.c.received)
Index("tasks_timestamp", tasks.c.cluster, tasks.c.timestamp)
Index("tasks_state", tasks.c.cluster, tasks.c.state, tasks.c.received)
Index("tasks_name", tasks.c.cluster, tasks.c.name, tasks.c.received)
Index("tasks_worker", tasks.c.cluster, tasks.c.worker, tasks.c.received)
Index("tasks_name_state", tasks.c.cluster, tasks.c.name, tasks.c.state, tasks.c.received)
Index("tasks_started", tasks.c.cluster, tasks.c.started)
Index("tasks_runtime", tasks.c.cluster, tasks.c.runtime)
Index("tasks_parent", tasks.c.cluster, tasks.c.parent_id, **_where(tasks.c.parent_id.is_not(None)))
# Nearly every task is its own root: those are found by their id.
Index("tasks_root", tasks.c.cluster, tasks.c.root_id, **_where(tasks.c.root_id != tasks.c.uuid))
# A task leaves it when it ends, so it stays small.
Index("tasks_open", tasks.c.cluster, tasks.c.worker, **_where(text(OPEN)))
Index("tasks_lost", tasks.c.cluster, tasks.c.worker, **_where(tasks.c.lost_since.is_not(None)))

workers = Table(
    "workers",
    metadata,
    _cluster(),
    Column("hostname", Word, primary_key=True),
    Column("first_seen", Float),
    Column("last_seen", Float),
    Column("online_at", Float),
    Column("heartbeat_at", Float),
    Column("offline_at", Float),
    Column("heartbeats", JSON, nullable=False),
    Column("event_at", Float),
    Column("freq", Float, nullable=False),
    Column("pid", Whole),
    Column("clock", Whole),
    Column("active", Whole),
    Column("processed", Whole),
    Column("loadavg", JSON, nullable=False),
    Column("sw_ident", Text),
    Column("sw_ver", Text),
    Column("sw_sys", Text),
    Column("skew", Float),
    sqlite_with_rowid=False,
)

worker_counts = Table(
    "worker_counts",
    metadata,
    _cluster(),
    Column("hostname", Word, primary_key=True),
    Column("type", Word, primary_key=True),
    Column("count", Whole, nullable=False),
    sqlite_with_rowid=False,
)

inspections = Table(
    "inspections",
    metadata,
    _cluster(),
    Column("hostname", Word, primary_key=True),
    Column("method", Word, primary_key=True),
    Column("at", Float, nullable=False),
    Column("answer", Text, nullable=False),
)

observations = Table(
    "observations",
    metadata,
    _cluster(),
    Column("seen", Float, nullable=False),
    Column("fact", Text, nullable=False),
)

queue_samples = Table(
    "queue_samples",
    metadata,
    _cluster(),
    Column("name", Word, primary_key=True),
    Column("at", Float, primary_key=True),
    Column("messages", Whole),
    sqlite_with_rowid=False,
)
Index("queue_samples_at", queue_samples.c.at)

rollups = Table(
    "rollups",
    metadata,
    _cluster(),
    Column("step", Whole, primary_key=True),
    Column("at", Whole, primary_key=True),
    Column("name", Word, primary_key=True),
    Column("sent", Whole, nullable=False),
    Column("received", Whole, nullable=False),
    Column("started", Whole, nullable=False),
    Column("succeeded", Whole, nullable=False),
    Column("failed", Whole, nullable=False),
    Column("retried", Whole, nullable=False),
    Column("revoked", Whole, nullable=False),
    Column("rejected", Whole, nullable=False),
    Column("runtime_sum", Float, nullable=False),
    Column("runtime_count", Whole, nullable=False),
    sqlite_with_rowid=False,
)

# Counts and quantile sketches (`meadow_api.sketches`) of a minute (step 60) or an hour (step 3600) by one dimension:
# `name`, `queue` or `worker` with the value as label, or `all` with the empty label.
stats = Table(
    "stats",
    metadata,
    _cluster(),
    Column("step", Whole, primary_key=True),
    Column("dimension", Word, primary_key=True),
    Column("label", Word, primary_key=True),
    Column("at", Whole, primary_key=True),
    Column("sent", Whole, nullable=False),
    Column("received", Whole, nullable=False),
    Column("started", Whole, nullable=False),
    Column("succeeded", Whole, nullable=False),
    Column("failed", Whole, nullable=False),
    Column("retried", Whole, nullable=False),
    Column("revoked", Whole, nullable=False),
    Column("rejected", Whole, nullable=False),
    Column("cancelled", Whole, nullable=False),
    Column("queue_wait", LargeBinary),
    Column("prefetch_wait", LargeBinary),
    Column("run_time", LargeBinary),
    sqlite_with_rowid=False,
)
Index("stats_at", stats.c.cluster, stats.c.step, stats.c.at)

# What each group adds to `stats`, until some of them are added together (`store.stats_writes`).
stats_journal = Table(
    "stats_journal",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("cluster", Whole, nullable=False),
    Column("facts", LargeBinary, nullable=False),
)

collectors = Table(
    "collectors",
    metadata,
    _cluster(),
    Column("seen", Float, nullable=False),
    Column("fact", Text, nullable=False),
)

gaps = Table(
    "gaps",
    metadata,
    _cluster(),
    Column("start", Float, primary_key=True),
    Column("end", Float, primary_key=True),
    Column("reason", Word, primary_key=True),
    Column("events", Whole),
    sqlite_with_rowid=False,
)

lives = Table(
    "lives",
    metadata,
    _cluster(),
    Column("hostname", Word, primary_key=True),
    Column("lives", Text, nullable=False),
    sqlite_with_rowid=False,
)

scores = Table(
    "scores",
    metadata,
    _cluster(),
    Column("at", Whole, primary_key=True),
    Column("hostname", Word, primary_key=True),
    Column("expected", Whole, nullable=False),
    Column("seen", Whole, nullable=False),
    Column("lost_from", Float),
    Column("lost_until", Float),
    sqlite_with_rowid=False,
)

audit = Table(
    "audit",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("cluster", Whole, nullable=False),
    Column("record", Word, nullable=False),
    Column("at", Float, nullable=False),
    Column("actor", Word, nullable=False, server_default=""),
    Column("actor_kind", Word, nullable=False, server_default=""),
    Column("source", Word, nullable=False, server_default=""),
    Column("command", Word, nullable=False, server_default=""),
    Column("target", Word, nullable=False, server_default=""),
    Column("parameters", Text, nullable=False, server_default="{}"),
    Column("reason", Word, nullable=False, server_default=""),
    Column("code", Word),
    Column("message", Text, nullable=False, server_default=""),
    Column("replies", Text, nullable=False, server_default="{}"),
    Column("seconds", Float),
    UniqueConstraint("cluster", "record"),
)
Index("audit_at", audit.c.cluster, audit.c.at)
Index("audit_target", audit.c.cluster, audit.c.target, audit.c.at)
Index("audit_actor", audit.c.cluster, audit.c.actor, audit.c.at)
