"""Keeps open pages live. One WebSocket per tab; tabs that show the same view share one rendering.

A change notice marks the views that it may concern. Each view has a task of its own that renders it again: at once
for the first notice, then at a pace that its own cost sets. What looks the same is not sent, and a browser that is
slow gets the newest rendering only.
"""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import WSCloseCode, web

from meadow.queries import Changed
from meadow.service import Watch
from meadow_web.ask import NoAnswer
from meadow_web.frame import Fragment
from meadow_web.pages.page import BadArgument, Page

log = logging.getLogger(__name__)

MOST_SOCKETS = 1000
MOST_OF_ONE = 50
MOST_RENDERINGS = 4
MOST_VIEWS = 300
LOOP_SHARE = 0.1
LONGEST_PAUSE = 5.0
AGE_SECONDS = 5.0
HEAL_SECONDS = 2.0
PING_SECONDS = 20.0
HANG_UP_SECONDS = 1.0
LARGEST_MESSAGE = 1024

HELLO = '{"type":"hello"}'
FRESH = '{"type":"fresh"}'

Render = Callable[[], Awaitable[Fragment]]


class Listener:
    """One tab. Holds at most one message that waits to be sent: the newest."""

    def __init__(self, socket: web.WebSocketResponse, digest: str) -> None:
        self.socket = socket
        self.dropped = 0
        self._digest = digest
        self._told = False
        self._message: str | None = None
        self._waiting = asyncio.Event()

    def offer(self, digest: str, message: str) -> None:
        """Send `message`, unless the tab has what it says already: then it is told so, once."""
        if digest == self._digest:
            if self._told:
                return
            message = FRESH
        self._told = True
        if self._message is not None:
            self.dropped += 1
        self._digest, self._message = digest, message
        self._waiting.set()

    async def pump(self) -> None:
        """Send what is offered, until the socket closes."""
        while True:
            await self._waiting.wait()
            self._waiting.clear()
            message, self._message = self._message, None
            if message is not None:
                try:
                    await self.socket.send_str(message)
                except ConnectionError:  # the tab is gone; its handler sees that too
                    return


@dataclass
class View:
    """One distinct page as somebody sees it."""

    page: Page
    render: Render
    listeners: set[Listener] = field(default_factory=set)
    dirty: asyncio.Event = field(default_factory=asyncio.Event)
    watched: frozenset[str] | None = None
    broken: bool = False
    task: asyncio.Task[None] | None = None


