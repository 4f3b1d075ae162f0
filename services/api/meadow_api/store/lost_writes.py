"""Marks tasks whose worker is gone, a few in each transaction, and takes the mark away when the worker is heard again.

A later event of the task itself takes the mark away as well: that is done where its row is written (`task_writes`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection

from meadow_api.attempts import UNKNOWN
from meadow_api.completeness import MOST_LIVES, Lives
from meadow_api.lost import OFFLINE, RESTARTED, SILENT, Absence, Watched, absence, is_unclear
from meadow_api.presence import WorkerRecord
from meadow_api.store.raw import Statement
from meadow_api.store.schema import OPEN, tasks

LOOK_EVERY = 5.0
"""Seconds of the stream."""
STEP = 500
MOST_WORKERS = 50
"""Rows and workers in one transaction."""


@dataclass(frozen=True)
class Marks:
    """Which workers were looked at, as committed: what was found then. `looked` is when the last round began."""

    found: Mapping[str, Absence | None] = field(default_factory=dict)
    looked: float = 0.0


def is_due(marks: Marks, now: float) -> bool:
    """Whether it is time to look at the workers; a round that is not finished goes on at once."""
    return now - marks.looked >= LOOK_EVERY


def mark_lost(
    connection: Connection,
    cluster: int,
    marks: Marks,
    board: Mapping[str, WorkerRecord],
    lives: Mapping[str, Lives],
    now: float,
    watched: Watched,
) -> tuple[Marks, list[str]]:
    """Look at workers of which something is new; gives what is done now, and the tasks whose mark changed."""
    found = {hostname: seen for hostname, seen in marks.found.items() if hostname in board}
    changed: list[str] = []
    left = STEP
    for hostname, gone in _news(found, board, lives, now, watched):
        concerned = _take_back(connection, cluster, hostname, gone, left)
        if gone is not None and len(concerned) < left:
            concerned += _mark(connection, cluster, hostname, gone, left - len(concerned))
        changed += concerned
        left -= len(concerned)
        if left <= 0:
            return Marks(found, marks.looked), changed  # the round goes on with the next group
        found[hostname] = gone
    rest = next(_news(found, board, lives, now, watched), None)
    return Marks(found, now if rest is None else marks.looked), changed


def _news(
    found: Mapping[str, Absence | None],
    board: Mapping[str, WorkerRecord],
    lives: Mapping[str, Lives],
    now: float,
    watched: Watched,
) -> Iterator[tuple[str, Absence | None]]:
    """The workers that are not as they were found, up to `MOST_WORKERS`."""
    given = 0
    for hostname, record in list(board.items()):
        gone = absence(record, lives.get(hostname, {}), now, watched)
        if hostname in found and found[hostname] == gone:
            continue
        if gone is None and is_unclear(record, now, watched):
            continue
        yield hostname, gone
        given += 1
        if given >= MOST_WORKERS:
            return


def _mark(connection: Connection, cluster: int, hostname: str, gone: Absence, most: int) -> list[str]:
    before = float("inf") if gone.before is None else gone.before
    others = (*gone.pids, *[UNKNOWN] * MOST_LIVES)[:MOST_LIVES]
    rows = _HELD.all(connection, (cluster, hostname, before, UNKNOWN, *others, most))
    if rows:
        _MARK.many(connection, [(gone.since, gone.reason, id_) for id_, _ in rows])
    return [uuid for _, uuid in rows]


def _take_back(connection: Connection, cluster: int, hostname: str, gone: Absence | None, most: int) -> list[str]:
    """Tasks that were lost because the worker was away: the same process is there again."""
    if gone is not None and (gone.reason != RESTARTED or gone.unclear):
        return []
    since = float("-inf") if gone is None or gone.before is None else gone.before
    rows = _AWAY.all(connection, (cluster, hostname, SILENT, OFFLINE, since, most))
    if rows:
        _UNMARK.many(connection, [(id_,) for id_, _ in rows])
    return [uuid for _, uuid in rows]


# The names are those of the schema; every value is bound.
_HELD = Statement(
    f"SELECT id, uuid FROM {tasks.name} {{index}} WHERE cluster = ? AND worker = ? AND {OPEN} "  # noqa: S608
    f"AND timestamp < ? AND coalesce(pid, ?) NOT IN ({', '.join('?' * MOST_LIVES)}) LIMIT ?",
    index="tasks_open",
)
_MARK = Statement(f"UPDATE {tasks.name} SET lost_since = ?, lost_reason = ? WHERE id = ?")  # noqa: S608
_AWAY = Statement(
    f"SELECT id, uuid FROM {tasks.name} {{index}} WHERE cluster = ? AND worker = ? AND lost_since IS NOT NULL "  # noqa: S608
    "AND lost_reason IN (?, ?) AND timestamp >= ? LIMIT ?",
    index="tasks_lost",
)
_UNMARK = Statement(f"UPDATE {tasks.name} SET lost_since = NULL, lost_reason = NULL WHERE id = ?")  # noqa: S608
