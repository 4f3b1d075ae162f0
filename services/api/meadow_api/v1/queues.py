"""Queues: how deep they are, how deep they were, and who consumes them."""

from typing import Annotated

from msgspec import Meta, Struct

from meadow.queries import QueueList, QueueListQuery
from meadow_api.answers import Answers
from meadow_api.v1.endpoint import Endpoint, Example, Reading

DAY = 86400.0


class QueuesParameters(Struct, frozen=True, kw_only=True):
    """How far back."""

    seconds: Annotated[float, Meta(ge=0, le=30 * DAY, description="Seconds of depth samples to send along.")] = 3600.0


def endpoints(reading: Reading, answers: Answers) -> list[Endpoint]:
    """The endpoints of this resource."""

    async def list_queues(given: QueuesParameters) -> QueueList:
        return await answers.queues(QueueListQuery(cluster=reading.cluster, history=given.seconds))

    return [
        Endpoint(
            path="/queues",
            name="listQueues",
            summary="All queues with their depth, its history, and their consumers",
            parameters=QueuesParameters,
            answer=QueueList,
            load=list_queues,
            examples=(Example("The last ten minutes", "seconds=600"),),
        )
    ]
