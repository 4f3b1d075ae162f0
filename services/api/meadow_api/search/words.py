"""The tokens of a search: brackets, `-`, and words, in which quotes and stars mean something.

A word is anything without blanks and brackets; a part of it may be "quoted", where \\" and \\\\ stand for " and \\.
"""

import re
from dataclasses import dataclass
from typing import Literal

from meadow_api.errors import SearchError

MOST_STARS = 10

Kind = Literal["(", ")", "-", "AND", "OR", "NOT", "word"]

_QUOTED = r'"(?:\\["\\]|\\(?!["\\])|[^"\\])*"'
WORD = rf'(?:{_QUOTED}|[^\s()"])+'
_PIECE = re.compile(rf"({_QUOTED})|[^\"]+")
_ESCAPE = re.compile(r'\\(["\\])')
_OPERATORS = ("AND", "OR", "NOT")


@dataclass(frozen=True)
class Word:
    """A word at a position of the query.

    `text` is without its quotes; `plain` is how many characters of it stand before the first quote, `stars` says
    where stars stand that are not quoted.
    """

    position: int
    raw: str
    text: str
    plain: int
    stars: tuple[int, ...] = ()

    def parts(self, start: int) -> tuple[str, ...]:
        """The text from `start` on, cut at its stars."""
        found, at = [], start
        for star in self.stars:
            if star >= start:
                found.append(self.text[at:star])
                at = star + 1
        return (*found, self.text[at:])


def word(raw: str, position: int) -> Word:
    """The word that is written so."""
    if '"' not in raw:
        return Word(position, raw, raw, len(raw), tuple(at for at, char in enumerate(raw) if char == "*"))
    text, plain, stars = "", None, []
    for piece in _PIECE.finditer(raw):
        if piece[1] is None:
            stars += [len(text) + at for at, char in enumerate(piece[0]) if char == "*"]
            text += piece[0]
        else:
            plain = len(text) if plain is None else plain
            text += _ESCAPE.sub(r"\1", piece[1][1:-1])
    return Word(position, raw, text, len(text) if plain is None else plain, tuple(stars))


def operator(raw: str, *, any_case: bool) -> Kind:
    """Which operator the word is, `word` when none."""
    spelt = raw.upper() if any_case else raw
    return spelt if spelt in _OPERATORS else "word"  # type: ignore[return-value]


_UNUSABLE = re.compile("[\0\ud800-\udfff]")


def refuse_unusable(query: str) -> None:
    """No store can hold these characters, so nothing could be found; raises `SearchError`."""
    found = _UNUSABLE.search(query)
    if found is not None:
        raise SearchError("Unusable character", found.start(), "Remove it: no task's text can contain it.")
