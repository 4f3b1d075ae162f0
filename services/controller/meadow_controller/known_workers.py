"""Which workers were ever seen since the start, by events or inspections."""

from collections import OrderedDict

LIMIT = 10_000
LONGEST_NAME = 255


class KnownWorkers:
    """A set of node names that forgets the one seen longest ago when it is full."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._names: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: str) -> bool:
        """Note that this worker was seen; says whether it is new."""
        if not name or len(name) > LONGEST_NAME:
            return False
        new = name not in self._names
        self._names[name] = None
        self._names.move_to_end(name)
        if len(self._names) > self._limit:
            self._names.popitem(last=False)
        return new
