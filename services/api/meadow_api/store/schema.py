"""The tables of the task store.

Columns that lists are sorted by are never NULL: what is unknown is `NO_TIME`, `NO_NUMBER` or the empty text, which
sort first. That is what lets a page begin behind the last row of the page before it, in every order.
"""

from sqlalchemy import (
    JSON,
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
)

SCHEMA_VERSION = 1

NO_TIME = -1e300
NO_NUMBER = -1e300
NO_TEXT = ""

metadata = MetaData()

meta = Table("meta", metadata, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))

positions = Table(
    "positions",
    metadata,
    Column("stream", Text, primary_key=True),
    Column("identity", Text, nullable=False),
    Column("sequence", Integer, nullable=False),
)

digests = Table(
    "digests",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("sequence", Integer, nullable=False, index=True),
    sqlite_with_rowid=False,
)

clusters = Table(
    "clusters",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("tasks", Integer, nullable=False, server_default="0"),
)


def _cluster() -> Column[int]:
    return Column("cluster", Integer, ForeignKey("clusters.id"), primary_key=True)


# The order of the columns matters: SQLite reads a row from its front, so the long texts come last.
tasks = Table(
    "tasks",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("cluster", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("timestamp", Float, nullable=False),
    Column("received", Float, nullable=False),
    Column("started", Float, nullable=False),
    Column("runtime", Float, nullable=False),
    Column("name", Text, nullable=False),
    Column("worker", Text, nullable=False),
    Column("uuid", Text, nullable=False),
    Column("sent", Float),
    Column("succeeded", Float),
    Column("failed", Float),
    Column("retried", Float),
    Column("revoked", Float),
    Column("rejected", Float),
    Column("cancelled", Float),
    Column("custom_at", Float),
    Column("custom", Text),
    Column("retries", Integer),
    Column("eta", Text),
    Column("expires", Text),
    Column("root_id", Text),
    Column("parent_id", Text),
    Column("details_at", Float),
    Column("details_received", Integer),
    Column("older", Text),
    Column("pid", Integer),
    Column("clock", Integer),
    Column("exchange", Text),
    Column("routing_key", Text),
    Column("queue", Text),
    Column("client", Text),
    Column("args", Text),
    Column("kwargs", Text),
    Column("result", Text),
    Column("exception", Text),
    Column("traceback", Text),
    UniqueConstraint("cluster", "uuid"),
)
Index("tasks_received", tasks.c.cluster, tasks.c.received)
Index("tasks_timestamp", tasks.c.cluster, tasks.c.timestamp)
Index("tasks_state", tasks.c.cluster, tasks.c.state, tasks.c.received)
Index("tasks_name", tasks.c.cluster, tasks.c.name, tasks.c.received)
Index("tasks_worker", tasks.c.cluster, tasks.c.worker, tasks.c.received)
Index("tasks_started", tasks.c.cluster, tasks.c.started)
Index("tasks_runtime", tasks.c.cluster, tasks.c.runtime)
Index("tasks_parent", tasks.c.cluster, tasks.c.parent_id, sqlite_where=tasks.c.parent_id.is_not(None))
# Nearly every task is its own root: those are found by their id.
Index("tasks_root", tasks.c.cluster, tasks.c.root_id, sqlite_where=tasks.c.root_id != tasks.c.uuid)

workers = Table(
    "workers",
    metadata,
    _cluster(),
    Column("hostname", Text, primary_key=True),
    Column("first_seen", Float),
    Column("last_seen", Float),
    Column("online_at", Float),
    Column("heartbeat_at", Float),
    Column("offline_at", Float),
    Column("heartbeats", JSON, nullable=False),
    Column("event_at", Float),
    Column("freq", Float, nullable=False),
    Column("pid", Integer),
    Column("clock", Integer),
    Column("active", Integer),
    Column("processed", Integer),
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
    Column("hostname", Text, primary_key=True),
    Column("type", Text, primary_key=True),
    Column("count", Integer, nullable=False),
    sqlite_with_rowid=False,
)

inspections = Table(
    "inspections",
    metadata,
    _cluster(),
    Column("hostname", Text, primary_key=True),
    Column("method", Text, primary_key=True),
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
    Column("name", Text, primary_key=True),
    Column("at", Float, primary_key=True),
    Column("messages", Integer),
    sqlite_with_rowid=False,
)
Index("queue_samples_at", queue_samples.c.at)

rollups = Table(
    "rollups",
    metadata,
    _cluster(),
    Column("step", Integer, primary_key=True),
    Column("at", Integer, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("sent", Integer, nullable=False),
    Column("received", Integer, nullable=False),
    Column("started", Integer, nullable=False),
    Column("succeeded", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("retried", Integer, nullable=False),
    Column("revoked", Integer, nullable=False),
    Column("rejected", Integer, nullable=False),
    Column("runtime_sum", Float, nullable=False),
    Column("runtime_count", Integer, nullable=False),
    sqlite_with_rowid=False,
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
    Column("reason", Text, primary_key=True),
    Column("events", Integer),
    sqlite_with_rowid=False,
)

lives = Table(
    "lives",
    metadata,
    _cluster(),
    Column("hostname", Text, primary_key=True),
    Column("lives", Text, nullable=False),
    sqlite_with_rowid=False,
)

scores = Table(
    "scores",
    metadata,
    _cluster(),
    Column("at", Integer, primary_key=True),
    Column("hostname", Text, primary_key=True),
    Column("expected", Integer, nullable=False),
    Column("seen", Integer, nullable=False),
    Column("lost_from", Float),
    Column("lost_until", Float),
    sqlite_with_rowid=False,
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("cluster", Integer, nullable=False),
    Column("record", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("actor", Text, nullable=False, server_default=""),
    Column("actor_kind", Text, nullable=False, server_default=""),
    Column("source", Text, nullable=False, server_default=""),
    Column("command", Text, nullable=False, server_default=""),
    Column("target", Text, nullable=False, server_default=""),
    Column("parameters", Text, nullable=False, server_default="{}"),
    Column("reason", Text, nullable=False, server_default=""),
    Column("code", Text),
    Column("message", Text, nullable=False, server_default=""),
    Column("replies", Text, nullable=False, server_default="{}"),
    Column("seconds", Float),
    UniqueConstraint("cluster", "record"),
)
Index("audit_at", audit.c.cluster, audit.c.at)
Index("audit_target", audit.c.cluster, audit.c.target, audit.c.at)
Index("audit_actor", audit.c.cluster, audit.c.actor, audit.c.at)
