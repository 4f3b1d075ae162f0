"""A running web service with a real api behind it, a client, and a reader of its HTML."""

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType
from aiohttp.test_utils import TestServer

from meadow import subjects
from meadow.bus import Bus
from meadow.events import AnyFact, QueueDepth, QueuesObserved, WorkerInspected
from meadow.http import build_application
from meadow.service import Context
from meadow_api.service import ApiService
from meadow_web.service import WebService, build
from tests.integration.api_service import heartbeat, publish, running_api, stored, task_events

MakeContext = Callable[..., Context]
VOID = frozenset({"input", "link", "meta", "img", "br", "path", "rect", "use", "ellipse", "circle"})


@dataclass
class Element:
    """A start tag as a browser sees it."""

    tag: str
    attributes: dict[str, str]
    text: str = ""


class Document(HTMLParser):
    """All elements of a page, in order, each with the text right inside it."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.html = html
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if any(element.tag == tag for element in self._open):
            while self._open.pop().tag != tag:
                pass

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """The elements of that tag with those attributes (`class_` for class)."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [
            element
            for element in self.elements
            if element.tag == tag and all(element.attributes.get(name) == value for name, value in wanted.items())
        ]

    def one(self, tag: str, **attributes: str) -> Element:
        """The only such element."""
        found = self.all(tag, **attributes)
        assert len(found) == 1, f"{len(found)} elements {tag} {attributes}"
        return found[0]

    def words(self, tag: str = "main") -> str:
        """The text of an element with single blanks."""
        return " ".join(self.one(tag).text.split())

    def links(self) -> Iterator[str]:
        """Everything that leads somewhere."""
        for element in self.elements:
            for name in ("href", "src", "action", "formaction", "data-href"):
                if name in element.attributes:
                    yield element.attributes[name]


@dataclass
class Stage:
    """What a test of web needs."""

    web: WebService
    client: ClientSession
    bus: Bus
    prefix: str = ""
    api: ApiService | None = None
    tabs: list[ClientWebSocketResponse] = field(default_factory=list)

    async def get(self, path: str, status: int = 200) -> Document:
        """The page at `path`."""
        async with self.client.get(self.prefix + path, allow_redirects=False) as response:
            text = await response.text()
            assert response.status == status, f"{path}: {response.status} {text[:300]}"
            return Document(text)

    async def say(self, *facts: AnyFact, kind: str = subjects.TASKS) -> None:
        """Publish facts and wait until the store has them."""
        assert self.api is not None
        await stored(self.api, await publish(self.bus, *facts, kind=kind))

    async def fill(self) -> None:
        """Three tasks, a worker that was inspected, two queues."""
        now = time.time()
        for number in range(3):
            await self.say(*task_events(number, at=now - 5 + number))
        replies = {
            "stats": {"pool": {"implementation": "celery.concurrency.prefork:TaskPool", "processes": [1, 2]}},
            "active_queues": [{"name": "celery"}],
            "registered": ["proj.add"],
            "conf": {"timezone": "UTC"},
            "active": [],
        }
        await self.say(
            heartbeat("w1@h"), WorkerInspected(hostname="w1@h", seen=now, replies=replies), kind=subjects.WORKERS
        )
        depths = (QueueDepth(name="celery", messages=0), QueueDepth(name="mail", messages=4120))
        await self.say(QueuesObserved(seen=now, queues=depths), kind=subjects.QUEUES)

    async def tab(self, view: str, have: str = "") -> ClientWebSocketResponse:
        """An open tab: its WebSocket, greeted."""
        socket = await self.client.ws_connect(
            f"{self.prefix}/live", params={"view": self.prefix + view, "have": have}, max_msg_size=0
        )
        self.tabs.append(socket)
        assert await hear(socket) == {"type": "hello"}
        return socket


async def hear(socket: ClientWebSocketResponse, timeout: float = 10.0) -> dict[str, Any]:
    """The next message of a tab."""
    message = await socket.receive(timeout)
    assert message.type == WSMsgType.TEXT, message
    decoded: dict[str, Any] = json.loads(message.data)
    return decoded


async def hear_until(socket: ClientWebSocketResponse, words: str) -> dict[str, Any]:
    """The first rendering that contains `words`."""
    while True:
        message = await hear(socket)
        if words in message.get("html", "") + message.get("message", ""):
            return message


@asynccontextmanager
async def web_stage(make_context: MakeContext, *, api: bool = True, **settings: Any) -> AsyncIterator[Stage]:
    """The web service on a real HTTP server, with or without the api."""
    context = make_context(**settings)
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(running_api(context)) if api else None
        service = build(context)
        await service.listen()
        application = build_application(context.settings, context.gate, [service])
        server = await stack.enter_async_context(TestServer(application))
        client = await stack.enter_async_context(ClientSession(server.make_url("/")))
        stage = Stage(service, client, context.bus, context.settings.prefix, running)
        try:
            yield stage
        finally:
            for tab in stage.tabs:
                await tab.close()
            await service.stop()
