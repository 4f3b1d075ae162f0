"""Rendering: the frame around every page, the fragment that live updates replace, and the headers of both.

Templates escape everything (autoescape), and the Content-Security-Policy stands behind them.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from meadow.access.gate import ACTOR
from meadow_web.broker_watch import Banner
from meadow_web.flash import Outcome
from meadow_web.formats import FILTERS
from meadow_web.pages.page import Content, Page, Visit
from meadow_web.replies import answered, deed, outcome_word, read_replies
from meadow_web.urls import Urls

SECURITY = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}

NAVIGATION = (
    ("overview", "Overview", "/"),
    ("tasks", "Tasks", "/tasks"),
    ("workers", "Workers", "/workers"),
    ("queues", "Queues", "/queues"),
    ("pipeline", "Pipeline", "/pipeline"),
    ("audit", "Audit", "/audit"),
)


@dataclass(frozen=True)
class Fragment:
    """The part of a page that changes. Equal `digest`, equal look."""

    html: str
    title: str
    mood: str
    status: int
    watched: frozenset[str] | None
    digest: str


class Frame:
    """Turns loaded pages into HTML."""

    def __init__(self, templates: Path, urls: Urls, cluster: str, live: bool) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(templates),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters.update(
            FILTERS, deed=deed, outcome_word=outcome_word, answered=answered, read_replies=read_replies
        )
        self._environment.globals.update(urls=urls, cluster=cluster, navigation=NAVIGATION, live_pages=live)

    def fragment(self, page: Page, content: Content, visit: Visit, banner: Banner | None) -> Fragment:
        """The page without its frame."""
        values = {
            **content.values,
            "title": content.title,
            "now": visit.now,
            "closed": visit.closed,
            "here": visit.urls.page(visit.path, **visit.query),
            "banner": banner if page.name not in ("overview", "pipeline") else None,  # their verdicts say the same
        }
        html = self._environment.get_template(content.template or page.template).render(values)
        digest = hashlib.blake2s(f"{content.title}\0{content.mood}\0{html}".encode("utf-8", "replace"), digest_size=12)
        title = f"{content.title} · Meadow"
        return Fragment(html, title, content.mood, content.status, content.watched, digest.hexdigest())

    def page(
        self, request: web.Request, section: str, fragment: Fragment, view: str, outcome: Outcome | None = None
    ) -> web.Response:
        """The whole page; `view` is what live updates ask for, empty for pages that never change."""
        text = self._environment.get_template("frame.html").render(
            section=section,
            fragment=Markup(fragment.html),  # noqa: S704 - it was rendered by this environment
            title=fragment.title,
            mood=fragment.mood,
            digest=fragment.digest,
            view=view,
            outcome=outcome,
            actor=request.get(ACTOR),
        )
        return html_response(text, fragment.status)

    def plain(self, name: str, values: Mapping[str, Any]) -> str:
        """A template alone: what scripts of the page put into dialogs and toasts."""
        return self._environment.get_template(name).render(values)

    def message(self, request: web.Request, status: int, title: str, words: str, advice: str = "") -> web.Response:
        """A page with a message in the usual frame. When an answer is missing (503) it keeps trying to heal."""
        html = self.plain("message.html", {"status": status, "heading": title, "words": words, "advice": advice})
        mood = "bad" if status >= 500 else ""
        fragment = Fragment(html, f"{title} · Meadow", mood, status, None, "")
        view = request.path_qs if status == 503 and request.method == "GET" else ""
        return self.page(request, "", fragment, view)


def html_response(text: str, status: int = 200) -> web.Response:
    """HTML with the headers that every page carries."""
    return web.Response(text=text, status=status, content_type="text/html", charset="UTF-8", headers=SECURITY)
