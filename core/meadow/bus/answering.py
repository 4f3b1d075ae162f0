"""How questions that come over NATS are answered: many at the same time, none for an asker who has given up."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

log = logging.getLogger(__name__)

Handler = Callable[[bytes], Awaitable[bytes]]

PATIENCE = "Meadow-Patience"
"""Header of a question: for how many seconds its asker waits."""
LONGEST_PATIENCE = 600.0
MOST_UNDER_WAY = 64
MOST_WAITING = 1000


class Answering:
    """Answers questions on some subjects until it is stopped.

    So many answers are under way at once; further questions wait, each as long as its asker does. What is too much is
    left unanswered and counted in `refused`.
    """

    def __init__(self) -> None:
        self.refused = 0
        self._places = asyncio.Semaphore(MOST_UNDER_WAY)
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscriptions: list[Subscription] = []

    async def listen(self, client: Client, subject: str, handler: Handler, group: str) -> None:
        """Hear what is asked on the subject, as one of the group."""

        async def heard(message: Msg) -> None:
            if len(self._tasks) >= MOST_WAITING:
                self._refuse()
                return
            until = asyncio.get_running_loop().time() + patience_of(message.headers)
            task = asyncio.create_task(self._answer(message, handler, until), name=f"answer {message.subject}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._subscriptions.append(await client.subscribe(subject, queue=group, cb=heard))

    async def stop(self) -> None:
        """Be asked no more. What was heard is still answered."""
        for subscription in self._subscriptions:
            try:
                await subscription.unsubscribe()
            except NatsError as exc:
                log.debug("A subscription was already gone: %s", exc)
        self._subscriptions.clear()

    async def finished(self, timeout: float) -> None:
        """Wait for the answers under way, so long at most."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)

    async def _answer(self, message: Msg, handler: Handler, until: float) -> None:
        try:
            async with asyncio.timeout_at(until):
                await self._places.acquire()
        except TimeoutError:
            log.debug("Whoever asked on %s has given up before it was answered.", message.subject)
            return
        try:
            await message.respond(await handler(message.data))
        except NatsError as exc:
            reason = str(exc) or type(exc).__name__
            log.warning("An answer on %s was lost: %s", message.subject, reason, extra={"action": "bus.lost"})
        except Exception:
            log.exception("A question on %s was not answered.", message.subject, extra={"action": "bus.answer"})
        finally:
            self._places.release()

    def _refuse(self) -> None:
        if not self.refused:
            log.error(
                "More than %d questions wait for an answer; further ones are left unanswered.",
                MOST_WAITING,
                extra={"action": "bus.refused"},
            )
        self.refused += 1


def patience_of(headers: dict[str, str] | None) -> float:
    """For how many seconds an asker waits, as far as the headers tell.

    >>> patience_of({PATIENCE: "2.5"}), patience_of(None), patience_of({PATIENCE: "nan"})
    (2.5, 600.0, 600.0)
    """
    try:
        seconds = float((headers or {})[PATIENCE])
    except (KeyError, ValueError):
        return LONGEST_PATIENCE
    return seconds if 0.0 <= seconds <= LONGEST_PATIENCE else LONGEST_PATIENCE
