"""Flower's endpoints for scripts that lie among its pages: `/workers?json=1` and `/tasks/datatable`."""

from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from meadow.queries import FlowerTasks, FlowerTasksQuery, WorkerList, WorkerListQuery, WorkerRow
from meadow.setting_values import parse_bool
from meadow_web.ask import Ask
from meadow_web.forms import posted
from meadow_web.pages.page import BadArgument, whole_number

MOST_ROWS = 1000


def flag(query: Mapping[str, str], name: str) -> bool:
    """A truth word of the query; raises `BadArgument` in Flower's words."""
    text = query.get(name)
    if text is None:
        return False
    try:
        return parse_bool(text)
    except ValueError as exc:
        raise BadArgument(f"Invalid argument '{text[:100]}' of type 'bool'") from exc


async def workers_json(ask: Ask) -> web.Response:
    """All workers that ever sent an event, as Flower's page polls them."""
    answer = await ask.api(WorkerListQuery(cluster=ask.cluster), WorkerList)
    return json_response({"data": [worker_json(row) for row in answer.rows if row.counters]})


def worker_json(row: WorkerRow) -> dict[str, Any]:
    """One worker in Flower's shape: the event counters are keys among the others."""
    return {
        **row.counters,
        "hostname": row.hostname,
        "pid": row.pid,
        "freq": row.freq,
        "heartbeats": row.heartbeats,
        "clock": row.clock,
        "active": row.active,
        "processed": row.processed,
        "loadavg": row.loadavg,
        "sw_ident": row.sw_ident,
        "sw_ver": row.sw_ver,
        "sw_sys": row.sw_sys,
        "status": row.online,
    }


async def datatable(ask: Ask, request: web.Request) -> web.Response:
    """A page of tasks for DataTables; raises `BadArgument`."""
    arguments = {**request.query, **(await posted(request) if request.method == "POST" else {})}
    draw = _number(arguments, "draw")
    start = _number(arguments, "start")
    length = _number(arguments, "length")
    column = _number(arguments, "order[0][column]")
    query = FlowerTasksQuery(
        cluster=ask.cluster,
        search=arguments.get("search[value]", ""),
        sort=arguments.get(f"columns[{column}][data]") or None,
        descending=arguments.get("order[0][dir]", "asc") == "desc",
        offset=max(start, 0),
        limit=min(max(length, 0), MOST_ROWS),
    )
    answer = await ask.api(query, FlowerTasks)
    body: dict[str, Any] = {
        "draw": draw,
        "data": [] if answer.error else answer.tasks,
        "recordsTotal": answer.total,
        "recordsFiltered": 0 if answer.error else answer.filtered,
    }
    return json_response(body | ({"searchError": answer.error} if answer.error else {}))


def _number(arguments: Mapping[str, str], name: str) -> int:
    if name not in arguments:
        raise BadArgument(f"Missing argument {name}")
    return whole_number(arguments[name])


def json_response(value: Any) -> web.Response:
    """JSON with the content type that Flower gives it."""
    return web.Response(
        body=msgspec.json.encode(value),
        content_type="application/json",
        charset="UTF-8",
        headers={"Cache-Control": "no-store"},
    )


def plain_error(exc: BadArgument) -> web.Response:
    """400 with the message, in Flower's content type: text/plain without a charset."""
    return web.Response(status=400, body=str(exc).encode("utf-8", "replace"), content_type="text/plain")
