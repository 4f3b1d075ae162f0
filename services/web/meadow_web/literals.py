"""Reads the Python reprs that tasks carry (arguments, results) as a tree for reading.

Nothing is evaluated, and nothing has to be valid: Celery cuts long reprs in the middle, and objects have reprs of
their own. Whatever is not a bracket, a comma, a colon or a string is a leaf as it stands.
"""

import re
from dataclasses import dataclass, field

MAX_LENGTH = 64 * 1024
MAX_DEPTH = 24
MAX_NODES = 3000

_TOKEN = re.compile(
    r"""(?P<string>[bBuUrR]{0,2}(?:'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"))
      |(?P<open>[A-Za-z_][\w.]*\(|[\[({])
      |(?P<close>[\])}])
      |(?P<comma>,)
      |(?P<colon>:|=(?!=))
      |(?P<angled><[^<>]{0,400}>)
      |(?P<space>\s+)
      |(?P<other>[^\s\[\](){},:='"<]+|.)""",
    re.VERBOSE | re.DOTALL,
)
_NUMBER = re.compile(r"[-+]?\d[\d_]*(\.\d*)?([eE][-+]?\d+)?j?\Z")
_CONSTANTS = frozenset({"None", "True", "False"})
_CLOSING = {"[": "]", "(": ")", "{": "}"}


@dataclass
class Node:
    """A leaf (`kind` string, number, constant or text, with its `text`) or a `group` between brackets.

    `key` is what stands before the colon or equals sign in a group.
    """

    kind: str
    text: str = ""
    key: str | None = None
    opening: str = ""
    closing: str = ""
    children: list["Node"] = field(default_factory=list)

    @property
    def weight(self) -> int:
        """About how many characters it takes on one line."""
        return len(self.text) + len(self.key or "") + sum(child.weight + 2 for child in self.children) + 2


class _TooMuch(Exception):
    """The text is too deep or too long for a tree."""


def parse(text: str) -> Node | None:
    """The tree of a repr, or `None` when it has no structure worth a tree."""
    if len(text) > MAX_LENGTH or not any(bracket in text for bracket in "[({"):
        return None
    try:
        root = _Reader().read(text)
    except _TooMuch:
        return None
    only = root.children[0] if len(root.children) == 1 else None
    return only if only is not None and only.kind == "group" and only.children else None


class _Reader:
    """Keeps the open groups while it reads, and the words of the item that is being read."""

    def __init__(self) -> None:
        self._stack = [Node("group")]
        self._words: list[tuple[str, str]] = []
        self._key: str | None = None
        self._group: Node | None = None
        self._nodes = 0

    def read(self, text: str) -> Node:
        for match in _TOKEN.finditer(text):
            kind, token = match.lastgroup or "other", match.group()
            if kind == "open":
                self._open(token)
            elif kind == "close":
                self._close(token)
            elif kind == "comma":
                self._end_item()
            elif kind == "colon" and len(self._stack) > 1 and self._key is None and self._group is None:
                self._key = self._joined()
                self._words = []
            elif kind != "space" or self._words:
                self._words.append((kind, token))
        while len(self._stack) > 1:
            self._close("")
        self._end_item()
        return self._stack[0]

    def _open(self, token: str) -> None:
        self._count()
        if len(self._stack) > MAX_DEPTH:
            raise _TooMuch
        if self._group is not None:  # two groups without a comma between them
            self._end_item()
        token = self._joined() + token
        node = Node("group", key=self._key, opening=token)
        self._key, self._words, self._group = None, [], None
        self._stack[-1].children.append(node)
        self._stack.append(node)

    def _close(self, token: str) -> None:
        if len(self._stack) == 1:
            self._words.append(("other", token))
            return
        self._end_item()
        node = self._stack.pop()
        node.closing = token or _CLOSING.get(node.opening[-1:], "")
        self._group = node

    def _end_item(self) -> None:
        text = self._joined()
        if self._group is not None:
            if text:  # something behind the bracket, as in `(1) + 2`: keep it visible
                self._group.closing += text
        elif text or self._key is not None:
            self._count()
            kind = "text"
            if len(self._words) == 1 or (len(self._words) == 2 and self._words[1][0] == "space"):
                kind = _leaf_kind(*self._words[0])
            self._stack[-1].children.append(Node(kind, text, self._key))
        self._words, self._key, self._group = [], None, None

    def _joined(self) -> str:
        return "".join(token for _, token in self._words).strip()

    def _count(self) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _TooMuch


def _leaf_kind(kind: str, token: str) -> str:
    if kind == "string":
        return "string"
    if token in _CONSTANTS:
        return "constant"
    return "number" if _NUMBER.match(token) else "text"


CUT_MARK = re.compile(r"\.\.\.[\s\])}'\",]*\Z|\.\.\.,? ")


def was_cut(text: str | None) -> bool:
    """Whether Celery seems to have shortened this repr (`argsrepr_maxsize`, `resultrepr_maxsize`)."""
    return text is not None and len(text) > 300 and CUT_MARK.search(text) is not None
