"""All resources of version 1 together: their endpoints, their routes, and the end of what stays open."""

from collections.abc import Callable
from typing import Any

from aiohttp import web

from meadow_api.answers import Answers
from meadow_api.v1 import audit, exports, failures, pipeline, queues, searches, stats, tasks, workers, workflows
from meadow_api.v1.documents import document_routes
from meadow_api.v1.endpoint import Endpoint, Reading, routes
from meadow_api.v1.event_stream import EventStreams


class Resources:
    """Version 1. `health` tells whether facts reach the store."""

    def __init__(self, reading: Reading, answers: Answers, health: Callable[[], dict[str, Any]]) -> None:
        self._reading = reading
        self._streams = EventStreams(reading)
        self.endpoints: tuple[Endpoint, ...] = (
            *tasks.endpoints(reading),
            *workers.endpoints(reading, answers),
            *queues.endpoints(reading, answers),
            *searches.endpoints(reading),
            *stats.endpoints(reading),
            *failures.endpoints(reading),
            *workflows.endpoints(reading),
            *exports.endpoints(reading),
            *self._streams.endpoints(),
            *audit.endpoints(reading, answers),
            *pipeline.endpoints(reading, answers, health),
        )

    def routes(self) -> list[web.RouteDef]:
        """The routes of all endpoints, and of the documents about them."""
        documents = document_routes(self.endpoints, self._reading.settings.prefix)
        return [*documents, *routes(self.endpoints, self._reading)]

    async def hang_up(self) -> None:
        """End the connections that would stay open for ever."""
        await self._streams.hang_up()
