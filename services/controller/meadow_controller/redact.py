"""What must not leave a worker's answer or enter an audit record: passwords, tokens and the like."""

import re
from collections.abc import Iterable

HIDDEN = "********"

WORDS = ("password", "passwd", "secret", "token", "authorization", "api_key")
"""A name that holds one of these words, in any case, has a value that is hidden."""

CONFIGURATION = re.compile(
    r"TOKEN|SECRET|PASS|AUTHORI[SZ]|CREDENTIAL|SIGNATURE|PRIVATE|DATABASE|DBURI|API|KEY", re.IGNORECASE
)
"""Settings whose value is hidden: Celery's own list (`celery.app.utils.HIDDEN_SETTINGS`) and a little more."""

CREDENTIALS = re.compile(
    r"(?P<user>://[^\s'\"<>@:/?#]{0,200}):(?!\d{1,5}[/?#])(?:[^\s'\"<>/]{0,500}|[^\s'\"<>@]{0,500})@"
)

VALUE = (
    r"(?:'(?:[^'\\]|\\.)*'?|\"(?:[^\"\\]|\\.)*\"?"  # quoted, perhaps cut before the end
    r"|\\{1,4}(?P<quote>['\"]).{0,1000}?\\{1,4}(?P=quote)"  # quoted inside quotes
    r"|[^\s,}\])&;]+)"
)


class Redactor:
    """Hides values by their names, and credentials inside URLs. `more` are names besides the usual ones."""

    def __init__(self, more: Iterable[str] = ()) -> None:
        self._words = tuple(dict.fromkeys(_bare(word) for word in (*WORDS, *more) if _bare(word)))
        word = "|".join("[-_ ]?".join(map(re.escape, _parts(word))) for word in (*WORDS, *more) if _bare(word))
        # What stands before the word is kept as it is, so it need not be matched: that keeps the time linear.
        self._pair = re.compile(
            rf"(?P<name>(?:{word})[\w.-]{{0,64}}\\{{0,4}}['\"]?\s{{0,4}}[:=]\s{{0,4}}){VALUE}", re.IGNORECASE
        )

    def hides(self, name: str) -> bool:
        """Whether a value under this name is hidden.

        >>> Redactor().hides("X-Api-Key")
        True
        """
        bare = _bare(name)
        return any(word in bare for word in self._words)

    def hides_setting(self, name: str) -> bool:
        """Whether the value of this Celery setting is hidden."""
        return self.hides(name) or CONFIGURATION.search(name) is not None

    def text(self, text: str) -> str:
        """The text without passwords of URLs and without the values of hidden names in it.

        >>> Redactor().text("{'password': 'hunter2', 'url': 'amqp://me:pw@host//'}")
        "{'password': '********', 'url': 'amqp://me:********@host//'}"
        """
        if "://" in text:
            text = CREDENTIALS.sub(rf"\g<user>:{HIDDEN}@", text)
        return self._pair.sub(rf"\g<name>'{HIDDEN}'", text)


def _bare(name: str) -> str:
    return "".join(_parts(name))


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"[-_\s]+", name.lower()) if part]
