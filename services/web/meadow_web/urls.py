"""Every link that pages contain is made here, below the URL prefix."""

from collections.abc import Mapping
from urllib.parse import quote, urlencode, urlsplit

from meadow_web.assets import Assets


class Urls:
    """Makes links. `prefix` is `/flower` or empty."""

    def __init__(self, prefix: str, assets: Assets) -> None:
        self.prefix = prefix
        self._assets = assets

    def page(self, path: str, /, **query: object) -> str:
        """A path below the prefix; query values that are empty or `None` are left out."""
        pairs = [(key, str(value)) for key, value in query.items() if value not in (None, "")]
        return f"{self.prefix}{path}" + (f"?{urlencode(pairs)}" if pairs else "")

    def overview(self, **query: object) -> str:
        return self.page("/", **query)

    def tasks(self, **query: object) -> str:
        return self.page("/tasks", **query)

    def task(self, uuid: str) -> str:
        return self.page(f"/task/{segment(uuid)}")

    def suggest(self) -> str:
        return self.page("/tasks/suggest")

    def workers(self, **query: object) -> str:
        return self.page("/workers", **query)

    def worker(self, name: str, **query: object) -> str:
        return self.page(f"/worker/{segment(name)}", **query)

    def queues(self) -> str:
        return self.page("/queues")

    def pipeline(self, **query: object) -> str:
        return self.page("/pipeline", **query)

    def audit(self, **query: object) -> str:
        return self.page("/audit", **query)

    def do(self, action: str) -> str:
        return self.page(f"/do/{segment(action)}")

    def live(self) -> str:
        return self.page("/live")

    def static(self, name: str) -> str:
        """A file of ours, under an address that changes with its content."""
        return self.page(f"/static/{self._assets.version}/{name}")

    def to(self, page: str, about: Mapping[str, str]) -> str:
        """The page of that name about something."""
        if page == "task":
            return self.task(about["uuid"])
        if page == "worker":
            return self.worker(about["name"])
        return self.page("/" if page == "overview" else f"/{page}", **about)

    def flashed(self, target: str, sealed: str) -> str:
        """A path of ours with the outcome of an action in its query, before its fragment."""
        parts = urlsplit(target)
        return parts._replace(query=f"{parts.query}&flash={sealed}".lstrip("&")).geturl()

    def local(self, target: str) -> str:
        """`target` if it is a path of ours, else the first page: nobody is sent away to another site."""
        parts = urlsplit(target)
        strange = parts.scheme or parts.netloc or any(c in target for c in "\\\r\n\t") or not target.startswith("/")
        if strange or target.startswith("//") or not target.startswith(f"{self.prefix}/"):
            return self.overview()
        return target


def segment(text: str) -> str:
    """Any text as one path segment. `.` and `..` alone would be resolved away by browsers.

    >>> segment("a/b ü"), segment("..")
    ('a%2Fb%20%C3%BC', '%2E%2E')
    """
    if text in (".", ".."):
        return text.replace(".", "%2E")
    return quote(text, safe="@", errors="replace")
