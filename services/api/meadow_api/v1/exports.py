"""Any search as one file: NDJSON or CSV, written while it is read, a step at a time.

An export that breaks off is cut in the middle of the transfer, so that every HTTP client tells (`curl` ends with 18).
Where a proxy or a file in between may hide that, `end=true` asks for a last record that says how many there were.
"""

import asyncio
import csv
import io
import logging
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from meadow.codec import encode
from meadow.queries import TaskListQuery
from meadow_api.errors import StoreError
from meadow_api.shapes import Task
from meadow_api.store import task_reads
from meadow_api.v1 import replies
from meadow_api.v1.endpoint import Endpoint, Example, Reading, search_problem
from meadow_api.v1.parameters import Refused
from meadow_api.v1.task_view import EXPORTED, FIELDS, Field, TaskView, values_of
from meadow_api.v1.tasks import Fields, Name, Queue, Search, Sort, State, Worker

log = logging.getLogger(__name__)

STEP = 500
RISKY = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")
KINDS = {"ndjson": "application/x-ndjson", "csv": "text/csv"}


class ExportParameters(Struct, frozen=True, kw_only=True):
    """Which tasks, in which form."""

    format: Annotated[Literal["ndjson", "csv"], Meta(description="One JSON object a line, or CSV with a header.")] = (
        "ndjson"
    )
    q: Search = ""
    state: State = None
    name: Name = None
    worker: Worker = None
    queue: Queue = None
    sort: Annotated[Sort, Meta(description="The order; a leading `-` means descending.")] = "-received"
    limit: Annotated[Annotated[int, Meta(ge=1, le=10**9)] | None, Meta(description="No more than so many tasks.")] = (
        None
    )
    fields: Annotated[Fields, Meta(min_length=1, max_length=len(FIELDS), description="Only these, with commas.")] = (
        EXPORTED
    )
    end: Annotated[bool, Meta(description="Whether a last record says that the export is whole.")] = False


@dataclass(frozen=True)
class Step:
    """Tasks written, and where to go on; `None` at the end."""

    data: bytes
    rows: int
    next: str | None


def endpoints(reading: Reading) -> list[Endpoint]:
    """The endpoints of this resource."""

    async def export(request: web.Request, given: ExportParameters) -> web.StreamResponse:
        return await Export(reading, given).serve(request)

    return [
        Endpoint(
            path="/export/tasks",
            name="exportTasks",
            summary="Every task of a search, with whole texts, as NDJSON or CSV",
            parameters=ExportParameters,
            answer=TaskView,
            serve=export,
            kinds=tuple(KINDS.values()),
            also={422: "The search makes no sense; `position` says where."},
            examples=(
                Example("What failed, for a spreadsheet", "state=FAILURE&format=csv&fields=uuid,name,exception"),
                Example("Everything of one task name", "name=proj.add&end=true"),
            ),
        )
    ]


class Export:
    """One export under way."""

    def __init__(self, reading: Reading, given: ExportParameters) -> None:
        self._reading, self._given = reading, given

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Write it; the first step is read before anything is said, so that a fault still has a status."""
        given = self._given
        step = await self._read(None, 0)
        packer = zlib.compressobj(5, zlib.DEFLATED, 31) if replies.takes_gzip(request) else None
        response = web.StreamResponse(headers=self._headers(packed=packer is not None))
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        rows = 0
        await _write(response, packer, csv_line(given.fields) if given.format == "csv" else b"")
        while True:
            rows += step.rows
            await _write(response, packer, step.data)
            if step.next is None:
                break
            try:
                step = await self._read(step.next, rows)
            except (StoreError, Refused) as exc:
                return _cut(request, response, rows, exc)
        await _write(response, packer, self._end(rows))
        if packer is not None:
            await response.write(packer.flush())
        await response.write_eof()
        return response

    async def _read(self, cursor: str | None, before: int) -> Step:
        """The next tasks, written out in the reading thread."""
        given = self._given
        left = STEP if given.limit is None else min(STEP, given.limit - before)
        query = TaskListQuery(
            cluster=self._reading.cluster,
            search=given.q,
            state=given.state,
            name=given.name,
            worker=given.worker,
            queue=given.queue,
            sort=given.sort,
            limit=left,
            cursor=cursor,
        )

        def work(connection: Any) -> Step:
            page = task_reads.find_page(connection, query)
            if page.error is not None:
                raise Refused(422, search_problem(page.error, page.error_position, page.error_hint))
            tasks = [self._reading.present(task) for task in page.tasks]
            done = given.limit is not None and before + len(tasks) >= given.limit
            return Step(written(tasks, given.fields, given.format), len(tasks), None if done else page.next)

        return await self._reading.read(work)

    def _headers(self, *, packed: bool) -> dict[str, str]:
        kind = KINDS[self._given.format]
        return {
            "Content-Type": f"{kind}; charset=utf-8" + ("; header=present" if self._given.format == "csv" else ""),
            "Content-Disposition": f'attachment; filename="tasks.{self._given.format}"',
            "Cache-Control": replies.UNKEPT,
            "Vary": "Accept-Encoding",
            **({"Content-Encoding": "gzip"} if packed else {}),
        }

    def _end(self, rows: int) -> bytes:
        if not self._given.end:
            return b""
        if self._given.format == "csv":
            return csv_line(["# end", str(rows)])
        return encode({"end": True, "tasks": rows}) + b"\n"


async def _write(response: web.StreamResponse, packer: Any, data: bytes) -> None:
    """A slow reader holds this up, and nothing else: the next step is read when this one is gone."""
    data = data if packer is None else await asyncio.to_thread(packer.compress, data)
    if data:
        await response.write(data)


def written(tasks: Sequence[Task], fields: tuple[Field, ...], format: str) -> bytes:
    """The tasks as lines."""
    rows = (values_of(task, fields) for task in tasks)
    if format == "csv":
        return b"".join(csv_line(list(row.values())) for row in rows)
    return msgspec.json.Encoder().encode_lines(list(rows))


def csv_line(values: Sequence[Any]) -> bytes:
    """One line of CSV (RFC 4180)."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(list(_cells(values)))
    return text.getvalue().encode("utf-8", "replace")


def _cells(values: Sequence[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list):
            yield harmless(" ".join(map(str, value)))
        elif isinstance(value, str):
            yield harmless(value)
        else:
            yield "" if value is None else value


def harmless(text: str) -> str:
    """The text, with an apostrophe before what a spreadsheet would take for a formula.

    >>> harmless("=HYPERLINK(A1)")
    "'=HYPERLINK(A1)"
    """
    return "'" + text if text.lstrip(" ").startswith(RISKY) else text


def _cut(request: web.Request, response: web.StreamResponse, rows: int, exc: Exception) -> web.StreamResponse:
    """The status was sent already: only a cut connection can still say that the export is not whole."""
    log.warning("An export was cut after %d tasks: %s", rows, exc, extra={"action": "api.export-cut"})
    if request.transport is not None:
        request.transport.abort()
    return response
