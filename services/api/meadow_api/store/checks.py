"""What `meadow store check` looks at: is the store sound, do its own counts agree, what does it hold."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, text

from meadow_api.store import retention, revisions, schema
from meadow_api.store.schema import tasks

MOST_FAULTS = 20


@dataclass(frozen=True)
class Finding:
    """One line. `well` is `None` for what is only told."""

    title: str
    text: str
    well: bool | None = None
    advice: str = ""


@dataclass(frozen=True)
class StoredPosition:
    """How far a stream is in the store, and which one it was."""

    stream: str
    identity: str
    sequence: int


def examine(connection: Connection) -> Iterator[Finding]:
    """All findings; reads everything, which takes minutes where there are millions of tasks."""
    yield _version(connection)
    yield _sound(connection)
    yield Finding("size", f"{retention.size(connection) / 1e6:,.1f} MB in use.")
    yield from _tasks(connection)
    for table, title in ((schema.workers, "workers"), (schema.audit, "audit")):
        number = connection.execute(select(func.count()).select_from(table)).scalar_one()
        yield Finding(title, f"{number:,} stored.")


def positions(connection: Connection) -> list[StoredPosition]:
    """How far each stream was read."""
    rows = connection.execute(select(schema.positions).order_by(schema.positions.c.stream))
    return [StoredPosition(row.stream, row.identity, row.sequence) for row in rows]


def _version(connection: Connection) -> Finding:
    if connection.dialect.name == "sqlite":
        server = f"SQLite {connection.execute(select(func.sqlite_version())).scalar_one()}"
    else:
        server = f"PostgreSQL {connection.execute(text('SHOW server_version')).scalar_one()}"
    return Finding("schema", f"{revisions.revision(connection, 'here')}, on {server}.", True)


def _sound(connection: Connection) -> Finding:
    if connection.dialect.name == "sqlite":
        faults = [str(row[0]) for row in connection.exec_driver_sql(f"PRAGMA integrity_check({MOST_FAULTS})")]
        if faults == ["ok"]:
            return Finding("integrity", "Every page and every index is sound.", True)
        advice = "Stop Meadow, keep the file, and start again: history is read again from the stream."
        return Finding("integrity", "; ".join(faults), False, advice)
    invalid = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"
    broken = list(connection.execute(text(invalid)).scalars())
    if not broken:
        return Finding("integrity", "Every index is valid. (PostgreSQL checks its own pages: see pg_amcheck.)", True)
    return Finding("integrity", f"Invalid: {', '.join(broken)}.", False, "Repair them with REINDEX INDEX.")


def _tasks(connection: Connection) -> Iterator[Finding]:
    for cluster in connection.execute(select(schema.clusters).order_by(schema.clusters.c.name)).all():
        of_cluster = tasks.c.cluster == cluster.id
        by_state = select(tasks.c.state, func.count()).where(of_cluster).group_by(tasks.c.state)
        states = [(state, count) for state, count in connection.execute(by_state.order_by(tasks.c.state))]
        number = sum(count for _, count in states)
        listed = ", ".join(f"{state} {count:,}" for state, count in states)
        title = f"tasks of {cluster.name}"
        if number == cluster.tasks:
            yield Finding(title, f"{number:,} stored, as many as counted. {listed}", True)
        else:
            yield Finding(title, f"{number:,} stored, but {cluster.tasks:,} counted. {listed}", False, _MISCOUNT)


_MISCOUNT = "Count again with 'meadow store prune', while Meadow is stopped."