class Live:
    """All open views."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._views: dict[object, View] = {}
        self._dropped = 0
        self._open: Counter[str] = Counter()
        self._places = asyncio.Semaphore(MOST_RENDERINGS)
        self.renderings = 0

    def refusal(self, client: str, key: object) -> str | None:
        """Why one more tab of `client` would be one too many, or `None`."""
        if self._open[client] >= MOST_OF_ONE:
            return (
                f"No more than {MOST_OF_ONE} pages are kept live for one address. "
                "Behind a proxy, --xheaders tells the addresses apart."
            )
        if self.sockets >= MOST_SOCKETS or (key not in self._views and len(self._views) >= MOST_VIEWS):
            return "No more pages can be kept live here."
        return None

    @property
    def sockets(self) -> int:
        return self._open.total()

    def state(self) -> dict[str, int]:
        """For the health check."""
        dropped = self._dropped + sum(one.dropped for view in self._views.values() for one in view.listeners)
        return {
            "sockets": self.sockets,
            "views": len(self._views),
            "renderings": self.renderings,
            "dropped": dropped,
        }

    def notice(self, changed: Changed) -> None:
        """Mark the views that may look different now."""
        for view in self._views.values():
            if view.page.concerned(changed, view.watched):
                view.dirty.set()

    def everything_changed(self) -> None:
        """Mark all views."""
        for view in self._views.values():
            view.dirty.set()

    async def serve(
        self, request: web.Request, client: str, key: object, page: Page, render: Render
    ) -> web.WebSocketResponse:
        """Keep one tab of `client` live until it goes; raises `HTTPServiceUnavailable`."""
        refusal = self.refusal(client, key)
        if refusal is not None:
            raise web.HTTPServiceUnavailable(text=refusal)
        self._open[client] += 1  # before anything waits: many may come at once
        try:
            socket = web.WebSocketResponse(heartbeat=PING_SECONDS, max_msg_size=LARGEST_MESSAGE)
            await socket.prepare(request)
            return await self._attend(socket, Listener(socket, request.query.get("have", "")), key, page, render)
        finally:
            self._open[client] -= 1
            if not self._open[client]:
                del self._open[client]

    async def _attend(
        self, socket: web.WebSocketResponse, listener: Listener, key: object, page: Page, render: Render
    ) -> web.WebSocketResponse:
        sender = asyncio.create_task(listener.pump(), name="live sender")
        self._join(key, page, render, listener)
        try:
            await socket.send_str(HELLO)
            async for _ in socket:
                pass  # the browser has nothing to say; reading notices when it goes
        except ConnectionError:
            log.debug("A tab went while it was greeted.")
        finally:
            self._leave(key, listener)
            sender.cancel()
        return socket

    async def hang_up(self) -> None:
        """Close every socket: the browsers come back when there is somebody again. May be called twice."""
        listeners = [listener for view in self._views.values() for listener in view.listeners]
        closings = [asyncio.create_task(_close(listener.socket), name="live closing") for listener in listeners]
        if closings:
            _, late = await asyncio.wait(closings, timeout=HANG_UP_SECONDS)
            for task in late:
                task.cancel()

    def _join(self, key: object, page: Page, render: Render, listener: Listener) -> None:
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = View(page, render)
            view.task = self._watch.start(f"live view of {page.name}", self._keep(view))
        view.listeners.add(listener)
        view.dirty.set()

    def _leave(self, key: object, listener: Listener) -> None:
        view = self._views.get(key)
        if view is None:
            return
        view.listeners.discard(listener)
        self._dropped += listener.dropped
        if not view.listeners:
            del self._views[key]
            if view.task is not None:
                view.task.cancel()

    async def _keep(self, view: View) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await self._wait(view)
            view.dirty.clear()
            started = clock()
            digest, message = await self._message(view)
            for listener in view.listeners:
                listener.offer(digest, message)
            cost = clock() - started
            await asyncio.sleep(max(view.page.pace, min(cost / LOOP_SHARE, LONGEST_PAUSE)))

    async def _wait(self, view: View) -> None:
        """Until a notice comes; a broken view tries again by itself, and one that ages looks at the clock."""
        patience = HEAL_SECONDS if view.broken else AGE_SECONDS if view.page.ages else None
        try:
            async with asyncio.timeout(patience):
                await view.dirty.wait()
        except TimeoutError:
            return

    async def _message(self, view: View) -> tuple[str, str]:
        self.renderings += 1
        view.watched = None  # until it is known what the page is about now, every notice may concern it
        try:
            async with self._places:
                fragment = await view.render()
        except NoAnswer as exc:
            view.broken = True
            return _broken(str(exc))
        except BadArgument as exc:
            view.broken = True
            return _broken(str(exc))
        except web.HTTPException as exc:
            view.broken = True
            return _broken(exc.text or "This is gone.")
        except Exception:
            log.exception("%s could not be rendered.", view.page.name, extra={"action": "web.render"})
            view.broken = True
            return _broken("This page could not be drawn. Meadow's log says why.")
        view.broken, view.watched = False, fragment.watched
        message = {
            "type": "page",
            "html": fragment.html,
            "title": fragment.title,
            "mood": fragment.mood,
            "digest": fragment.digest,
        }
        return fragment.digest, json.dumps(message)


async def _close(socket: web.WebSocketResponse) -> None:
    try:
        await socket.close(code=WSCloseCode.GOING_AWAY, message=b"Meadow stops")
    except ConnectionError:
        log.debug("A tab was gone already.")


def _broken(words: str) -> tuple[str, str]:
    return f"broken {words}", json.dumps({"type": "broken", "message": words})
