"""The search language, from text to a tree. What words and fields there are is told in `docs/search.md`.

Flower's own language is a dialect of it: fewer fields, no negation, no patterns, and no text shorter than three
characters. What it accepts means what it means in Flower, and what it refuses is refused with the same words.
"""

from lark import Token

from meadow_api.errors import SearchError
from meadow_api.search.grammar import Structure, tokens
from meadow_api.search.terms import flower_term, term
from meadow_api.search.tree import Node
from meadow_api.search.words import operator, refuse_unusable, word

LONGEST_QUERY = 2048
MOST_TOKENS = 128
DEEPEST_NESTING = 20
DEEPEST_FLOWER_NESTING = 5


def parse(query: str, *, flower: bool = False) -> Node | None:
    """The query as a tree, `None` for a blank one; raises `SearchError`."""
    if len(query) > LONGEST_QUERY:
        raise SearchError(f"Query exceeds {LONGEST_QUERY} characters")
    refuse_unusable(query)
    found = tokens(query)
    if sum(token.type != "MINUS" for token in found) > MOST_TOKENS:
        raise SearchError(f"Query exceeds {MOST_TOKENS} tokens")
    if not found:
        return None
    structure = Structure()
    for token in found:
        _take(structure, token, flower)
    return structure.finish(len(query))


def _take(structure: Structure, token: Token, flower: bool) -> None:
    position = token.start_pos or 0
    deepest = DEEPEST_FLOWER_NESTING if flower else DEEPEST_NESTING
    if token.type == "OPENING" and structure.depth >= deepest:
        raise SearchError(f"Query nesting exceeds {deepest} levels", position)
    if flower and token.type == "MINUS":
        raise SearchError("Negation with '-' is not supported", position)
    if token.type == "TERM":
        kind = operator(str(token), any_case=not flower)
        if kind != "word":
            token = Token.new_borrow_pos(kind, str(token), token)
        else:
            written = word(str(token), position)
            node = flower_term(written) if flower else term(written)
            token = Token.new_borrow_pos("TERM", node, token)
    if flower and token.type == "NOT":
        raise SearchError("NOT is not supported", position)
    structure.take(token)
