"""Work that blocks, in a thread of its own that cannot keep the process from ending; and tasks that have to end."""

import asyncio
import threading
from collections.abc import Callable, Iterable
from typing import Any

CANCEL_AGAIN = 0.2


async def ended(tasks: Iterable[asyncio.Task[Any]], deadline: float = 3.0) -> None:
    """Cancel the tasks and wait for them, at most `deadline` seconds; again and again, since nats-py may lose it."""
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline
    late = {task for task in tasks if not task.done()}
    while late and loop.time() < end:
        for task in late:
            task.cancel()
        _, late = await asyncio.wait(late, timeout=CANCEL_AGAIN)


async def in_thread(name: str, work: Callable[[], None]) -> None:
    """Run `work` in a daemon thread and wait for it; its error is raised here."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def body() -> None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as exc:  # noqa: BLE001 - it is raised again in the loop
            error = exc
        try:
            loop.call_soon_threadsafe(settle, error)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    threading.Thread(target=body, name=name, daemon=True).start()
    await done
