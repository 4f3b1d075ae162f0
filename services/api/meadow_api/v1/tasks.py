"""Tasks: pages of a search, and one task with its attempts and its timeline."""

from typing import Annotated, Literal

from msgspec import Meta, Struct
from sqlalchemy import Connection

from meadow.queries import AttemptRow, AuditRow, TaskListQuery
from meadow_api.shapes import SHOWN
from meadow_api.store import attempt_reads, audit_reads, task_reads
from meadow_api.timeline import Moment, moments_of, presented
from meadow_api.v1.endpoint import Endpoint, Example, Reading, search_problem
from meadow_api.v1.parameters import Cursor, Refused, Word, refused
from meadow_api.v1.task_view import FIELDS, LISTED, Field, TaskView, columns_for, view_of, views_of, views_of_rows

MOST_TEXT = 2_000_000
"""Characters of texts that one page may hold."""

Sort = Literal[
    "received",
    "-received",
    "started",
    "-started",
    "timestamp",
    "-timestamp",
    "runtime",
    "-runtime",
    "name",
    "-name",
    "state",
    "-state",
    "worker",
    "-worker",
]

Search = Annotated[
    str, Meta(max_length=2048, description="A search in Meadow's language, such as `state:FAILURE name:proj.*`.")
]
State = Annotated[Word | None, Meta(description="Only tasks in exactly this state.")]
Name = Annotated[Word | None, Meta(description="Only tasks of exactly this name.")]
Worker = Annotated[Word | None, Meta(description="Only tasks of exactly this worker.")]
Queue = Annotated[Word | None, Meta(description="Only tasks sent to exactly this queue, where that is known.")]
Fields = tuple[Field, ...]


class TasksParameters(Struct, frozen=True, kw_only=True):
    """What a page of tasks can be asked by."""

    q: Search = ""
    state: State = None
    name: Name = None
    worker: Worker = None
    queue: Queue = None
    sort: Annotated[Sort, Meta(description="The order; a leading `-` means descending.")] = "-received"
    limit: Annotated[int, Meta(ge=1, le=500, description="Tasks of one page.")] = 50
    cursor: Annotated[Cursor | None, Meta(description="`next` or `previous` of an answer to the same search.")] = None
    fields: Annotated[Fields, Meta(min_length=1, max_length=len(FIELDS), description="Only these, with commas.")] = (
        LISTED
    )
    text: Annotated[int, Meta(ge=0, le=10_000, description="Characters to show of each long text.")] = 500


class TaskPage(Struct, frozen=True, kw_only=True):
    """A page of tasks. `next` and `previous` are cursors, `null` at the ends.

    `partial` says that time was up: these are the tasks found until then, and `next` goes on from there.
    """

    tasks: list[TaskView]
    next: str | None = None
    previous: str | None = None
    partial: bool = False


class TaskParameters(Struct, frozen=True, kw_only=True):
    """Which task."""

    uuid: Annotated[Word, Meta(description="The task's id. A slash in it may be sent as `%2F` or as it is.")]


class TaskDetail(Struct, frozen=True, kw_only=True):
    """One task with everything that is known of it. `audit` is what people did to it."""

    task: TaskView
    attempts: list[AttemptRow]
    timeline: list[Moment]
    audit: list[AuditRow]


def endpoints(reading: Reading) -> list[Endpoint]:
    """The endpoints of this resource."""

    def list_tasks(connection: Connection, given: TasksParameters) -> TaskPage:
        query = TaskListQuery(
            cluster=reading.cluster,
            search=given.q,
            state=given.state,
            name=given.name,
            worker=given.worker,
            queue=given.queue,
            sort=given.sort,
            limit=given.limit,
            cursor=given.cursor,
        )
        longest = min(given.text, MOST_TEXT // (5 * given.limit))
        return read_page(connection, query, reading, given.fields, longest)

    def show_task(connection: Connection, given: TaskParameters) -> TaskDetail:
        return read_task(connection, reading, given.uuid)

    return [
        Endpoint(
            path="/tasks",
            name="listTasks",
            summary="A page of tasks: searched, filtered, sorted",
            parameters=TasksParameters,
            answer=TaskPage,
            find=list_tasks,
            also={422: "The search or the cursor makes no sense; `position` says where."},
            examples=(
                Example("What failed last", "state=FAILURE&limit=10"),
                Example("Only some fields", "q=name:proj.*&fields=uuid,state,runtime"),
            ),
        ),
        Endpoint(
            path="/tasks/{uuid}",
            name="showTask",
            summary="One task, with its attempts and its timeline",
            parameters=TaskParameters,
            answer=TaskDetail,
            find=show_task,
            missing=True,
        ),
    ]


def read_page(
    connection: Connection, query: TaskListQuery, reading: Reading, fields: Fields, longest: int | None
) -> TaskPage:
    """One page; raises `Refused` or `InvalidQuestion`."""
    whole = reading.present.changes  # format_task sees the whole task, and may show any of it otherwise
    wanted = SHOWN if whole else columns_for(fields)
    page = task_reads.find_page(connection, query, wanted=wanted)
    if page.error is not None:
        raise Refused(422, search_problem(page.error, page.error_position, page.error_hint))
    if whole:
        views = views_of([reading.present(task) for task in page.tasks], fields, longest)
    else:
        views = views_of_rows(page.rows, fields, longest)
    return TaskPage(tasks=views, next=page.next, previous=page.previous, partial=page.partial)


def read_task(connection: Connection, reading: Reading, uuid: str) -> TaskDetail:
    """One task; raises a 404."""
    task = task_reads.get_task(connection, reading.cluster, uuid)
    if task is None:
        raise refused(
            f"There is no task {uuid[:200]!r}.",
            "It may be older than what is kept, or its events have not come yet.",
            status=404,
            error="not-found",
        )
    shown = reading.present(task)
    attempts = presented(attempt_reads.attempts(connection, reading.cluster, uuid), task, reading.present)
    return TaskDetail(
        task=view_of(shown, FIELDS),
        attempts=attempts,
        timeline=moments_of(shown, attempts),
        audit=audit_reads.audit_of(connection, reading.cluster, uuid),
    )
