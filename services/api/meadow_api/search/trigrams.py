"""From a parsed search to a question for the text index: which trigrams a task's text must have at least.

The answer may name too many tasks, never too few: each is looked at again with the exact condition.
"""

from collections.abc import Callable, Iterator, Sequence

from meadow_api.search.conditions import LOOKED_UP, matches, plain_part
from meadow_api.search.tree import LONG_TEXTS, All, Node, Pair, Some, Text

INDEXED = ("uuid", "queue", *LONG_TEXTS)
"""The columns whose texts are in the index."""
MOST_OF_A_PART = 12


def expression(node: Node, values: Callable[[str], Sequence[str]]) -> str | None:
    """What to ask the index (as FTS5 understands it); `None` when the index cannot narrow this search.

    `values(field)` gives all values of a field of `LOOKED_UP`.
    """
    match node:
        case All(parts):
            narrowing = [found for part in parts if (found := expression(part, values)) is not None]
            return " AND ".join(f"({found})" for found in narrowing) or None
        case Some(parts):
            each = [expression(part, values) for part in parts]
            return None if None in each else " OR ".join(f"({found})" for found in each)
        case Text(fields, parts):
            return _text(node, fields, parts, values)
        case Pair(key, parts):
            return _trigrams([plain_part(key), *map(plain_part, parts)])
    return None


def _text(
    node: Text, fields: Sequence[str], parts: Sequence[str], values: Callable[[str], Sequence[str]]
) -> str | None:
    for field in fields:
        if field in LOOKED_UP:
            if any(matches(node, value) for value in values(field)):
                return None  # all tasks of that name, say: other indexes know these
        elif field not in INDEXED:
            return None
    return _trigrams(parts) if any(field in INDEXED for field in fields) else None


def _trigrams(parts: Sequence[str]) -> str | None:
    found = [trigram for part in parts for trigram in _spread(part.casefold())]
    return " AND ".join('"' + trigram.replace('"', '""') + '"' for trigram in dict.fromkeys(found)) or None


def _spread(text: str) -> Iterator[str]:
    """At most `MOST_OF_A_PART` of the text's trigrams, from its beginning to its end."""
    count = len(text) - 2
    if count <= MOST_OF_A_PART:
        yield from (text[at : at + 3] for at in range(count))
        return
    for number in range(MOST_OF_A_PART):
        at = number * (count - 1) // (MOST_OF_A_PART - 1)
        yield text[at : at + 3]
