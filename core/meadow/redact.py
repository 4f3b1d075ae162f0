"""Hides secrets in what tasks carry: values of telling names, and credentials inside URLs.

The texts are Python reprs, often cut in the middle by Celery, sometimes JSON, query strings or source lines. They are
never parsed as a whole; each rule walks through a text once, so its time is linear in the text's length. In doubt a
rule hides more.
"""

import logging
import re
from collections.abc import Callable, Sequence
from typing import Any

log = logging.getLogger(__name__)

Rule = Callable[[str], str]

WORDS = ("password", "passwd", "secret", "token", "authorization", "bearer", "api_key", "apikey", "api-key")
MASK = "***"
HIDDEN = "[hidden by Meadow: a redaction rule failed]"
RULE_FAILED = "A redaction rule failed; the texts on which it fails are hidden as a whole."

_SCHEME_BEFORE = re.compile(r"['\"]?[A-Za-z][A-Za-z0-9+.\-]*$")
_LONGEST_SCHEME = 40
_AUTHORITY_ENDS = {
    "'": re.compile(r"[\s/?#<>']"),
    '"': re.compile(r"[\s/?#<>\"]"),
    "": re.compile(r"[\s/?#<>'\"]"),
}
_PORT = re.compile(r"\d*[.,;:)\]}]*")

_REST_OF_NAME = re.compile(r"[\w.\-]*+")
_SEPARATOR = re.compile(r"(?:\\*+['\"])?+\]?+\s*+(?:=>|[:=!]=|[:=])\s*+")
_DEFAULT = re.compile(r"\s*+=(?!=)\s*+")
_QUOTE = re.compile(r"[bBuUrRfF]{0,2}(\\*+)(['\"])")
_NEXT_QUOTE = re.compile(r"(\\*+)(['\"])")
_NEXT_BRACKET = re.compile(r"[()\[\]{}<>]|\\*+['\"]")
_PLAIN = re.compile(r"[^\s,;&'\"()\[\]{}<>]*+")
_SCHEME_AND_PROOF = re.compile(r"(?:basic|bearer|token|digest|negotiate|apikey)\s++[^\s,;'\"]++", re.IGNORECASE)
_BEARER = re.compile(r"\b(bearer)\s++[A-Za-z0-9._~+/=\-]{8,}+", re.IGNORECASE)
_HOST_BEFORE = re.compile(r"[/@][\w.\-]{0,64}$")
_LONGEST_HOST = 66
_NEXT_BROKER = re.compile(r";(?=[\w.+:\-]{1,80}://)")
_OPENING = frozenset("([{<")
_CLASS_NAME_ENDS = ("Error", "Exception", "Warning")


