"""Help with writing a search: what may stand where the cursor is."""

from typing import Annotated

from msgspec import Meta, Struct
from sqlalchemy import Connection

from meadow.queries import Suggestions
from meadow_api.search.suggest import suggest
from meadow_api.v1.endpoint import Endpoint, Example, Reading


class SuggestParameters(Struct, frozen=True, kw_only=True):
    """A search as far as it is written."""

    q: Annotated[str, Meta(max_length=2048, description="The search as it stands.")] = ""
    position: Annotated[
        Annotated[int, Meta(ge=0, le=2048)] | None,
        Meta(description="Where the cursor is, counted from 0; at the end unless given."),
    ] = None


def endpoints(reading: Reading) -> list[Endpoint]:
    """The endpoints of this resource."""

    def show_suggestions(connection: Connection, given: SuggestParameters) -> Suggestions:
        position = len(given.q) if given.position is None else given.position
        return suggest(connection, reading.cluster, given.q, position)

    return [
        Endpoint(
            path="/search/suggest",
            name="suggestSearch",
            summary="What may come next in a search: fields, states, names, workers, queues, times",
            parameters=SuggestParameters,
            answer=Suggestions,
            find=show_suggestions,
            examples=(Example("States that begin with F", "q=state:F"),),
        )
    ]
