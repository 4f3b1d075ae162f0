"""The tables of the first release."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0001"
down_revision = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WORD = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade(op: Operations) -> Iterator[str]:
    """Make them all; in one step, since they are empty."""
    _progress(op)
    _tasks(op)
    _workers(op)
    _queues(op)
    _pipeline(op)
    _audit(op)
    yield from ()


def _whole(name: str, *, null: bool = False, default: str | None = None) -> sa.Column[int]:
    return sa.Column(name, WHOLE, nullable=null, server_default=default)


def _time(name: str, *, null: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Float(), nullable=null)


def _word(name: str) -> sa.Column[str]:
    return sa.Column(name, WORD, nullable=False)


def _text(name: str, *, null: bool = True, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=null, server_default=default)


def _of_cluster(op: Operations, name: str, key: tuple[str, ...], *columns: sa.Column[Any], rowid: bool) -> None:
    parts = (
        _whole("cluster"),
        *columns,
        sa.ForeignKeyConstraint(["cluster"], ["clusters.id"]),
        sa.PrimaryKeyConstraint("cluster", *key),
    )
    op.create_table(name, *parts, sqlite_with_rowid=rowid)


def _progress(op: Operations) -> None:
    op.create_table("meta", _word("key"), _text("value", null=False), sa.PrimaryKeyConstraint("key"))
    op.create_table(
        "positions",
        _word("stream"),
        _text("identity", null=False),
        _whole("sequence"),
        sa.PrimaryKeyConstraint("stream"),
    )
    op.create_table(
        "digests",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        _whole("sequence"),
        sa.PrimaryKeyConstraint("digest"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_digests_sequence", "digests", ["sequence"])
    op.create_table(
        "clusters",
        _whole("id"),
        _word("name"),
        _whole("tasks", default="0"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )


def _tasks(op: Operations) -> None:
    op.create_table(
        "tasks",
        _whole("id"),
        _whole("cluster"),
        _word("state"),
        *(_time(name) for name in ("timestamp", "received", "started", "runtime")),
        *(_word(name) for name in ("name", "worker", "uuid")),
        *(_time(name, null=True) for name in ("sent", "succeeded", "failed", "retried", "revoked", "rejected")),
        *(_time(name, null=True) for name in ("cancelled", "custom_at")),
        _text("custom"),
        _whole("retries", null=True),
        *(_text(name) for name in ("eta", "expires")),
        *(sa.Column(name, WORD) for name in ("root_id", "parent_id")),
        _time("details_at", null=True),
        _whole("details_received", null=True),
        _text("older"),
        *(_whole(name, null=True) for name in ("pid", "clock")),
        *(_text(name) for name in ("exchange", "routing_key", "queue", "client")),
        *(_text(name) for name in ("args", "kwargs", "result", "exception", "traceback")),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("cluster", "uuid"),
    )
    for column in ("received", "timestamp", "started", "runtime"):
        op.create_index(f"tasks_{column}", "tasks", ["cluster", column])
    for column in ("state", "name", "worker"):
        op.create_index(f"tasks_{column}", "tasks", ["cluster", column, "received"])
    for name, column, text in (
        ("parent", "parent_id", "parent_id IS NOT NULL"),
        ("root", "root_id", "root_id != uuid"),
    ):
        where = sa.text(text)
        op.create_index(f"tasks_{name}", "tasks", ["cluster", column], sqlite_where=where, postgresql_where=where)


def _workers(op: Operations) -> None:
    _of_cluster(
        op,
        "workers",
        ("hostname",),
        _word("hostname"),
        *(_time(name, null=True) for name in ("first_seen", "last_seen", "online_at", "heartbeat_at", "offline_at")),
        sa.Column("heartbeats", sa.JSON(), nullable=False),
        _time("event_at", null=True),
        _time("freq"),
        *(_whole(name, null=True) for name in ("pid", "clock", "active", "processed")),
        sa.Column("loadavg", sa.JSON(), nullable=False),
        *(_text(name) for name in ("sw_ident", "sw_ver", "sw_sys")),
        _time("skew", null=True),
        rowid=False,
    )
    key = ("hostname", "type")
    _of_cluster(op, "worker_counts", key, _word("hostname"), _word("type"), _whole("count"), rowid=False)
    answer = (_time("at"), _text("answer", null=False))
    _of_cluster(op, "inspections", ("hostname", "method"), _word("hostname"), _word("method"), *answer, rowid=True)


def _queues(op: Operations) -> None:
    _of_cluster(op, "observations", (), _time("seen"), _text("fact", null=False), rowid=True)
    sample = (_word("name"), _time("at"), _whole("messages", null=True))
    _of_cluster(op, "queue_samples", ("name", "at"), *sample, rowid=False)
    op.create_index("queue_samples_at", "queue_samples", ["at"])
    _of_cluster(
        op,
        "rollups",
        ("step", "at", "name"),
        _whole("step"),
        _whole("at"),
        _word("name"),
        *(_whole(name) for name in ("sent", "received", "started", "succeeded", "failed", "retried")),
        *(_whole(name) for name in ("revoked", "rejected")),
        _time("runtime_sum"),
        _whole("runtime_count"),
        rowid=False,
    )


def _pipeline(op: Operations) -> None:
    _of_cluster(op, "collectors", (), _time("seen"), _text("fact", null=False), rowid=True)
    gap = (_time("start"), _time("end"), _word("reason"), _whole("events", null=True))
    _of_cluster(op, "gaps", ("start", "end", "reason"), *gap, rowid=False)
    _of_cluster(op, "lives", ("hostname",), _word("hostname"), _text("lives", null=False), rowid=False)
    score = (_whole("at"), _word("hostname"), _whole("expected"), _whole("seen"))
    lost = (_time("lost_from", null=True), _time("lost_until", null=True))
    _of_cluster(op, "scores", ("at", "hostname"), *score, *lost, rowid=False)


def _audit(op: Operations) -> None:
    op.create_table(
        "audit",
        _whole("id"),
        _whole("cluster"),
        _word("record"),
        _time("at"),
        _text("actor", null=False, default=""),
        *(_text(name, null=False, default="") for name in ("actor_kind", "source", "command", "target")),
        _text("parameters", null=False, default="{}"),
        _text("reason", null=False, default=""),
        _text("code"),
        _text("message", null=False, default=""),
        _text("replies", null=False, default="{}"),
        _time("seconds", null=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("cluster", "record"),
    )
    op.create_index("audit_at", "audit", ["cluster", "at"])
    for column in ("target", "actor"):
        op.create_index(f"audit_{column}", "audit", ["cluster", column, "at"])