class Redactor:
    """Applies all rules. A rule that raises hides the whole text, and is counted in `failures`."""

    def __init__(self, more_words: Sequence[str] = (), more_rules: Sequence[Rule] = ()) -> None:
        words = tuple(dict.fromkeys(word.lower() for word in (*WORDS, *more_words) if word))
        self._needles = tuple(word for word in words if not any(other in word for other in words if other != word))
        self._rules: tuple[Rule, ...] = (hide_url_credentials, hide_bearer_tokens, named_values_rule(self._needles))
        self._more_rules = tuple(more_rules)
        self.failures = 0

    def text(self, text: str) -> str:
        """The text without its secrets."""
        rules = self._more_rules
        if "://" in text or self._mentions(text.lower()):
            rules = self._rules + rules
        for rule in rules:
            try:
                text = rule(text)
            except Exception:
                self.failures += 1
                if self.failures == 1:
                    log.exception("%s", RULE_FAILED, extra={"action": "redact.failed", "rule": repr(rule)})
                return HIDDEN
        return text

    def hides(self, name: str) -> bool:
        """Whether a value under this name is hidden.

        >>> Redactor().hides("X-Api-Key")
        True
        """
        return self._mentions(name.lower())

    def _mentions(self, lowered: str) -> bool:
        for needle in self._needles:  # noqa: SIM110 - every text of every event comes here, and a loop is faster
            if needle in lowered:
                return True
        return False

    def value(self, value: Any) -> Any:
        """Plain data with all its texts redacted, and with the values of telling keys hidden."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {key: self._member(key, member) for key, member in value.items()}
        if isinstance(value, list):
            return [self.value(member) for member in value]
        return value

    def _member(self, key: str, member: Any) -> Any:
        return MASK if self.hides(key) else self.value(member)


def hide_url_credentials(text: str) -> str:
    """`scheme://user:password@host` as `scheme://***@host`.

    >>> hide_url_credentials("see redis://:hunter2@cache:6379/0, or http://host/a@b")
    'see redis://***@cache:6379/0, or http://host/a@b'
    """
    pieces: list[str] = []
    done = 0
    at = text.find("://")
    while at >= 0:
        start = at + 3
        end = _AUTHORITY_ENDS[_enclosing_quote(text, at)].search(text, start)
        stop = end.start() if end else len(text)
        hidden_to = text.rfind("@", start, stop)
        if hidden_to < 0 and _password_was_cut(text[start:stop], at_end=end is None):
            hidden_to = stop
        if hidden_to >= 0:
            pieces += (text[done:start], MASK)
            done = hidden_to
        at = text.find("://", max(start, stop - 1))  # the colon may belong to the next one
    return "".join((*pieces, text[done:])) if pieces else text


def hide_bearer_tokens(text: str) -> str:
    """What follows the word Bearer (RFC 6750), under whatever name it stands.

    >>> hide_bearer_tokens("{'auth': 'Bearer abcdef.1234'}, the bearer of news")
    "{'auth': 'Bearer ***'}, the bearer of news"
    """
    return _BEARER.sub(rf"\1 {MASK}", text)


def _enclosing_quote(text: str, at: int) -> str:
    before = _SCHEME_BEFORE.search(text[max(at - _LONGEST_SCHEME, 0) : at])
    return before.group()[0] if before and before.group()[0] in "'\"" else ""


def _password_was_cut(authority: str, *, at_end: bool) -> bool:
    """Whether the text was cut inside the credentials, so that the `@` is missing."""
    if authority.startswith("[") or not (at_end or authority.endswith("...")):
        return False
    _, colon, rest = authority.partition(":")
    return bool(colon) and _PORT.fullmatch(rest) is None


def named_values_rule(words: Sequence[str]) -> Rule:
    """A rule that hides the value behind each name that contains one of the words.

    >>> named_values_rule(["password"])("{'user': 'ada', 'password': 'x', 'n': 1}")
    "{'user': 'ada', 'password': '***', 'n': 1}"
    """
    find = re.compile("|".join(re.escape(word) for word in sorted(words, key=len, reverse=True)), re.IGNORECASE).search

    def hide_named_values(text: str) -> str:
        pieces: list[str] = []
        done = 0
        found = find(text)
        while found:
            name_end = _end(_REST_OF_NAME, text, found.end())
            span = _value_span(text, found.start(), name_end)
            if span is None:
                found = find(text, name_end)
                continue
            pieces += (text[done : span[0]], MASK)
            done = span[1]
            found = find(text, done)
        return "".join((*pieces, text[done:])) if pieces else text

    return hide_named_values


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position


def _value_span(text: str, name_start: int, name_end: int) -> tuple[int, int] | None:
    """What to hide behind the name, without its quotes; `None` where no value follows."""
    separator = _SEPARATOR.match(text, name_end)
    if separator is None:
        return None
    if separator.group().strip() == ":":
        if text.endswith(_CLASS_NAME_ENDS, name_start, name_end):
            return None  # the last line of a traceback: "InvalidTokenError: not enough segments"
        if _HOST_BEFORE.search(text[max(name_start - _LONGEST_HOST, 0) : name_start]):
            return None  # a host and its port: "http://token-service:8080"
    start = separator.end()
    span = _one_value(text, start)
    default = _DEFAULT.match(text, span[1]) if ":" in separator.group() else None
    if default is not None and span[0] == start:  # a source line: "password: str = 'x'"
        span = (start, _one_value(text, default.end())[1])
    return span if span[1] > span[0] or span[0] > start else None


def _one_value(text: str, start: int) -> tuple[int, int]:
    quote = _QUOTE.match(text, start)
    if quote is not None:
        inner_end, _ = _quoted_end(text, quote.end(), len(quote.group(1)), quote.group(2))
        return quote.end(), inner_end
    proof = _SCHEME_AND_PROOF.match(text, start)
    if proof is not None:
        return start, proof.end()
    position = start
    while True:
        end = _end(_PLAIN, text, position)
        if end < len(text) and text[end] in _OPENING and (text[end] != "<" or end == start):
            end = _bracket_end(text, end)
        if end == position:
            return start, end
        position = end


def _quoted_end(text: str, position: int, level: int, quote: str) -> tuple[int, int]:
    """Where the quoted text ends, before and behind its closing quote.

    `level` backslashes stand before the opening quote (texts are often quoted more than once: 0, 1, 3, 7 …). The
    closing quote has as many, besides those that stand for backslashes in the text.
    """
    period = 2 * (level + 1)
    for match in _NEXT_QUOTE.finditer(text, position):
        backslashes = len(match.group(1))
        if backslashes < level:  # the text around this one ends here
            return match.start(), match.start()
        if match.group(2) == quote and backslashes % period == level:
            return match.end() - 1 - level, match.end()
    return len(text), len(text)


def _bracket_end(text: str, position: int) -> int:
    """Behind the bracket that closes the one at `position`, or the end of the text."""
    depth = 0
    while True:
        match = _NEXT_BRACKET.search(text, position)
        if match is None:
            return len(text)
        token = match.group()
        position = match.end()
        if token[-1] in "'\"":
            _, position = _quoted_end(text, position, len(token) - 1, token[-1])
            continue
        depth += 1 if token in _OPENING else -1
        if depth == 0:
            return position


def url_without_password(url: str) -> str:
    """The URL without its password.

    >>> url_without_password("nats://me:secret@host:4222")
    'nats://me:***@host:4222'
    """
    scheme, separator, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    if not at:
        return url
    user, colon, _ = credentials.partition(":")
    return f"{scheme}{separator}{user}{f':{MASK}' if colon else ''}@{host}"


def broker_without_passwords(url: str) -> str:
    """A broker's URL, or several separated by semicolons, fit to be shown.

    >>> broker_without_passwords("redis://:hunter2@a:6379/0;amqp://ada:x@b//")
    'redis://:***@a:6379/0;amqp://ada:***@b//'
    """
    return ";".join(_broker_without_password(part) for part in _NEXT_BROKER.split(url))


def _broker_without_password(url: str) -> str:
    address, mark, query = url.partition("?")
    shown = url_without_password(address) if "://" in address else address.rpartition("@")[2]
    return shown + mark + named_values_rule(WORDS)(query)
