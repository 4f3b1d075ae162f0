"""The directory in which Meadow keeps its streams and its task store: one Meadow at a time owns it."""

from pathlib import Path
from types import TracebackType
from typing import IO, Self

from meadow import file_lock
from meadow.errors import DataDirectoryInUse, FileHeld, StartRefused


class DataDirectoryLock:
    """Makes one Meadow the owner of a data directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Create the directory and lock it; raises `DataDirectoryInUse` or `StartRefused`."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = file_lock.hold(self.directory / "meadow.lock")
        except OSError as exc:
            raise StartRefused(
                f"The data directory {self.directory} cannot be used ({exc.strerror}). Give another with --data-dir."
            ) from exc
        except FileHeld as exc:
            raise DataDirectoryInUse(
                f"The data directory {self.directory} belongs to a Meadow that is running ({exc.owner}). "
                "Stop that one, or give this one its own with --data-dir."
            ) from exc

    def release(self) -> None:
        """Let another Meadow have it. May be called twice."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
