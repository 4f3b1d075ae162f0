"""Which revision of the tables a database has, and bringing it to this Meadow's: made anew, adopted, or migrated.

Alembic's table `alembic_version` names the revision. The row `schema` of `meta` says the same as a number, for the
first releases: they knew no revisions and refuse a number that is greater than theirs.
"""

import logging
from collections.abc import Callable

from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, insert, inspect, select, update

from meadow.errors import StartRefused
from meadow_api.store import schema
from meadow_api.store.upsert import upsert

log = logging.getLogger(__name__)

HEAD = f"{schema.SCHEMA_VERSION:04}"
FIRST = "0001"

# Apart from the metadata of the store, which Alembic compares with what it finds.
version = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))


class NoStoreYet(StartRefused):
    """No Meadow has written there."""


class OlderStore(StartRefused):
    """An older Meadow has written it; who only reads it does not bring it up to date."""


def bring_up_to_date(engine: Engine, place: str, *, before: Callable[[Connection], None]) -> None:
    """Make the tables where there are none, and migrate older ones; raises `StartRefused` for newer ones.

    `before` looks at a database that is already there.
    """
    with engine.begin() as connection:
        found = revision(connection, place)
        before(connection)
        if found is None:
            schema.metadata.create_all(connection)
            mark(connection, HEAD)
            return
    if found != HEAD:
        logging.getLogger("alembic").setLevel(logging.WARNING)  # what it does is said here, in words
        from meadow_api.store.migrations.upgrade import upgrade  # Alembic takes longer to load than Meadow to start

        upgrade(engine, found, place)


def require_current(connection: Connection, place: str) -> None:
    """Raise `StartRefused` unless the tables are those of this Meadow."""
    found = revision(connection, place)
    if found is None:
        raise NoStoreYet(f"There is no task store in {place} yet: no Meadow has written it.")
    if found != HEAD:
        raise OlderStore(
            f"The task store {place} was written by an older Meadow (schema {found}, this one has {HEAD}). "
            "Bring it up to date with 'meadow store migrate', or by starting Meadow."
        )


def revision(connection: Connection, place: str) -> str | None:
    """The revision of the tables, `None` where there are none; raises `StartRefused` when it is newer than ours."""
    tables = set(inspect(connection).get_table_names())
    number = None
    if schema.meta.name in tables:
        number = connection.execute(select(schema.meta.c.value).where(schema.meta.c.key == "schema")).scalar()
    found = FIRST if number is not None else None
    if version.name in tables:
        found = connection.execute(select(version.c.version_num)).scalar() or found
    for known in (number, found):
        if known is not None and (not known.isdigit() or int(known) > schema.SCHEMA_VERSION):
            raise StartRefused(
                f"The task store {place} was written by a newer Meadow (schema {known}, this one knows "
                f"{schema.SCHEMA_VERSION}). Start that release again, or give another store with --data-dir or --store."
            )
    return found


def mark(connection: Connection, revision: str) -> None:
    """Write down that the tables are those of `revision`."""
    version.create(connection, checkfirst=True)
    if connection.execute(update(version).values(version_num=revision)).rowcount == 0:
        connection.execute(insert(version).values(version_num=revision))
    number = {"value": str(int(revision))}
    statement = upsert(schema.meta).values(key="schema", **number)
    connection.execute(statement.on_conflict_do_update(index_elements=["key"], set_=number))
