"""The api service: answers from the task store, and keeps it (`keeper`).

Hears: questions (`meadow.query.<name>`).
Says: answers, HTTP below `/api`.
"""

from collections.abc import Sequence
from typing import Any

from aiohttp import web
from msgspec.structs import asdict

from meadow.bus import Answering
from meadow.queries import StreamProgress
from meadow.service import Context
from meadow_api.answers import Answers
from meadow_api.command_routes import command_routes
from meadow_api.keeper import Keeper, Keeping
from meadow_api.keeper_process import KeeperProcess
from meadow_api.routes import ReadEndpoints
from meadow_api.search.upkeep import index_of
from meadow_api.store.database import Database, place_of
from meadow_api.v1.endpoint import Reading
from meadow_api.v1.resources import Resources

QUEUE_GROUP = "api"


def build(context: Context) -> "ApiService":
    """The service, not yet running."""
    database = Database(place_of(context.settings))
    keeping = Keeper if context.children is None else KeeperProcess
    return ApiService(context, database, keeping(context, database))


class ApiService:
    """Answers questions about what is in the store, and sees to it that it is kept."""

    name = "api"

    def __init__(self, context: Context, database: Database, keeping: Keeping) -> None:
        self._context = context
        self._database = database
        self._keeping = keeping
        self._texts = index_of(context.settings, lambda: keeping.report.text_index)
        database.reading_options["text_index"] = self._texts
        self._answers = Answers(database, context.settings, progress=self._progress)
        self._answering: Answering | None = None
        reading = Reading(database, context.bus, context.settings, self._answers.present)
        self._resources = Resources(reading, self._answers, self._whole_health)

    async def listen(self) -> None:
        """Open the store and answer questions."""
        bus = self._context.bus
        await self._keeping.listen()
        self._answering = await bus.answer(self._answers.handlers(bus.max_payload), group=QUEUE_GROUP)

    async def speak(self) -> None:
        """Let the store be written."""
        await self._keeping.speak()

    async def stop(self) -> None:
        """Take no more questions, finish what is being written, close the store."""
        if self._answering is not None:
            await self._answering.stop()
        await self._keeping.stop()
        await self._database.close()
        if self._texts is not None:
            self._texts.close()

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Flower's API, and Meadow's own below `/api/v1`."""
        endpoints = ReadEndpoints(self._context, self._database, self._answers)
        return [*endpoints.routes(), *command_routes(self._context), *self._resources.routes()]

    async def hang_up(self) -> None:
        """End the event streams that are open, so that a stop need not wait for them."""
        await self._resources.hang_up()

    def health(self) -> dict[str, Any]:
        """Whether facts reach the store, and how far they have."""
        report = self._keeping.report
        connected = self._context.bus.connected
        return {
            "ok": connected and report.ok,
            "error": report.error if connected else "There is no connection to NATS.",
            "writes": report.writes,
            "keeper_loop_lag": report.loop_lag,
            "streams": {each.stream: asdict(each) for each in report.streams},
        }

    def _whole_health(self) -> dict[str, Any]:
        """The same, and how the process and the services beside this one are."""
        return {**self._context.watch.health(), **self.health()}

    def _progress(self) -> list[StreamProgress]:
        return list(self._keeping.report.streams)
