"""Lost tasks, attempts, and statistics by minute and hour."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0002"
down_revision = "0001"

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WORD = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

COUNTS = ("sent", "received", "started", "succeeded", "failed", "retried", "revoked", "rejected", "cancelled")
SKETCHES = ("queue_wait", "prefetch_wait", "run_time")
OPEN = "state NOT IN ('SUCCESS', 'FAILURE', 'REVOKED', 'PENDING', 'RETRY', 'REJECTED') AND lost_since IS NULL"
INDEXES: tuple[tuple[str, list[str], str | None], ...] = (
    ("tasks_name_state", ["cluster", "name", "state", "received"], None),
    ("tasks_open", ["cluster", "worker"], OPEN),
    ("tasks_lost", ["cluster", "worker"], "lost_since IS NOT NULL"),
)


def upgrade(op: Operations) -> Iterator[str]:
    """Add columns and tables, which takes no time, and then index after index, which does."""
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("tasks")}
    added: tuple[sa.Column[Any], ...] = (
        sa.Column("lost_since", sa.Float()),
        sa.Column("lost_reason", WORD),
        sa.Column("attempts", sa.Text()),
    )
    for column in added:
        if column.name not in there:
            op.add_column("tasks", column)
    _statistics(op)
    yield "columns and tables are added"
    for name, columns, condition in INDEXES:
        where = None if condition is None else sa.text(condition)
        op.create_index(name, "tasks", columns, if_not_exists=True, sqlite_where=where, postgresql_where=where)
        yield f"index {name} is built"


def _statistics(op: Operations) -> None:
    op.create_table(
        "stats",
        *(sa.Column(name, WHOLE, nullable=False) for name in ("cluster", "step")),
        *(sa.Column(name, WORD, nullable=False) for name in ("dimension", "label")),
        *(sa.Column(name, WHOLE, nullable=False) for name in ("at", *COUNTS)),
        *(sa.Column(name, sa.LargeBinary()) for name in SKETCHES),
        sa.ForeignKeyConstraint(["cluster"], ["clusters.id"]),
        sa.PrimaryKeyConstraint("cluster", "step", "dimension", "label", "at"),
        sqlite_with_rowid=False,
        if_not_exists=True,
    )
    op.create_index("stats_at", "stats", ["cluster", "step", "at"], if_not_exists=True)
    op.create_table(
        "stats_journal",
        sa.Column("id", WHOLE, nullable=False),
        sa.Column("cluster", WHOLE, nullable=False),
        sa.Column("facts", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        if_not_exists=True,
    )
