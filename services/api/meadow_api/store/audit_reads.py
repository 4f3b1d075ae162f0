"""Audit records, newest first."""

import base64
import binascii
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, select, tuple_

from meadow.queries import AuditList, AuditListQuery, AuditRow
from meadow_api.errors import InvalidQuestion
from meadow_api.store.schema import audit
from meadow_api.store.task_reads import find_cluster

MOST_ROWS = 500
LATEST = 50


class _Cursor(Struct, frozen=True, array_like=True):
    at: float
    id: int


def list_audit(connection: Connection, query: AuditListQuery) -> AuditList:
    """One page; raises `InvalidQuestion`."""
    if not 1 <= query.limit <= MOST_ROWS:
        raise InvalidQuestion(f"A page has between 1 and {MOST_ROWS} rows, not {query.limit}.")
    statement = select(audit).where(audit.c.cluster == find_cluster(connection, query.cluster))
    if query.target is not None:
        statement = statement.where(audit.c.target == query.target)
    if query.actor is not None:
        statement = statement.where(audit.c.actor == query.actor)
    if query.cursor is not None:
        cursor = _read_cursor(query.cursor)
        statement = statement.where(tuple_(audit.c.at, audit.c.id) < (cursor.at, cursor.id))
    rows = list(connection.execute(statement.order_by(audit.c.at.desc(), audit.c.id.desc()).limit(query.limit + 1)))
    more, rows = len(rows) > query.limit, rows[: query.limit]
    return AuditList(rows=[_row(row) for row in rows], next=_write_cursor(rows[-1]) if more else None)


def audit_of(connection: Connection, cluster_name: str, target: str) -> list[AuditRow]:
    """What people did to this target lately."""
    return list_audit(connection, AuditListQuery(cluster=cluster_name, target=target, limit=LATEST)).rows


def _row(row: Any) -> AuditRow:
    return AuditRow(
        id=row.record,
        at=row.at,
        actor=row.actor,
        actor_kind=row.actor_kind,
        source=row.source,
        command=row.command,
        target=row.target,
        parameters=msgspec.json.decode(row.parameters),
        reason=row.reason,
        code=row.code,
        message=row.message,
        replies=msgspec.json.decode(row.replies),
        seconds=row.seconds,
    )


def _write_cursor(row: Any) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(_Cursor(row.at, row.id))).decode("ascii")


def _read_cursor(text: str) -> _Cursor:
    try:
        cursor = msgspec.json.decode(base64.urlsafe_b64decode(text.encode("ascii")), type=_Cursor)
    except (binascii.Error, UnicodeError, ValueError, msgspec.MsgspecError) as exc:
        raise InvalidQuestion("This is not a cursor of a former page. Begin with the first page again.") from exc
    if abs(cursor.id) >= 2**63:
        raise InvalidQuestion("This is not a cursor of a former page. Begin with the first page again.")
    return cursor
