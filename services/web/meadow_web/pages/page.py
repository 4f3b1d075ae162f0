"""The shape that all pages share: title, route, load, template."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import structs

from meadow.queries import Changed, TaskRow
from meadow.settings import Settings
from meadow_web.ask import Ask
from meadow_web.urls import Urls

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def as_dicts(rows: Sequence[TaskRow]) -> list[dict[str, Any]]:
    """Rows whose columns templates take by name."""
    return [structs.asdict(row) for row in rows]


class BadArgument(Exception):
    """A query parameter that is not what it should be; scripts know Flower's words for it."""


def whole_number(text: str) -> int:
    """A whole number from a query; raises `BadArgument` in Flower's words."""
    try:
        return int(text)
    except ValueError as exc:
        raise BadArgument(f"Invalid argument '{text[:100]}' of type 'int'") from exc


@dataclass(frozen=True)
class Visit:
    """One look at a page: what the address says, and what loading may use.

    `closed` says why this reader may not change anything; `inspected` is what the worker that is looked at answered
    just now, before the api could know of it. Two readers with equal visits see the same page, so one rendering
    serves both.
    """

    ask: Ask
    settings: Settings
    urls: Urls
    now: float
    path: str = "/"
    params: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    closed: str | None = None
    inspected: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cluster(self) -> str:
        return self.settings.cluster

    def text(self, name: str, default: str = "") -> str:
        """A query parameter without blanks around it."""
        return self.query.get(name, default).strip()


@dataclass(frozen=True)
class Content:
    """What a page shows. `values` go to the template; `watched` are the ids of the tasks, or the names of the workers,
    that it is about (`None`: any); `mood` colours the tab's icon; `status` is the HTTP status;
    `template` takes the place of the page's own."""

    title: str
    values: dict[str, Any]
    mood: str = ""
    watched: frozenset[str] | None = None
    status: int = 200
    template: str = ""


def unknown(what: str, name: str, words: str) -> Content:
    """The page of something that is not known yet: it fills in once it is."""
    shown = _CONTROL.sub("?", name)[:200]
    values = {"heading": f"Unknown {what} '{shown}'", "words": words}
    return Content(f"Unknown {what}", values, watched=frozenset({name}), status=404, template="pages/unknown.html")


@dataclass(frozen=True)
class Page:
    """A page. `topics` are those of change notices that concern it; `pace` is the least number of seconds between two
    renderings; `ages` says that it also changes by mere waiting (workers that fall silent); `parameters` are the
    query's that it knows."""

    name: str
    route: str
    topics: frozenset[str]
    load: Callable[[Visit], Awaitable[Content]]
    pace: float = 0.5
    ages: bool = False
    section: str = ""
    parameters: frozenset[str] = frozenset()

    @property
    def template(self) -> str:
        return f"pages/{self.name}.html"

    def known(self, query: Mapping[str, str]) -> dict[str, str]:
        """What of a query makes a difference to this page: made-up parameters must not make views of their own."""
        return {name: query[name] for name in sorted(self.parameters) if query.get(name)}

    def concerned(self, notice: Changed, watched: frozenset[str] | None) -> bool:
        """Whether the page may look different after `notice`, given what its last rendering was about."""
        topics = self.topics.intersection(notice.topics)
        if not topics or watched is None:
            return bool(topics)
        if "tasks" in topics and (notice.tasks is None or not watched.isdisjoint(notice.tasks)):
            return True
        if "workers" in topics and (notice.workers is None or not watched.isdisjoint(notice.workers)):
            return True
        return bool(topics - {"tasks", "workers"})
