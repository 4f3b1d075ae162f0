"""The web service: pages for people, kept live.

Hears `meadow.changed.<cluster>` and the collector's reports. Asks the api (`meadow.query.…`) and the controller
(`meadow.command.<cluster>`). Says HTML and WebSocket frames.
"""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from aiohttp import web

from meadow import subjects
from meadow.access.gate import ACTOR
from meadow.codec import decode
from meadow.queries import Changed
from meadow.service import Context
from meadow_web import flower
from meadow_web.ask import Ask, NoAnswer, QuestionInvalid
from meadow_web.assets import Assets
from meadow_web.broker_watch import BrokerWatch
from meadow_web.doing import Doing
from meadow_web.flash import Flash
from meadow_web.frame import Fragment, Frame
from meadow_web.live import Live
from meadow_web.pages import audit, overview, pipeline, queues, task, tasks, worker, workers
from meadow_web.pages.page import BadArgument, Page, Visit
from meadow_web.refresh import Refresher
from meadow_web.suggestions import suggestions
from meadow_web.urls import Urls

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
PAGES = (
    overview.PAGE,
    tasks.PAGE,
    task.PAGE,
    workers.PAGE,
    worker.PAGE,
    queues.PAGE,
    queues.BROKER,
    pipeline.PAGE,
    audit.PAGE,
)
LONGEST_VIEW = 4096
CONNECTION_SECONDS = 0.5

TITLES = {
    400: "Not understood",
    403: "Not allowed",
    404: "Not found",
    500: "Something broke",
    503: "An answer is missing",
}
EXPLANATIONS = {
    404: "There is no such page.",
    500: "Meadow could not draw this page. Its log says why.",
}


def build(context: Context) -> "WebService":
    """The service, not yet listening."""
    return WebService(context)


