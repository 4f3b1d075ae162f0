"""The audit log: who did what to which target, and what came of it."""

from typing import Annotated

from msgspec import Meta, Struct

from meadow.queries import AuditList, AuditListQuery
from meadow_api.answers import Answers
from meadow_api.v1.endpoint import Endpoint, Example, Reading
from meadow_api.v1.parameters import Cursor, Word


class AuditParameters(Struct, frozen=True, kw_only=True):
    """What the log can be narrowed by."""

    target: Annotated[Word | None, Meta(description="Only records about this task, worker or queue.")] = None
    actor: Annotated[Word | None, Meta(description="Only records of this person or token.")] = None
    limit: Annotated[int, Meta(ge=1, le=500, description="Records of one page.")] = 50
    cursor: Annotated[Cursor | None, Meta(description="`next` of a former answer.")] = None


def endpoints(reading: Reading, answers: Answers) -> list[Endpoint]:
    """The endpoints of this resource."""

    async def list_audit(given: AuditParameters) -> AuditList:
        return await answers.audit(
            AuditListQuery(
                cluster=reading.cluster,
                target=given.target,
                actor=given.actor,
                limit=given.limit,
                cursor=given.cursor,
            )
        )

    return [
        Endpoint(
            path="/audit",
            name="listAudit",
            summary="Who did what, newest first",
            parameters=AuditParameters,
            answer=AuditList,
            load=list_audit,
            also={422: "The cursor is not one of a former answer."},
            examples=(Example("The last ten", "limit=10"),),
        )
    ]
