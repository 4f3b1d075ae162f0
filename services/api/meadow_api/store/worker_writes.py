"""Workers on their way into the store: what their events and their answers to inspections say."""

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import Connection

from meadow.codec import encode
from meadow.events import CeleryEvent, CustomEvent
from meadow_api import presence
from meadow_api.intake import ClusterFacts
from meadow_api.presence import WorkerRecord
from meadow_api.store import schema
from meadow_api.store.raw import Statement
from meadow_api.store.upsert import upsert


def write_workers(
    connection: Connection, cluster: int, facts: ClusterFacts, board: Mapping[str, WorkerRecord]
) -> dict[str, WorkerRecord]:
    """Merge the workers' events into their rows; gives what is known now of those that sent any."""
    changed: dict[str, WorkerRecord] = {}
    for hostname, history in facts.workers.items():
        known = board.get(hostname)
        record = changed[hostname] = WorkerRecord(hostname) if known is None else copy.copy(known)
        presence.absorb_all(record, history)
    rows = [
        {"cluster": cluster, **dict(zip(presence.FIELDS, presence.values_of(record), strict=True))}
        for record in changed.values()
    ]
    statement = upsert(schema.workers)
    fields = {name: statement.excluded[name] for name in presence.FIELDS if name != "hostname"}
    connection.execute(statement.on_conflict_do_update(index_elements=["cluster", "hostname"], set_=fields), rows)
    _ADD_COUNTS.many(
        connection, [row for name, history in facts.workers.items() for row in _counted(cluster, name, history)]
    )
    return changed


def _tag(kind: Any) -> str:
    return str(kind.__struct_config__.tag)


def _counted(cluster: int, hostname: str, history: Iterable[CeleryEvent]) -> Iterator[tuple[int, str, str, int]]:
    """How many events of each type, as rows."""
    for kind, number in Counter(map(type, history)).items():
        if kind is not CustomEvent:
            yield cluster, hostname, _tag(kind), number
    for name, number in Counter(fact.event for fact in history if type(fact) is CustomEvent).items():
        yield cluster, hostname, name, number


def write_inspections(
    connection: Connection, cluster: int, answers: Mapping[tuple[str, str], tuple[float, Any]]
) -> None:
    """Keep the newest answer of each worker to each inspection."""
    statement = upsert(schema.inspections)
    newer = {"at": statement.excluded.at, "answer": statement.excluded.answer}
    rows = [
        {"cluster": cluster, "hostname": hostname, "method": method, "at": at, "answer": encode(answer).decode()}
        for (hostname, method), (at, answer) in answers.items()
    ]
    if rows:
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["cluster", "hostname", "method"],
                set_=newer,
                where=statement.excluded.at >= schema.inspections.c.at,
            ),
            rows,
        )


_ADD_COUNTS = Statement(
    "INSERT INTO worker_counts (cluster, hostname, type, count) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (cluster, hostname, type) DO UPDATE SET count = worker_counts.count + excluded.count"
)
