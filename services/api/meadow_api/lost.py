"""Which workers are gone, so that nothing more is to be expected of the tasks that they held.

    worker-offline      it said goodbye after the task's last event
    worker-restarted    another process has the worker's name now, and began after the task's last event
    worker-silent       no event of it arrived for `silence` seconds, while the collector was connected

Time is that of the stream (`now` is when the collector saw the newest event), so that neither a collector that stood
still nor a store that is behind makes a worker look dead. Pure.
"""

from dataclasses import dataclass
from typing import NamedTuple

from meadow.events import CollectorReported
from meadow_api import presence
from meadow_api.completeness import Life, Lives
from meadow_api.presence import WorkerRecord

OFFLINE, RESTARTED, SILENT = "worker-offline", "worker-restarted", "worker-silent"
LEAST_SILENCE = 60.0
LATE = 60.0
"""Events of a process that ended may come so many seconds later: then its tasks are looked at once more."""


class Absence(NamedTuple):
    """Since when the tasks that a worker held are lost, and why. `pids` are those of processes that live on.

    Only tasks whose last event is older than `before` are concerned (by the worker's clock; `None`: all of them).
    `settled`: no late events are expected. `unclear`: the worker may be silent, too, so no mark is taken back.
    """

    since: float
    reason: str
    before: float | None = None
    pids: tuple[int, ...] = ()
    settled: bool = False
    unclear: bool = False


@dataclass(frozen=True)
class Watched:
    """Since when the collector sees all events, by its own report. `None`: it does not, or never said so."""

    since: float | None = None
    reported: float = 0.0

    def after(self, report: CollectorReported) -> "Watched":
        """With the newer of the two."""
        if report.seen < self.reported:
            return self
        return Watched(report.since if report.connected else None, report.seen)


def absence(record: WorkerRecord, lives: Lives, now: float, watched: Watched) -> Absence | None:
    """Whether tasks of the worker may be lost; `None` when it holds all that it took."""
    if record.last_seen is None:
        return None
    if presence.said_goodbye(record) and record.offline_at is not None:
        return Absence(record.offline_at, OFFLINE, settled=now - record.last_seen > LATE)
    if is_silent(record, now, watched):
        return Absence(record.last_seen, SILENT, settled=now - record.last_seen > LATE + silence(record.freq))
    gone = _restart(lives, now)
    return gone if gone is None else gone._replace(unclear=is_unclear(record, now, watched))


def is_unclear(record: WorkerRecord, now: float, watched: Watched) -> bool:
    """Whether the worker has been silent for long, but nobody listened for long: marks stay as they are."""
    quiet = record.last_seen is not None and now - record.last_seen > silence(record.freq)
    return quiet and not is_silent(record, now, watched)


def silence(freq: float) -> float:
    """How many seconds without any event mean that the worker is gone."""
    return max(LEAST_SILENCE, 3 * presence.patience(freq))


def is_silent(record: WorkerRecord, now: float, watched: Watched) -> bool:
    """Whether nothing was heard of the worker for too long, while somebody listened."""
    if watched.since is None or record.last_seen is None:
        return False
    return now - max(record.last_seen, watched.since) > silence(record.freq)


def _restart(lives: Lives, now: float) -> Absence | None:
    if not lives:
        return None
    newest = max(lives.values(), key=lambda life: life.timestamp)
    pids = tuple(
        sorted(pid for pid, life in lives.items() if pid > 0 and life is not newest and _lives_on(life, newest))
    )
    return Absence(newest.began, RESTARTED, newest.began, pids, settled=now - newest.began > LATE)


def _lives_on(life: Life, newest: Life) -> bool:
    """Two workers of one name are a mistake, but none of them is lost."""
    return life.timestamp >= newest.began
