"""A file for what does not fit into memory: blocks of bytes, first in, first out, at most so many bytes.

The file has no name, so it is gone when the collector ends, however that happens, and nobody finds it in a directory.
It is never synchronised: what it holds is worth nothing to another process.
"""

import errno
import os
import tempfile
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Generic, TypeVar

About = TypeVar("About")


@dataclass(frozen=True)
class Block(Generic[About]):
    """Where a block stands in the file, and what is known of it without reading it."""

    place: int
    size: int
    about: About


class Spill(Generic[About]):
    """The blocks go round in the file. One thread opens, writes, reads and shrinks it; any may look and drop."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self._limit = limit
        self._file: IO[bytes] | None = None
        self._lock = threading.Lock()
        self._blocks: deque[Block[About]] = deque()
        self._end = 0
        self.bytes = 0
        """What the blocks take together."""

    def __len__(self) -> int:
        """How many blocks it holds."""
        return len(self._blocks)

    @property
    def oldest(self) -> Block[About] | None:
        """The block that was written first."""
        with self._lock:
            return self._blocks[0] if self._blocks else None

    def open(self) -> None:
        """Make the file, unless it is there; raises `OSError`."""
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=self.folder, buffering=0)  # noqa: SIM115 - `close` does

    def make_room(self, size: int) -> list[About]:
        """Give up the oldest blocks, as far as a block of that size needs their place."""
        gone: list[About] = []
        if size > self._limit:
            return gone  # `write` refuses it
        with self._lock:
            place = self._next_place(size)
            if place < self._end:  # what lies between the end and the limit is older than what lies at the start
                while self._blocks and self._blocks[0].place >= self._end:
                    gone.append(self._drop())
            while self._blocks and place <= self._blocks[0].place < place + size:
                gone.append(self._drop())
        return gone

    def write(self, data: bytes, about: About) -> None:
        """Append a block, for which room was made; raises `OSError`, and is as before then."""
        if len(data) > self._limit:
            raise OSError(errno.EFBIG, f"{len(data)} bytes in one piece are more than the file may take")
        self.open()
        with self._lock:
            place = self._next_place(len(data))
        written = 0
        while written < len(data):
            written += os.pwrite(self._descriptor, memoryview(data)[written:], place + written)
        with self._lock:
            self._blocks.append(Block(place, len(data), about))
            self._end = place + len(data)
            self.bytes += len(data)

    def read(self, block: Block[About]) -> bytes:
        """What was written; raises `OSError`."""
        data = bytearray()
        while len(data) < block.size:
            piece = os.pread(self._descriptor, block.size - len(data), block.place + len(data))
            if not piece:
                raise OSError(errno.EIO, "the file is shorter than what was written to it")
            data += piece
        return bytes(data)

    def drop(self) -> About:
        """Let go of the oldest block."""
        with self._lock:
            return self._drop()

    def shrink(self) -> None:
        """Give the disk back when nothing is kept; raises `OSError`."""
        with self._lock:
            unused = not self._blocks and self._end > 0
            if unused:
                self._end = 0
        if unused:
            os.ftruncate(self._descriptor, 0)

    def close(self) -> None:
        """Give everything back. May be called twice."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    @property
    def _descriptor(self) -> int:
        if self._file is None:
            raise OSError(errno.EBADF, "the file is not open")
        return self._file.fileno()

    def _drop(self) -> About:
        block = self._blocks.popleft()
        self.bytes -= block.size
        return block.about

    def _next_place(self, size: int) -> int:
        return self._end if self._end + size <= self._limit else 0
