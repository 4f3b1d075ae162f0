"""Where things go on NATS. Every subject, stream and bucket name of Meadow stands here."""

import re

EVENTS_STREAM = "MEADOW_EVENTS"
AUDIT_STREAM = "MEADOW_AUDIT"
KEYS_BUCKET = "MEADOW_KEYS"
LEASES_BUCKET = "MEADOW_LEASES"

ALL_EVENTS = "meadow.events.>"
ALL_AUDIT = "meadow.audit.>"

TASKS = "tasks"
WORKERS = "workers"
QUEUES = "queues"
COLLECTOR = "collector"
TERM = "term"

CLUSTER_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def events(cluster: str, kind: str) -> str:
    """Facts of one kind (`tasks`, `workers`, `queues`, `collector`), and where collectors mark that one took over."""
    return f"meadow.events.{cluster}.{kind}"


def standby(cluster: str) -> str:
    """What the collectors of a cluster tell each other: who stands by, who lets go."""
    return f"meadow.standby.{cluster}"


def audit(cluster: str) -> str:
    """Audit records."""
    return f"meadow.audit.{cluster}"


def query(name: str) -> str:
    """Request/reply to the api."""
    return f"meadow.query.{name}"


def command(cluster: str) -> str:
    """Request/reply to the controller of that cluster."""
    return f"meadow.command.{cluster}"


def changed(cluster: str) -> str:
    """Notices that the store holds something new."""
    return f"meadow.changed.{cluster}"
