"""The folders that are the demo's broker: what lies where."""

from dataclasses import dataclass
from pathlib import Path

DIRECTORY = "SHOP_DIRECTORY"
"""The environment variable that names the directory."""

EVENTS = "celeryev"
EXCHANGES = (EVENTS, "celery.pidbox", "reply.celery.pidbox", "orders", "mail", "reports")


EMPTY_TABLE = "[]"


@dataclass(frozen=True)
class Folders:
    """The folders below `root`.

    Messages are written to `outgoing`, moved to `incoming` when they are complete, and moved to `processed` by who
    reads them. `bindings` holds one file for each exchange.
    """

    root: Path

    @property
    def outgoing(self) -> Path:
        return self.root / "outgoing"

    @property
    def incoming(self) -> Path:
        return self.root / "incoming"

    @property
    def processed(self) -> Path:
        return self.root / "processed"

    @property
    def bindings(self) -> Path:
        return self.root / "bindings"

    @property
    def results(self) -> Path:
        return self.root / "results"

    @property
    def watched(self) -> bool:
        """Whether anybody has asked for events."""
        return (self.bindings / f"{EVENTS}.exchange").stat().st_size > len(EMPTY_TABLE)

    @property
    def temporary(self) -> Path:
        """Where the pools keep what they would leave behind when they are killed."""
        return self.root / "tmp"

    def create(self) -> None:
        """Make the folders, and an empty table for each exchange: kombu loses a binding when two processes create the
        same table at the same time, while changes of a table that exists are locked."""
        for folder in (self.outgoing, self.incoming, self.processed, self.bindings, self.results, self.temporary):
            folder.mkdir(parents=True, exist_ok=True)
        for exchange in EXCHANGES:
            table = self.bindings / f"{exchange}.exchange"
            if not table.exists():
                table.write_text(EMPTY_TABLE, encoding="utf-8")
