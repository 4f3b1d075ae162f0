"""Who did what to the cluster."""

from meadow.queries import AuditList, AuditListQuery
from meadow_web.pages.page import Content, Page, Visit

PARAMETERS = frozenset({"target", "actor", "cursor"})


async def load(visit: Visit) -> Content:
    """A page of audit records, newest first."""
    query = AuditListQuery(
        cluster=visit.cluster,
        target=visit.text("target") or None,
        actor=visit.text("actor") or None,
        cursor=visit.text("cursor") or None,
    )
    audit = await visit.ask.api(query, AuditList)
    values = {"audit": audit, "query": query, "narrowed": bool(query.target or query.actor)}
    return Content("Audit", values)


PAGE = Page("audit", "/audit", frozenset({"audit"}), load, section="audit", parameters=PARAMETERS)
