"""Workflows: chains, groups and chords as the tree of who called whom."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated

from msgspec import Meta, Struct
from sqlalchemy import Connection

from meadow_api.shapes import ENDINGS, Task, ended_at
from meadow_api.store.workflow_reads import Members, find_members
from meadow_api.v1.endpoint import Endpoint, Reading
from meadow_api.v1.parameters import Word, refused


class WorkflowParameters(Struct, frozen=True, kw_only=True):
    """Which workflow."""

    uuid: Annotated[Word, Meta(description="The id of the workflow's root, or of any task in it.")]


class WorkflowTask(Struct, frozen=True, kw_only=True):
    """One task of the tree. `depth` is 0 for the root; a task stands behind its parent, before the parent's next child.

    `known` is false for a parent of which no event came: only its id is known.
    """

    uuid: str
    depth: int
    parent: str | None = None
    known: bool = True
    name: str | None = None
    state: str | None = None
    worker: str | None = None
    retries: int | None = None
    sent: float | None = None
    received: float | None = None
    started: float | None = None
    ended: float | None = None
    runtime: float | None = None


class Workflow(Struct, frozen=True, kw_only=True):
    """The tasks of one root, as a tree in the order in which it is drawn.

    At most 1,000 tasks are shown; `complete` says that those are all. `began` is the first time that is known,
    `ended` the last one when no task is under way any more.
    """

    root: str
    tasks: list[WorkflowTask]
    states: dict[str, int]
    complete: bool
    began: float | None = None
    ended: float | None = None


def endpoints(reading: Reading) -> list[Endpoint]:
    """The endpoints of this resource."""

    def show_workflow(connection: Connection, given: WorkflowParameters) -> Workflow:
        found = find_members(connection, reading.cluster, given.uuid, reading.present)
        if found is None:
            raise refused(
                f"Nothing is known of a workflow with the task {given.uuid[:200]!r}.", status=404, error="not-found"
            )
        return workflow_of(found)

    return [
        Endpoint(
            path="/workflows/{uuid}",
            name="showWorkflow",
            summary="The tree of tasks that came from one root, with states and times",
            parameters=WorkflowParameters,
            answer=Workflow,
            find=show_workflow,
            missing=True,
        )
    ]


def workflow_of(members: Members) -> Workflow:
    """The tree of the workflow's tasks."""
    drawn = list(_drawn(members.root, members.tasks))
    begun = [at for at in (_began(task) for task in members.tasks) if at is not None]
    ends = [at for at in (ended_at(task) for task in members.tasks) if at is not None]
    over = all(task["state"] in ENDINGS for task in members.tasks)
    return Workflow(
        root=members.root,
        tasks=drawn,
        states=dict(Counter(task["state"] for task in members.tasks)),
        complete=members.complete,
        began=min(begun, default=None),
        ended=max(ends, default=None) if over else None,
    )


def _drawn(root: str, tasks: Sequence[Task]) -> Iterable[WorkflowTask]:
    """Parents before their children, without recursion: a chain may be as long as a workflow can be."""
    known = {task["uuid"]: task for task in tasks}
    children: dict[str | None, list[str]] = {}
    for uuid, task in known.items():
        parent = None if uuid == root or task["parent_id"] == uuid else task["parent_id"] or root
        children.setdefault(parent, []).append(uuid)
    strangers = sorted(parent for parent in children if parent is not None and parent not in known)
    for uuids in children.values():
        uuids.sort(key=lambda uuid: (_began(known[uuid]) or 0.0, uuid))
    seen: set[str] = set()
    tops = [*children.get(None, []), *strangers]
    # What is left has itself among its ancestors.
    for top in (*tops, *known):
        waiting = [(top, 0)]
        while waiting:
            uuid, depth = waiting.pop()
            if uuid in seen:
                continue
            seen.add(uuid)
            yield _task(uuid, known.get(uuid), depth)
            waiting.extend((child, depth + 1) for child in reversed(children.get(uuid, [])))


def _task(uuid: str, task: Task | None, depth: int) -> WorkflowTask:
    if task is None:
        return WorkflowTask(uuid=uuid, depth=depth, known=False)
    return WorkflowTask(
        uuid=uuid,
        depth=depth,
        parent=task["parent_id"],
        name=task["name"],
        state=task["state"],
        worker=task["worker"],
        retries=task["retries"],
        sent=task["sent"],
        received=task["received"],
        started=task["started"],
        ended=ended_at(task),
        runtime=task["runtime"],
    )


def _began(task: Task) -> float | None:
    return next((task[key] for key in ("sent", "received", "started") if task[key] is not None), None)
