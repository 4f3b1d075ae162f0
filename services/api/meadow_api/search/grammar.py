"""The structure of a search: words, AND, OR, NOT and brackets. AND binds tighter than OR; a blank is an AND."""

from functools import lru_cache
from typing import Any

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedToken

from meadow_api.errors import SearchError
from meadow_api.search.tree import All, Node, Not, Some
from meadow_api.search.words import WORD

_GRAMMAR = rf"""
    query: group (OR group)*
    group: item (AND? item)*
    ?item: (NOT | MINUS) item -> negated
         | OPENING query CLOSING -> bracketed
         | TERM -> term

    OPENING: "("
    CLOSING: ")"
    MINUS.2: /-(?=\S)/
    TERM: /{WORD}/
    %declare AND OR NOT
    %ignore /\s+/
"""


class _Builder(Transformer[Any, Node]):
    """Makes nodes as soon as their parts are read."""

    def query(self, parts: list[Any]) -> Node:
        found = _nodes(parts)
        return found[0] if len(found) == 1 else Some(tuple(found))

    def group(self, parts: list[Any]) -> Node:
        found = _nodes(parts)
        return found[0] if len(found) == 1 else All(tuple(found))

    def negated(self, parts: list[Any]) -> Node:
        return Not(parts[1])

    def bracketed(self, parts: list[Any]) -> Node:
        return parts[1]  # type: ignore[no-any-return]

    def term(self, parts: list[Any]) -> Node:
        return parts[0].value  # type: ignore[no-any-return]


def _nodes(parts: list[Any]) -> list[Node]:
    return [part for part in parts if not isinstance(part, Token)]


@lru_cache(maxsize=1)
def _parser() -> Lark:
    return Lark(_GRAMMAR, start="query", parser="lalr", lexer="basic", transformer=_Builder())


def tokens(query: str) -> list[Token]:
    """The query's tokens: OPENING, CLOSING, MINUS and TERM; raises `SearchError`."""
    if not query or query.isspace():
        return []
    try:
        return list(_parser().lex(query))
    except UnexpectedCharacters as exc:
        raise SearchError("Unterminated quoted phrase", exc.pos_in_stream, 'Close it with another ".') from exc


class Structure:
    """Takes token after token, and gives the tree at the end. Faults are told at the token where they show."""

    def __init__(self) -> None:
        self._state = _parser().parse_interactive("")
        self._before: Token | None = None
        self._open: list[int] = []

    @property
    def depth(self) -> int:
        """How many brackets are open."""
        return len(self._open)

    def take(self, token: Token) -> None:
        """The next token; a TERM carries its node as its value."""
        try:
            self._state.feed_token(token)
        except UnexpectedToken as exc:
            raise self._fault(token) from exc
        if token.type == "OPENING":
            self._open.append(_position(token))
        elif token.type == "CLOSING":
            self._open.pop()
        self._before = token

    def finish(self, end: int) -> Node:
        """There are no more tokens."""
        try:
            node: Node = self._state.feed_eof()  # type: ignore[no-untyped-call]
        except UnexpectedToken as exc:
            raise self._fault(Token("$END", "", start_pos=end)) from exc
        return node

    def _fault(self, token: Token) -> SearchError:
        before = self._before
        if before is not None and before.type in ("AND", "OR", "NOT"):
            hint = f'Add one, or quote the word: "{before.type.lower()}".'
            return SearchError(f"{before.type} must be followed by a search term", _position(before), hint)
        if before is not None and before.type == "MINUS":
            return SearchError("- must be followed by a search term", _position(before), 'Add one, or quote it: "-".')
        if token.type == "CLOSING" and before is not None and before.type == "OPENING":
            return SearchError("Empty group", _position(before), "Write something between the brackets.")
        if token.type == "CLOSING":
            return SearchError("Unexpected ')'", _position(token), "Remove it, or open a bracket before it.")
        if token.type == "$END" and self._open:
            return SearchError("Missing closing parenthesis", self._open[-1], "Add a ) behind the last term.")
        return SearchError("Expected a search term", _position(token), f'To find the word itself, quote it: "{token}".')


def _position(token: Token) -> int:
    return token.start_pos or 0
