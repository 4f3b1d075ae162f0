"""Runs the revisions that a database lacks, one after the other.

A revision's `upgrade(op)` is a generator. What it did is committed at each `yield`, whose text is progress for the
log, so a large table can be changed in small steps. It may be interrupted at any moment: then it begins again, and
has to find out for itself what is done already.
"""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, Engine

from meadow_api.store.revisions import HEAD, mark

log = logging.getLogger(__name__)

TOLD_EVERY = 5.0


def scripts() -> ScriptDirectory:
    """All revisions."""
    return ScriptDirectory(str(Path(__file__).parent))


def missing(found: str) -> list[Script]:
    """The revisions after `found`, in order."""
    return list(scripts().iterate_revisions(HEAD, found))[::-1]


def upgrade(engine: Engine, found: str, place: str, *, to: str = HEAD) -> None:
    """Bring the tables from revision `found` to revision `to`."""
    for script in missing(found):
        if int(script.revision) > int(to):
            return
        log.info(
            "The task store %s is brought to schema %s: %s",
            place,
            script.revision,
            script.doc,
            extra={"action": "store.migrates"},
        )
        begun = time.monotonic()
        with engine.connect() as connection:
            _run(connection, script)
        log.info(
            "The task store %s has schema %s now, after %.1f s.",
            place,
            script.revision,
            time.monotonic() - begun,
            extra={"action": "store.migrated"},
        )


def _run(connection: Connection, script: Script) -> None:
    op = Operations(MigrationContext.configure(connection))
    work: Iterator[str] = script.module.upgrade(op)
    told = time.monotonic()
    while True:
        with connection.begin():
            said: Any = next(work, None)
            if said is None:
                mark(connection, script.revision)
                return
        if time.monotonic() - told > TOLD_EVERY:
            told = time.monotonic()
            log.info("Schema %s: %s", script.revision, said, extra={"action": "store.migrates"})
