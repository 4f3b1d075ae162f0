"""What `meadow store check` looks at: is the store sound, do its own counts agree, what does it hold."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, text

from meadow_api.store import revisions, schema, weight
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


def damage(title: str, text: str) -> Finding:
    """What to say of a SQLite file that is not sound."""
    advice = "Stop Meadow and move the file away, or let Meadow do so: it reads history again from the stream."
    return Finding(title, text, False, advice)


def positions(connection: Connection) -> list[StoredPosition]:
    """How far each stream was read."""
    rows = connection.execute(select(schema.positions).order_by(schema.positions.c.stream))
    return [StoredPosition(row.stream, row.identity, row.sequence) for row in rows]


def _version(connection: Connection) -> Iterator[Finding]:
    if connection.dialect.name == "sqlite":
        server = f"SQLite {connection.execute(select(func.sqlite_version())).scalar_one()}"
    else:
        server = f"PostgreSQL {connection.execute(text('SHOW server_version')).scalar_one()}"
    yield Finding("schema", f"{revisions.revision(connection, 'here')}, on {server}.", True)


def _sound(connection: Connection) -> Iterator[Finding]:
    if connection.dialect.name == "sqlite":
        faults = [str(row[0]) for row in connection.exec_driver_sql(f"PRAGMA integrity_check({MOST_FAULTS})")]
        if faults == ["ok"]:
            yield Finding("integrity", "Every page and every index is sound.", True)
        else:
            yield damage("integrity", "; ".join(faults))
        return
    invalid = connection.execute(text(_INVALID)).all()
    building, broken = ([row.name for row in invalid if row.building is being] for being in (True, False))
    if building:
        yield Finding("integrity", f"Being built: {', '.join(building)}.")
    if broken:
        yield Finding("integrity", f"Invalid: {', '.join(broken)}.", False, "Repair them with REINDEX INDEX.")
    if not invalid:
        yield Finding("integrity", "Every index is valid. (PostgreSQL checks its own pages: see pg_amcheck.)", True)


_INVALID = """SELECT indexrelid::regclass::text AS name,
    EXISTS (SELECT FROM pg_stat_progress_create_index AS now WHERE now.index_relid = indexrelid) AS building
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE NOT indisvalid AND relnamespace = current_schema()::regnamespace"""


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


def _numbers(connection: Connection) -> Iterator[Finding]:
    yield Finding("size", f"{weight.store_size(connection) / 1e6:,.1f} MB in use.")
    for table, title in ((schema.workers, "workers"), (schema.audit, "audit")):
        number = connection.execute(select(func.count()).select_from(table)).scalar_one()
        yield Finding(title, f"{number:,} stored.")


_MISCOUNT = "Count again with 'meadow store prune', while Meadow is stopped."

PARTS: tuple[tuple[str, Callable[[Connection], Iterator[Finding]]], ...] = (
    ("schema", _version),
    ("integrity", _sound),
    ("tasks", _tasks),
    ("numbers", _numbers),
)
"""Each looks at one thing, and all read everything, which takes minutes where there are millions of tasks."""
