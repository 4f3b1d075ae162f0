"""The attempts of one task, with their own times, workers and errors."""

from sqlalchemy import Connection

from meadow.rows import AttemptRow
from meadow_api.attempts import attempts_of
from meadow_api.fold import Record, log_of
from meadow_api.store.task_reads import find_cluster
from meadow_api.store.task_writes import read_record


def attempts(connection: Connection, cluster_name: str, uuid: str) -> list[AttemptRow]:
    """All attempts that are known, the first one first; a task that ran once has one. Empty for an unknown task."""
    cluster = find_cluster(connection, cluster_name)
    record = None if cluster is None else read_record(connection, cluster, uuid)
    return [] if record is None else attempts_in(record)


def attempts_in(record: Record) -> list[AttemptRow]:
    """The attempts that the record shows. The texts of the last error are whole, those of former ones may be cut."""
    found = attempts_of(log_of(record))
    failed = max(
        (attempt for attempt in found if attempt.state in ("FAILURE", "RETRY") and attempt.ended is not None),
        key=lambda attempt: attempt.ended or 0.0,
        default=None,
    )
    if failed is not None and failed.ended in (record.failed, record.retried):
        failed.exception, failed.traceback = record.exception, record.traceback
    return found
