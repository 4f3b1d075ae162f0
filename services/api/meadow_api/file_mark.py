"""Which file stands at a path: another one may have been put there, by another process even."""

from pathlib import Path

from msgspec import Struct


class FileMark(Struct, frozen=True):
    """One file, whatever its name becomes: its device and its number there."""

    device: int
    number: int


def mark_of(path: Path) -> FileMark | None:
    """The file that stands at this path now; raises `OSError` when that cannot be told."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return FileMark(found.st_dev, found.st_ino)