class WebService:
    """Routes, and what they share."""

    name = "web"

    def __init__(self, context: Context) -> None:
        settings = context.settings
        self._settings = settings
        self._bus = context.bus
        self._watch = context.watch
        self._gate = context.gate
        self._assets = Assets.read(HERE / "static")
        self._urls = Urls(settings.prefix, self._assets)
        self._frame = Frame(HERE / "templates", self._urls, settings.cluster, settings.auto_refresh)
        self._ask = Ask(context.bus, settings.cluster, context.gate)
        self._live = Live(context.watch)
        self._broker = BrokerWatch()
        self._refresher = Refresher(self._ask, context.watch)
        self._flash = Flash(secrets.token_bytes(32))
        self._patterns = [(page, _pattern(page.route)) for page in PAGES]

    async def listen(self) -> None:
        """Hear change notices and the collector's reports."""
        self._flash = Flash(await self._bus.shared_key("flash", secrets.token_bytes(32)))
        cluster = self._settings.cluster
        await self._bus.listen(subjects.changed(cluster), self._changed)
        await self._bus.listen(subjects.events(cluster, subjects.COLLECTOR), self._reported)
        self._watch.start("watch of the connection to NATS", self._watch_connection())

    async def speak(self) -> None:
        """Pages are drawn when somebody asks for them."""

    async def stop(self) -> None:
        """Close the WebSockets."""
        await self.hang_up()

    async def hang_up(self) -> None:
        """Close the WebSockets before the HTTP server waits for them."""
        await self._live.hang_up()

    def health(self) -> dict[str, Any]:
        """Whether pages can be served, and how many are open."""
        return {"ok": self._bus.connected, **self._live.state()}

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Pages, their WebSocket, the actions, the static files, and Flower's endpoints for scripts."""
        return [
            web.get("/live", self._open_live, allow_head=False),
            web.get("/static/{path:(?s:.+)}", self._assets.serve, allow_head=False),
            web.get("/tasks/datatable", self._datatable, allow_head=False),
            web.post("/tasks/datatable", self._datatable),
            web.get("/tasks/suggest", self._suggest, allow_head=False),
            web.post("/do/{action}", self._do),
            web.get("/login", self._no_login, allow_head=False),
            web.get("/login/", self._no_login, allow_head=False),
            web.get("/logout", self._logged_out, allow_head=False),
            *(web.get(page.route, self._shower(page), allow_head=False) for page in PAGES),
        ]

    async def error_page(self, request: web.Request, status: int, message: str) -> web.Response:
        """A whole page that says what went wrong."""
        title = TITLES.get(status, f"Error {status}")
        return self._frame.message(request, status, title, message or EXPLANATIONS.get(status, "Nothing was changed."))

    # -- bus ------------------------------------------------------------------------------------------------------

    async def _changed(self, subject: str, data: bytes) -> None:
        self._live.notice(decode(data, Changed))

    async def _reported(self, subject: str, data: bytes) -> None:
        if self._broker.hear(data):
            self._live.everything_changed()

    async def _watch_connection(self) -> None:
        """Without NATS no notice comes, so open pages must be told by us that they are old, and that they may be."""
        seen = self._bus.connected, self._bus.reconnections
        while True:
            await asyncio.sleep(CONNECTION_SECONDS)
            state = self._bus.connected, self._bus.reconnections
            if state != seen:
                seen = state
                self._live.everything_changed()

    # -- pages ----------------------------------------------------------------------------------------------------

    def _shower(self, page: Page) -> Any:
        async def show(request: web.Request) -> web.StreamResponse:
            try:
                return await self._show(request, page)
            except BadArgument as exc:
                return flower.plain_error(exc)
            except NoAnswer as exc:
                return self._without_answer(request, exc)

        return show

    def _without_answer(self, request: web.Request, exc: NoAnswer) -> web.Response:
        if isinstance(exc, QuestionInvalid):
            advice = "The address may be old. Start from the first page of the list."
            return self._frame.message(request, 400, TITLES[400], str(exc), advice)
        advice = "This page comes back by itself as soon as it can."
        return self._frame.message(request, 503, TITLES[503], str(exc), advice)

    async def _show(self, request: web.Request, page: Page) -> web.StreamResponse:
        path = request.rel_url.raw_path.removeprefix(self._urls.prefix)
        visit = self._visit(page, path, dict(request.match_info), dict(request.query), self._closed(request))
        if page.name in ("overview", "workers"):
            if flower.flag(request.query, "refresh"):
                self._refresher.start(request, None)
            if flower.flag(request.query, "json"):
                return await flower.workers_json(self._ask)
        if page.name == "worker":
            visit = replace(visit, inspected=await self._refresher.before_showing(request, visit))
        fragment = await self._render(page, visit)
        sealed = request.query.get("flash")
        outcome = self._flash.open(sealed, visit.now) if sealed else None
        return self._frame.page(request, page.section, fragment, self._view_of(visit), outcome)

    def _visit(self, page: Page, path: str, params: dict[str, str], query: dict[str, str], closed: str | None) -> Visit:
        kept = page.known(query)
        return Visit(self._ask, self._settings, self._urls, time.time(), path, params, kept, closed)

    def _view_of(self, visit: Visit) -> str:
        return self._urls.page(visit.path, **visit.query)

    async def _render(self, page: Page, visit: Visit, request: web.Request | None = None) -> Fragment:
        """The page as it is now; with the `request` of somebody who watches, its worker is asked again at times."""
        content = await page.load(visit)
        if request is not None and page.name == "worker" and content.status == 200 and content.values["worker"].online:
            self._refresher.keep_fresh(request, visit.params["name"])
        banner = self._broker.banner(visit.now)
        return await asyncio.to_thread(self._frame.fragment, page, content, visit, banner)

    def _closed(self, request: web.Request) -> str | None:
        return self._gate.commands_closed(request[ACTOR])

    # -- the others -----------------------------------------------------------------------------------------------

    async def _open_live(self, request: web.Request) -> web.StreamResponse:
        found = self._match(request.query.get("view", ""))
        if found is None:
            raise web.HTTPNotFound(text="There is no such view.")
        if not self._settings.auto_refresh:
            raise web.HTTPServiceUnavailable(text="No more pages can be kept live here.")
        page, path, params, query = found
        closed = self._closed(request)

        async def render() -> Fragment:
            return await self._render(page, self._visit(page, path, params, query, closed), request)

        kept = tuple(sorted(page.known(query).items()))
        client = f"{self._gate.source(request)} {request[ACTOR].name}"
        return await self._live.serve(request, client, (path, kept, closed), page, render)

    def _match(self, view: str) -> tuple[Page, str, dict[str, str], dict[str, str]] | None:
        """The page behind a path with query, as a browser shows it in its address line."""
        if len(view) > LONGEST_VIEW or not view.startswith(f"{self._urls.prefix}/") or view.startswith("//"):
            return None
        parts = urlsplit(view.removeprefix(self._urls.prefix))
        for page, pattern in self._patterns:
            match = pattern.fullmatch(parts.path)
            if match is not None:
                params = {key: unquote(value) for key, value in match.groupdict().items()}
                return page, parts.path, params, dict(parse_qsl(parts.query, keep_blank_values=True))
        return None

    async def _datatable(self, request: web.Request) -> web.Response:
        try:
            return await flower.datatable(self._ask, request)
        except BadArgument as exc:
            return flower.plain_error(exc)
        except QuestionInvalid as exc:
            return flower.plain_error(BadArgument(str(exc)))
        except NoAnswer as exc:
            return web.Response(status=503, text=str(exc), content_type="text/plain", charset="UTF-8")

    async def _suggest(self, request: web.Request) -> web.Response:
        try:
            return await suggestions(self._ask, request)
        except NoAnswer as exc:
            return web.Response(status=503, text=str(exc), content_type="text/plain", charset="UTF-8")

    async def _do(self, request: web.Request) -> web.StreamResponse:
        doing = Doing(self._ask, self._gate, self._frame, self._urls, self._flash, self._refresher)
        try:
            return await doing.handle(request)
        except NoAnswer as exc:
            return self._frame.message(request, 503, TITLES[503], str(exc), "The audit page tells what was done.")

    async def _no_login(self, request: web.Request) -> web.StreamResponse:
        raise web.HTTPNotFound(text="There is nothing to sign in to: no sign-in with pages of its own is configured.")

    async def _logged_out(self, request: web.Request) -> web.Response:
        return self._frame.message(request, 200, "Logged out", "You are logged out.")


def _pattern(route: str) -> re.Pattern[str]:
    """`/task/{uuid:.+}` as a regular expression."""
    return re.compile(re.sub(r"\{(\w+):([^}]+)\}", r"(?P<\1>\2)", route))
