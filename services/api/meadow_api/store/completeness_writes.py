"""Scores of completeness on their way into the store, in the transaction that writes the facts they come from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, select

from meadow.codec import decode, encode
from meadow_api import completeness
from meadow_api.completeness import Lives, Score
from meadow_api.intake import ClusterFacts
from meadow_api.store import schema
from meadow_api.store.raw import Statement

SLICE = 300
SWEEP = 1.0


@dataclass
class Observed:
    """The workers' processes of one cluster, as committed. `now` is the newest time of its stream; `swept` is when
    those workers were looked at of whom nothing new came."""

    lives: dict[str, Lives] = field(default_factory=dict)
    now: float = 0.0
    swept: float = 0.0

    def renew(self, newer: "Observed") -> None:
        """Take over what was committed."""
        self.lives.update(newer.lives)
        self.now, self.swept = newer.now, newer.swept


@dataclass
class Tally:
    """What a slice gains."""

    expected: int = 0
    seen: int = 0
    lost_from: float | None = None
    lost_until: float | None = None

    def add(self, score: Score) -> None:
        self.expected += score.expected
        self.seen += score.seen
        if score.seen < score.expected:
            self.lost_from = score.start if self.lost_from is None else min(self.lost_from, score.start)
            self.lost_until = score.end if self.lost_until is None else max(self.lost_until, score.end)


def load_lives(connection: Connection, names: Mapping[int, str]) -> dict[str, Observed]:
    """All processes, by cluster."""
    found = {name: Observed() for name in names.values()}
    for row in connection.execute(select(schema.lives)):
        found[names[row.cluster]].lives[row.hostname] = decode(row.lives.encode(), Lives)
    return found


def write_completeness(
    connection: Connection, cluster: int, facts: ClusterFacts, known: Observed
) -> tuple[Observed, bool]:
    """Take the workers' events in; gives what changed, and whether there are new scores."""
    changed = Observed(now=max(known.now, facts.latest), swept=known.swept)
    tallies: dict[tuple[int, str], Tally] = {}
    for hostname, history in facts.workers.items():
        lives = changed.lives[hostname] = completeness.copied(known.lives.get(hostname, {}))
        _count(tallies, hostname, completeness.absorb(lives, history))
        _count(tallies, hostname, completeness.settle(lives, changed.now))
    if changed.now - known.swept >= SWEEP:
        changed.swept = changed.now
        for hostname, silent in list(known.lives.items()):  # the loop may forget workers meanwhile
            if hostname not in changed.lives and completeness.waiting(silent, changed.now):
                lives = changed.lives[hostname] = completeness.copied(silent)
                _count(tallies, hostname, completeness.settle(lives, changed.now))
    _write(connection, cluster, changed, tallies)
    return changed, bool(tallies)


def _count(tallies: dict[tuple[int, str], Tally], hostname: str, scores: list[Score]) -> None:
    for score in scores:
        tallies.setdefault((int(score.at) // SLICE * SLICE, hostname), Tally()).add(score)


def _write(connection: Connection, cluster: int, changed: Observed, tallies: Mapping[tuple[int, str], Tally]) -> None:
    if changed.lives:
        rows = [(cluster, hostname, encode(lives).decode()) for hostname, lives in changed.lives.items()]
        _SET_LIVES.many(connection, rows)
    if tallies:
        _ADD_SCORES.many(
            connection,
            [
                (cluster, at, hostname, tally.expected, tally.seen, tally.lost_from, tally.lost_until)
                for (at, hostname), tally in tallies.items()
            ],
        )


_SET_LIVES = Statement(
    "INSERT INTO lives (cluster, hostname, lives) VALUES (?, ?, ?) "
    "ON CONFLICT (cluster, hostname) DO UPDATE SET lives = excluded.lives"
)
_ADD_SCORES = Statement(
    "INSERT INTO scores (cluster, at, hostname, expected, seen, lost_from, lost_until) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (cluster, at, hostname) DO UPDATE SET "
    "expected = scores.expected + excluded.expected, seen = scores.seen + excluded.seen, "
    "lost_from = CASE WHEN excluded.lost_from IS NULL OR scores.lost_from < excluded.lost_from "
    "THEN scores.lost_from ELSE excluded.lost_from END, "
    "lost_until = CASE WHEN excluded.lost_until IS NULL OR scores.lost_until > excluded.lost_until "
    "THEN scores.lost_until ELSE excluded.lost_until END"
)
