"""The tasks of one workflow: everything that has the same root."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from meadow_api.shapes import Task, task_of, tasks_of
from meadow_api.store.schema import tasks
from meadow_api.store.task_reads import Present, find_cluster

MOST = 1000


@dataclass(frozen=True)
class Members:
    """The tasks of the root `root`; not `complete` when there are more."""

    root: str
    tasks: Sequence[Task]
    complete: bool


def find_members(connection: Connection, cluster_name: str, uuid: str, present: Present) -> Members | None:
    """The workflow that the task belongs to; `None` when nothing is known of it."""
    cluster = find_cluster(connection, cluster_name)
    if cluster is None:
        return None
    of_cluster = select(tasks).where(tasks.c.cluster == cluster)
    own = connection.execute(of_cluster.where(tasks.c.uuid == uuid)).first()
    root = uuid if own is None else task_of(own)["root_id"] or uuid
    # Two questions, since SQLite answers an OR of these two by reading everything.
    rows: list[Any] = list(connection.execute(of_cluster.where(tasks.c.uuid == root)))
    others = of_cluster.where(tasks.c.root_id == root, tasks.c.root_id != tasks.c.uuid).order_by(tasks.c.id)
    rows += connection.execute(others.limit(MOST + 1 - len(rows)))
    if not rows:
        return None
    found = [present(task) for task in tasks_of(rows[:MOST])]
    if own is not None and all(task["uuid"] != uuid for task in found):
        found.append(present(task_of(own)))
    return Members(root, found, len(rows) <= MOST)
