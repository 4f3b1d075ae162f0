"""Audit records: who wanted what, when, and what became of it. Written by the controller, kept by JetStream.

Each wish makes two records with the same `id`: the intent before anything is done, the outcome after it. An intent
without an outcome means that the controller died in between.
"""

from typing import Any, Union

from msgspec import Struct


class AuditRecord(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="record"):
    """Base of both records. `at` is UTC epoch seconds."""

    id: str
    cluster: str
    at: float


class AuditIntent(AuditRecord, frozen=True, kw_only=True, tag="intent"):
    """`actor` wants `command` done to `target`; `parameters` are the wish's other fields, redacted."""

    actor: str
    actor_kind: str
    source: str
    command: str
    target: str
    parameters: dict[str, Any] = {}
    reason: str = ""


class AuditOutcome(AuditRecord, frozen=True, kw_only=True, tag="outcome"):
    """`code` is one of `meadow.commands.CODES`; `replies` is what each worker answered."""

    code: str
    message: str = ""
    replies: dict[str, Any] = {}
    seconds: float = 0.0


AnyAuditRecord = Union[AuditIntent, AuditOutcome]
