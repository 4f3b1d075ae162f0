"""Asking the other services over the bus: the api for what is known, the controller for what is wished."""

import asyncio
from typing import TypeVar

from aiohttp import web
from msgspec import Struct

from meadow import subjects
from meadow.access.gate import Gate
from meadow.bus import Bus
from meadow.codec import decode, encode
from meadow.commands import AnyCommand, CommandReply, CommandRequest
from meadow.errors import AnswerTimedOut, BusError, InvalidMessage, MeadowError, NobodyAnswers
from meadow.queries import QUERIES, Failure, Query

A = TypeVar("A", bound=Struct)

NAMES = {question: name for name, (question, _) in QUERIES.items()}
ANSWER_SECONDS = 10.0
COMMAND_SECONDS = 30.0
LOOKS = 40
NO_NATS = "NATS cannot be reached, so no other service can be asked."
LOOK_SECONDS = 0.05


class NoAnswer(MeadowError):
    """Another service did not answer; the message says which, why and what to do."""


class QuestionInvalid(NoAnswer):
    """The api runs, and finds fault with the question."""


class Ask:
    """Puts questions and wishes of one cluster on the bus."""

    def __init__(self, bus: Bus, cluster: str, gate: Gate) -> None:
        self._bus = bus
        self._gate = gate
        self.cluster = cluster

    async def api(self, query: Query, answer: type[A]) -> A:
        """The api's answer to a question; raises `NoAnswer`."""
        data = await self._ask(subjects.query(NAMES[type(query)]), encode(query), "api", ANSWER_SECONDS)
        try:
            if data.startswith(b'{"error"'):  # the first key of a Failure, and of no answer
                failure = decode(data, Failure)
                if failure.invalid:
                    raise QuestionInvalid(failure.error)
                raise NoAnswer(f"The api could not answer: {failure.error}")
            return decode(data, answer)
        except InvalidMessage as exc:
            raise NoAnswer("The api answers in a form that web does not know. Run the same release of both.") from exc

    async def controller(self, request: web.Request, command: AnyCommand, reason: str = "") -> CommandReply:
        """What became of a wish that the sender of `request` has; raises `NoAnswer`."""
        wish = CommandRequest(
            cluster=self.cluster,
            command=command,
            claim=self._gate.claim(request),
            source=self._gate.source(request),
            reason=reason,
        )
        data = await self._ask(subjects.command(self.cluster), encode(wish), "controller", COMMAND_SECONDS)
        try:
            return decode(data, CommandReply)
        except InvalidMessage as exc:
            raise NoAnswer("The controller answers in a form that web does not know. Run the same release.") from exc

    async def _connected(self) -> bool:
        """Whether NATS can be reached, at once or soon."""
        for _ in range(LOOKS):
            if self._bus.connected:
                return True
            await asyncio.sleep(LOOK_SECONDS)
        return self._bus.connected

    async def _ask(self, subject: str, data: bytes, service: str, seconds: float) -> bytes:
        if not await self._connected():
            raise NoAnswer(f"{NO_NATS} What is known is safe, and comes back with it.")
        try:
            return await self._bus.ask(subject, data, timeout=seconds)
        except NobodyAnswers as exc:
            raise NoAnswer(
                f"The {service} does not run. Start it: 'meadow run {service}' on the same NATS, "
                "or 'meadow serve' for all services at once."
            ) from exc
        except AnswerTimedOut as exc:
            if not self._bus.connected:
                raise NoAnswer(NO_NATS) from exc
            raise NoAnswer(
                f"The {service} did not answer within {seconds:g} s. Its log says what it waits for."
            ) from exc
        except BusError as exc:
            raise NoAnswer(f"NATS cannot be reached, so nothing can be asked of the {service}: {exc}") from exc
