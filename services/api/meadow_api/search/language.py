"""The search language of Flower, and `uuid:` besides.

    query   = group { "OR" group }          AND binds tighter; a blank is an AND
    group   = item { ["AND"] item }
    item    = "(" query ")" | term
    term    = [qualifier ":"] text          text may be "quoted"; \\" and \\\\ stand for " and \\ in quotes

Qualifiers: name, worker, args, kwargs, result, uuid (a part of that field), state (the whole value), and
`kwargs:key=value` (that pair). A term without one is a part of any of them. Another prefix is ordinary text.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from meadow_api.errors import SearchError

LONGEST_QUERY = 2048
MOST_TOKENS = 128
DEEPEST_NESTING = 5
SHORTEST_TEXT = 3

TEXT_QUALIFIERS = ("name", "worker", "args", "kwargs", "result", "uuid")


@dataclass(frozen=True)
class Text:
    """`text` is a part of `field`, or of any field that is searched."""

    field: str | None
    text: str


@dataclass(frozen=True)
class State:
    """The state is exactly this one."""

    state: str


@dataclass(frozen=True)
class Pair:
    """The keyword arguments have this pair at their top level."""

    key: str
    value: str


@dataclass(frozen=True)
class All:
    """Every part holds."""

    parts: tuple["Node", ...]


@dataclass(frozen=True)
class Some:
    """At least one part holds."""

    parts: tuple["Node", ...]


Node: TypeAlias = Text | State | Pair | All | Some
Kind = Literal["(", ")", "AND", "OR", "NOT", "term"]


@dataclass(frozen=True)
class Token:
    """One token at a position of the query. `plain` is how many characters of `text` stand before the first quote."""

    kind: Kind
    position: int
    text: str = ""
    plain: int = 0
    negated: bool = False


def parse(query: str) -> Node | None:
    """The query as a tree, `None` for a blank one; raises `SearchError`."""
    if len(query) > LONGEST_QUERY:
        raise SearchError(f"Query exceeds {LONGEST_QUERY} characters")
    tokens = tokenize(query)
    if not tokens:
        return None
    return _Parser(tokens, len(query)).parse()


def tokenize(query: str) -> list[Token]:
    """The query's tokens; raises `SearchError`."""
    tokens: list[Token] = []
    at = 0
    while at < len(query):
        char = query[at]
        if char.isspace():
            at += 1
            continue
        if char in "()":
            token, at = Token("(" if char == "(" else ")", at), at + 1
        else:
            token, at = _word(query, at)
        tokens.append(token)
        if len(tokens) > MOST_TOKENS:
            raise SearchError(f"Query exceeds {MOST_TOKENS} tokens")
    return tokens


def _word(query: str, start: int) -> tuple[Token, int]:
    """The word that begins at `start`, and where it ends."""
    text: list[str] = []
    plain: int | None = None
    at = start
    while at < len(query) and not query[at].isspace() and query[at] not in "()":
        if query[at] == '"':
            plain = len(text) if plain is None else plain
            at = _quoted(query, at, text)
        else:
            text.append(query[at])
            at += 1
    word = "".join(text)
    if plain is None and word in ("AND", "OR", "NOT"):
        return Token(word, start), at  # type: ignore[arg-type]
    negated = query[start] == "-"
    return Token("term", start, word, len(word) if plain is None else plain, negated), at


def _quoted(query: str, start: int, text: list[str]) -> int:
    """Add the quoted part that begins at `start` to `text`; gives the place behind it."""
    at = start + 1
    while at < len(query):
        char = query[at]
        if char == '"':
            return at + 1
        if char == "\\" and query[at + 1 : at + 2] in ('"', "\\"):
            at += 1
            char = query[at]
        text.append(char)
        at += 1
    raise SearchError("Unterminated quoted phrase", start)


class _Parser:
    """Recursive descent over the tokens."""

    def __init__(self, tokens: list[Token], end: int) -> None:
        self._tokens = tokens
        self._end = end
        self._next = 0

    def parse(self) -> Node:
        node = self._query(0)
        token = self._peek()
        if token is not None:
            raise SearchError("Unexpected ')'", token.position)
        return node

    def _peek(self) -> Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _take(self) -> Token:
        token = self._tokens[self._next]
        self._next += 1
        return token

    def _query(self, depth: int) -> Node:
        parts = [self._group(depth)]
        while (token := self._peek()) is not None and token.kind == "OR":
            self._operator()
            parts.append(self._group(depth))
        return parts[0] if len(parts) == 1 else Some(tuple(parts))

    def _group(self, depth: int) -> Node:
        parts = [self._item(depth)]
        while (token := self._peek()) is not None and token.kind not in (")", "OR"):
            if token.kind == "AND":
                self._operator()
            parts.append(self._item(depth))
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _operator(self) -> None:
        operator = self._take()
        following = self._peek()
        if following is None or following.kind in (")", "AND", "OR"):
            raise SearchError(f"{operator.kind} must be followed by a search term", operator.position)

    def _item(self, depth: int) -> Node:
        token = self._peek()
        if token is None:
            raise SearchError("Expected a search term", self._end)
        if token.kind == "(":
            return self._parenthesised(depth)
        if token.kind == ")":
            raise SearchError("Unexpected ')'", token.position)
        if token.kind == "NOT":
            raise SearchError("NOT is not supported", token.position)
        if token.kind != "term":
            raise SearchError("Expected a search term", token.position)
        return _term(self._take())

    def _parenthesised(self, depth: int) -> Node:
        opening = self._take()
        if depth >= DEEPEST_NESTING:
            raise SearchError(f"Query nesting exceeds {DEEPEST_NESTING} levels", opening.position)
        token = self._peek()
        if token is not None and token.kind == ")":
            raise SearchError("Empty group", opening.position)
        if token is None:
            raise SearchError("Missing closing parenthesis", opening.position)
        node = self._query(depth + 1)
        if self._peek() is None:
            raise SearchError("Missing closing parenthesis", opening.position)
        self._take()
        return node


def _term(token: Token) -> Node:
    if token.negated:
        raise SearchError("Negation with '-' is not supported", token.position)
    qualifier, colon, value = token.text.partition(":")
    field = qualifier.lower()
    if colon and len(qualifier) < token.plain and field in (*TEXT_QUALIFIERS, "state"):
        return _qualified(field, value, token)
    if not token.text:
        raise SearchError("Empty search term", token.position)
    return _text(None, token.text, token)


def _qualified(field: str, value: str, token: Token) -> Node:
    if not value:
        raise SearchError("Search qualifier requires a value", token.position)
    if field == "state":
        return State(value.upper())
    if field == "kwargs":
        key, equals, wanted = value.partition("=")
        if equals and len("kwargs:") + len(key) < token.plain:
            if not key:
                raise SearchError("Search qualifier requires a value", token.position)
            return Pair(key, wanted)
    return _text(field, value, token)


def _text(field: str | None, text: str, token: Token) -> Node:
    if len(text) < SHORTEST_TEXT:
        raise SearchError(f"Substring search terms must contain at least {SHORTEST_TEXT} characters", token.position)
    return Text(field, text)
