"""The post office of the demo's broker: moves complete messages to their readers, and clears what nobody reads.

Kombu's file-system transport knows neither: it opens a message's file before it locks and fills it, so a reader may
find it empty, and it has no message TTL, so what is sent to a queue without a reader would stay for ever.

    python -m meadow_demo.post DIRECTORY
"""

import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from meadow_demo.folders import Folders

DELIVERY_INTERVAL = 0.02
SWEEP_INTERVAL = 5.0
VOLATILE = ("celeryev.", "pidbox.")
VOLATILE_TTL = 10.0
RESULT_TTL = 3600.0


@dataclass
class PostOffice:
    """Works on the folders of one cluster. `clock` only has to advance."""

    folders: Folders
    clock: Callable[[], float] = time.monotonic
    _seen: dict[str, float] = field(default_factory=dict)

    def deliver(self) -> int:
        """Move what is complete to its readers, oldest first, and say how many messages that were."""
        return sum(self._deliver_one(name) for name in sorted(_names(self.folders.outgoing)))

    def _deliver_one(self, name: str) -> bool:
        source = self.folders.outgoing / name
        with source.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # it is being written
                return False
            if os.fstat(file.fileno()).st_size == 0:  # its writer has not come to lock it yet
                return False
            source.rename(self.folders.incoming / name)
        return True

    def sweep(self) -> int:
        """Remove what has been read, and events and remote control that nobody read in time."""
        now = self.clock()
        messages = {name: self.folders.incoming for name in _names(self.folders.incoming) if is_volatile(name)}
        messages |= dict.fromkeys(_names(self.folders.processed), self.folders.processed)
        keys = {f"{folder.name}/{name}": folder / name for name, folder in messages.items()}
        self._seen = {key: self._seen.get(key, now) for key in keys}
        expired = [key for key, since in self._seen.items() if now - since >= VOLATILE_TTL]
        for key in expired:
            keys[key].unlink(missing_ok=True)  # its reader may be faster
        return len(expired) + self._sweep_results()

    def _sweep_results(self) -> int:
        oldest = time.time() - RESULT_TTL
        removed = 0
        for name in _names(self.folders.results):
            path = self.folders.results / name
            try:
                if path.stat().st_mtime < oldest:
                    path.unlink()
                    removed += 1
            except FileNotFoundError:  # a worker forgot the result at the same time
                continue
        return removed


def is_volatile(name: str) -> bool:
    """Whether the message is an event or remote control, worthless when it is late.

    >>> [is_volatile(f"1_a.{queue}.msg") for queue in ("celeryev.5c", "orders@shop.celery.pidbox", "mail")]
    [True, True, False]
    """
    queue = name.partition(".")[2]
    return queue.startswith(VOLATILE[0]) or VOLATILE[1] in queue


def _names(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        yield from [entry.name for entry in entries]


def main(directory: Path) -> None:
    """Work until killed, or until the directory is gone."""
    office = PostOffice(Folders(directory))
    next_sweep = 0.0
    while True:
        try:
            office.deliver()
            if time.monotonic() >= next_sweep:
                office.sweep()
                next_sweep = time.monotonic() + SWEEP_INTERVAL
        except FileNotFoundError:
            if not directory.exists():
                return
            raise
        time.sleep(DELIVERY_INTERVAL)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
