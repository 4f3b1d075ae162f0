"""The facts as they come, as server-sent events (WHATWG HTML, 9.2), each with a place to go on from.

Every client has a reader of the stream of its own. So a client that takes its time is waited for by NATS and not by
Meadow's memory: nothing is buffered here but what is being written. One that takes nothing for `PATIENCE` seconds is
cut off; with `Last-Event-ID` it goes on where it was.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from meadow import subjects
from meadow.bus import StreamMessage, StreamState
from meadow.codec import decode_batch, encode
from meadow.errors import BusError, InvalidMessage
from meadow.events import AnyFact, type_of
from meadow.problems import Problem
from meadow_api.shapes import TEXTS
from meadow_api.v1 import replies
from meadow_api.v1.endpoint import Endpoint, Example, Reading
from meadow_api.v1.parameters import Word, refused

log = logging.getLogger(__name__)

KIND = "text/event-stream"
MOST_CLIENTS = 16
PATIENCE = 15.0
PING = 10.0
FAREWELL = 1.0
LINGER = 30.0


class EventsParameters(Struct, frozen=True, kw_only=True):
    """What to hear, and from where."""

    type: Annotated[
        Word | None, Meta(description="Only events of these types, with commas: `task-failed,task-retried`.")
    ] = None
    uuid: Annotated[Word | None, Meta(description="Only events of this task.")] = None
    worker: Annotated[Word | None, Meta(description="Only events that this worker sent.")] = None
    after: Annotated[
        Word | None,
        Meta(
            description="The id of the last event that was read, as `Last-Event-ID`. `0` begins with the oldest kept."
        ),
    ] = None


class StreamEvent(Struct, frozen=True, kw_only=True):
    """What `data` of an event holds: a fact of `docs/reference/facts.schema.json`. `event` is its type, `id` its place.

    Besides facts there are `missed` (events were deleted before they could be sent: `from`, `to` are places) and
    `end` (the server ends this connection: `reason`).
    """

    type: str


@dataclass(frozen=True)
class Place:
    """Behind which event to go on: the `index`th of the message with that `sequence`; `None` is its last."""

    sequence: int
    index: int | None = None

    def passes(self, sequence: int, index: int) -> bool:
        """Whether that event comes behind this place."""
        return sequence > self.sequence or (sequence == self.sequence and self.index is not None and index > self.index)


class EventStreams:
    """The open connections. `hang_up` ends them all."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._open: set[asyncio.Task[None]] = set()
        self._following = 0

    def endpoints(self) -> list[Endpoint]:
        """The endpoints of this resource."""
        return [
            Endpoint(
                path="/events",
                name="followEvents",
                summary="Events as they come, as server-sent events that can be resumed",
                parameters=EventsParameters,
                answer=StreamEvent,
                serve=self.follow,
                kinds=(KIND,),
                also={503: "Too many follow already, or NATS does not answer."},
                examples=(Example("Failures as they happen", "type=task-failed"),),
            )
        ]

    async def hang_up(self) -> None:
        """End every connection."""
        await _end(set(self._open))

    async def follow(self, request: web.Request, given: EventsParameters) -> web.StreamResponse:
        """Send events until the client goes."""
        place = read_place(request.headers.get("Last-Event-ID") or given.after)
        if self._following >= MOST_CLIENTS:
            what = Problem(error="too-many", message=f"{MOST_CLIENTS} clients follow already.", hint="Try again later.")
            return replies.problem(503, what)
        self._following += 1
        try:
            state = await self._reading.bus.stream_state(subjects.EVENTS_STREAM)
            begin, missed = beginning(place, state)
            return await self._serve(request, given, begin, missed)
        except BusError as exc:
            return replies.problem(503, Problem(error="bus", message=str(exc), hint="Try again in a moment."))
        finally:
            self._following -= 1

    async def _serve(
        self, request: web.Request, given: EventsParameters, begin: Place, missed: tuple[int, int] | None
    ) -> web.StreamResponse:
        headers = {"Content-Type": KIND, "Cache-Control": replies.UNKEPT, "X-Accel-Buffering": "no"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        sending = Sending(request, response, matcher(given), bool(self._reading.settings.format_task))
        task = asyncio.create_task(self._send(sending, begin, missed), name=f"events for {request.remote}")
        self._open.add(task)
        try:
            await asyncio.wait({task})
        finally:
            self._open.discard(task)
            await _end({task})
        if not task.cancelled():
            task.result()
        return response

    async def _send(self, sending: "Sending", place: Place, missed: tuple[int, int] | None) -> None:
        subject = f"meadow.events.{self._reading.cluster}.>"
        after = max(place.sequence - 1, 0) if place.index is not None else place.sequence
        try:
            await sending.greet(missed)
            reading = self._reading.bus.read(subjects.EVENTS_STREAM, after=after, subject=subject)
            async with aclosing(reading) as batches:
                async for messages in batches:
                    await sending.send(messages, place)
        except TimeoutError:
            log.info(
                "A client of the event stream took nothing for %g s and was cut off.",
                PATIENCE,
                extra={"action": "events.slow"},
            )
            await sending.end("slow")
        except ConnectionError:
            log.debug("A client of the event stream went away.")
        except asyncio.CancelledError:
            await sending.end("stopping")
            raise


class Sending:
    """Writes to one client."""

    def __init__(
        self, request: web.Request, response: web.StreamResponse, wanted: Callable[[AnyFact], bool], hides: bool
    ) -> None:
        self._request, self._response = request, response
        self._wanted, self._hides = wanted, hides
        self._written = asyncio.get_running_loop().time()

    async def greet(self, missed: tuple[int, int] | None) -> None:
        """Say how long to wait before coming back, and what is gone."""
        await self._write(b"retry: 2000\n\n")
        if missed is not None:
            await self._write(_event("missed", {"from": missed[0], "to": missed[1]}))

    async def send(self, messages: Sequence[StreamMessage], place: Place) -> None:
        """Write the facts of these messages that come behind `place`; or a sign of life when there is nothing."""
        if messages:
            for piece in await asyncio.to_thread(lambda: list(self._pieces(messages, place))):
                await self._write(piece)
        elif asyncio.get_running_loop().time() - self._written > PING:
            await self._write(b": still here\n\n")

    async def end(self, reason: str) -> None:
        """Say why, if the client still listens, and close even if it does not."""
        transport = self._request.transport
        try:
            async with asyncio.timeout(FAREWELL):
                await self._response.write(_event("end", {"reason": reason}))
        except (TimeoutError, ConnectionError):
            log.debug("A client of the event stream did not take its farewell.")
        if transport is not None:
            transport.close()
            asyncio.get_running_loop().call_later(LINGER, transport.abort)

    def _pieces(self, messages: Sequence[StreamMessage], place: Place) -> Iterator[bytes]:
        for message in messages:
            try:
                batch = decode_batch(message.data)
            except InvalidMessage:  # told by the follower, which reads the same
                continue
            found = [
                _event(type_of(fact), self._shown(fact), f"{message.sequence}.{index}")
                for index, fact in enumerate(batch.events)
                if place.passes(message.sequence, index) and self._wanted(fact)
            ]
            if found:
                yield b"".join(found)

    def _shown(self, fact: AnyFact) -> Any:
        """The fact; without its texts where only whole tasks can be told what to hide in them."""
        if not self._hides:
            return fact
        fields = msgspec.to_builtins(fact)
        return {key: value for key, value in fields.items() if key not in (*TEXTS, "fields")}

    async def _write(self, data: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            await self._response.write(data)
        self._written = asyncio.get_running_loop().time()


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel the tasks until they have ended."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        # Python 3.11's wait_for, which reading from NATS goes through, can lose a cancellation: say it again.
        _, pending = await asyncio.wait(pending, timeout=0.5 + FAREWELL)


def matcher(given: EventsParameters) -> Callable[[AnyFact], bool]:
    """Whether an event is one of those that were asked for."""
    types = frozenset(given.type.split(",")) if given.type else None

    def wanted(fact: AnyFact) -> bool:
        return (
            (types is None or type_of(fact) in types)
            and (given.uuid is None or getattr(fact, "uuid", None) == given.uuid)
            and (given.worker is None or getattr(fact, "hostname", None) == given.worker)
        )

    return wanted


def read_place(text: str | None) -> Place | None:
    """The place that an event's id names; raises `Refused`."""
    if not text:
        return None
    sequence, _, index = text.partition(".")
    if not (sequence.isascii() and sequence.isdigit() and len(sequence) < 19 and len(index) < 10):
        raise _wrong_place(text)
    if index and not (index.isascii() and index.isdigit()):
        raise _wrong_place(text)
    return Place(int(sequence), int(index) if index else None)


def beginning(place: Place | None, state: StreamState) -> tuple[Place, tuple[int, int] | None]:
    """Behind which event to begin, and which messages of the stream are gone, from and to."""
    if place is None:
        return Place(state.last), None
    if place.sequence > state.last:  # the stream was made anew
        return Place(state.last), (place.sequence, state.last)
    gone = place.sequence and place.sequence + 1 < state.first
    return place, (place.sequence, state.first - 1) if gone else None


def _wrong_place(text: str) -> Exception:
    return refused(f"{text[:50]!r} is not the id of an event.", "Send the `id` of the last event, or `0`.", status=422)


def _event(name: str, data: Any, id: str | None = None) -> bytes:
    head = f"id: {id}\n" if id else ""
    safe = name.replace("\n", " ").replace("\r", " ")
    return f"{head}event: {safe}\ndata: ".encode("utf-8", "replace") + encode(data) + b"\n\n"
