"""How complete the picture is, and whether facts reach the store."""

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from meadow.queries import CollectorState, Pipeline, PipelineQuery, StreamProgress
from meadow_api.answers import Answers
from meadow_api.store import pipeline_reads, queue_reads
from meadow_api.v1 import replies
from meadow_api.v1.endpoint import Endpoint, Example, NoParameters, Reading


class PipelineParameters(Struct, frozen=True, kw_only=True):
    """How far back."""

    seconds: Annotated[
        float, Meta(ge=0, le=pipeline_reads.MOST_SECONDS, description="How far back to count starts and list gaps.")
    ] = 3600.0


class CollectorHealth(CollectorState, frozen=True, kw_only=True):
    """The collector's last report, and how many seconds ago it came."""

    age: float | None = None


class Health(Struct, frozen=True, kw_only=True):
    """`ok`: facts reach the store. `streams` are those that are read, by name.

    `writes` says that this api writes the store; of several that share one, one does. `loop_lag` is the seconds by
    which the event loop of this process was late at most, lately, `keeper_loop_lag` the same of the process that
    writes the store. `services` are the states of those that run in this one, by name.
    """

    ok: bool
    now: float
    error: str | None = None
    writes: bool = True
    streams: dict[str, StreamProgress]
    collector: CollectorHealth
    loop_lag: float
    keeper_loop_lag: float
    services: dict[str, dict[str, Any]]


def endpoints(reading: Reading, answers: Answers, health: Callable[[], dict[str, Any]]) -> list[Endpoint]:
    """The endpoints of this resource."""

    async def show_pipeline(given: PipelineParameters) -> Pipeline:
        return await answers.pipeline(PipelineQuery(cluster=reading.cluster, seconds=given.seconds))

    async def show_health(request: web.Request, given: NoParameters) -> web.StreamResponse:
        state = health()
        collector = await reading.read(lambda c: queue_reads.read_collector(c, reading.cluster))
        now = reading.clock()
        age = None if collector.reported is None else now - collector.reported
        body = {**state, "now": now, "collector": {**msgspec.structs.asdict(collector), "age": age}}
        return await replies.json(request, body, status=200 if state["ok"] else 503)

    return [
        Endpoint(
            path="/pipeline",
            name="showPipeline",
            summary="How complete the picture is: starts seen of those expected, gaps, lag",
            parameters=PipelineParameters,
            answer=Pipeline,
            load=show_pipeline,
            examples=(Example("Over the last day", "seconds=86400"),),
        ),
        Endpoint(
            path="/health",
            name="showHealth",
            summary="Whether facts reach the store, and how far they have come; 503 when they do not",
            answer=Health,
            serve=show_health,
            examples=(Example("For a probe"),),
        ),
    ]
