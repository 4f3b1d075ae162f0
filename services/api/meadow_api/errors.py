"""What the api can fail at.

    MeadowError
    └── StoreError              the task store did not do what was asked
        ├── StoreDamaged        its file is not a sound database
        ├── StoreGone           its server does not answer
        ├── StoreRejected       it cannot hold a value
        ├── PositionMoved       somebody else wrote meanwhile
        └── QueryTooSlow        a question was given up after its time limit
    StoreInUse (StartRefused)   another process writes it
    SearchError                 a search text is wrong at some position
    InvalidQuestion             a question that makes no sense

A message is one sentence for people.
"""

from meadow.errors import MeadowError, StartRefused

POINTED = 60


class StoreError(MeadowError):
    """The task store did not do what was asked."""


class StoreDamaged(StoreError):
    """The store's file is not a sound database."""


class StoreGone(StoreError):
    """The store's server does not answer."""


class StoreRejected(StoreError):
    """The store cannot hold a value that it was given."""


class PositionMoved(StoreError):
    """The stream's position in the store is not where the writer left it."""


class QueryTooSlow(StoreError):
    """A question took longer than its time limit."""


class StoreInUse(StartRefused):
    """Another process writes the store."""


class InvalidQuestion(MeadowError):
    """A question that makes no sense."""


class SearchError(MeadowError):
    """A search text is wrong; `position` counts characters from 0, `None` when the whole text is meant.

    The message is Flower's where Flower knows the fault; `hint` is a sentence that says how to mend it, if any does.
    """

    def __init__(self, fault: str, position: int | None = None, hint: str = "") -> None:
        super().__init__(f"{fault}." if position is None else f"{fault} at position {position}.")
        self.position = position
        self.hint = hint

    def pointed(self, query: str) -> str:
        """The part of the query around the fault, and below it a line with a caret: for people."""
        if self.position is None:
            return query[:POINTED]
        start = max(0, self.position - POINTED // 2)
        shown = "".join(char if char.isprintable() else " " for char in query[start : start + POINTED])
        return f"{shown}\n{' ' * (self.position - start)}^"
