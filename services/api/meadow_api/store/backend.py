"""What a database has to offer to be the task store. Two do: `sqlite_file` and `postgres`."""

from contextlib import AbstractContextManager
from typing import Protocol

from sqlalchemy import Connection


class Backend(Protocol):
    """One database. Its methods run in threads: `writing` in a single one, `reading` in several at the same time.

    `place` is how people call it, without secrets. `shared` says whether other processes may write too.
    """

    place: str
    shared: bool

    def open(self, *, create: bool, follow: bool = False) -> None:
        """Connect, and with `create` own the store and bring its tables up to date; without, only read.

        With `follow` go on with another store that its owner puts into the place of a damaged one.

        Raises `StoreError` where waiting may help, `StoreDamaged`, and `StartRefused` where only people can help.
        """

    def writing(self) -> AbstractContextManager[Connection]:
        """One transaction at a time, of all processes; raises `StoreError`."""

    def reading(self, limit: float) -> AbstractContextManager[Connection]:
        """One snapshot for at most `limit` seconds; raises `QueryTooSlow` or another `StoreError`."""

    def put_aside(self, reason: str) -> None:
        """Let go of a damaged store, so that `open` begins with an empty one; raises `StoreError` if it cannot."""

    def lead(self) -> bool:
        """Whether this process is the one that follows the streams; tries to become it."""

    def interrupt(self) -> None:
        """Give up the questions under way, and those to come."""

    def dispose(self) -> None:
        """Let go of everything. May be called twice."""
