"""The edge to Celery: its remote control, its tasks and its result backend, for the event loop.

Blocking calls run in threads of their own kinds, so that slow ones of one kind do not hold up the others, and
Celery's, kombu's and the transports' exceptions become ours.
"""

import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

from celery import Celery
from celery.result import denied_join_result

from meadow.errors import BrokerUnavailable, MeadowError, Refused
from meadow_controller.remote_control import RemoteControl, Replies, is_outage
from meadow_controller.results import Results, TaskResult
from meadow_controller.threads import Threads

log = logging.getLogger(__name__)

T = TypeVar("T")

UNAVAILABLE = "Broker or result backend unavailable"
PATIENCE = 10.0
"""Seconds after which a call is given up although the connection's own time limits have not struck."""

OURS = ("connection", "producer", "publisher", "router", "result_cls", "task_type", "app", "args", "kwargs", "name")
"""Arguments of `apply_async` that are objects of the calling process, or that Meadow gives itself."""


class CeleryControl:
    """All that the controller does to Celery, as coroutines."""

    def __init__(self, app: Celery, *, accept_pickle: bool = False) -> None:
        self._app = app
        self._remote = RemoteControl(app, accept_pickle=accept_pickle)
        self._results = Results(app)
        calling = 1 if self._results.tied_to_thread else 4
        self._commands = Threads("celery-command", 4, prepare=app.set_current)
        self._inspections = Threads("celery-inspect", 2, prepare=app.set_current)
        self._calls = Threads("celery-call", calling, prepare=app.set_current)

    @property
    def has_backend(self) -> bool:
        """Whether the app keeps results."""
        return self._results.available

    def knows_task(self, name: str) -> bool:
        """Whether the app has a task of that name."""
        return name in self._app.tasks

    async def tell(self, method: str, arguments: Mapping[str, Any], workers: Sequence[str] | None = None) -> None:
        """Broadcast to these workers (`None`: all) without waiting; raises `BrokerUnavailable`."""
        await self._run(self._commands, lambda: self._remote.cast(method, arguments, workers))

    async def repeat(self, method: str, arguments: Mapping[str, Any]) -> None:
        """Broadcast to all workers, over a connection that is kept; raises `BrokerUnavailable`."""
        await self._run(self._inspections, lambda: self._remote.repeat(method, arguments))

    async def ask(self, method: str, arguments: Mapping[str, Any], worker: str, timeout: float) -> Any:
        """What this worker answers, or `None` when it does not within `timeout` seconds."""
        work = functools.partial(self._remote.ask, {method: arguments}, [worker], timeout)
        replies = await self._run(self._commands, work, within=PATIENCE + timeout)
        return replies.get(worker, {}).get(method)

    async def inspect(self, methods: Sequence[str], workers: Sequence[str] | None, timeout: float) -> Replies:
        """What these workers (`None`: all) answer to inspections within `timeout` seconds."""
        work = functools.partial(self._remote.ask, {method: {} for method in methods}, workers, timeout)
        return await self._run(self._inspections, work, within=PATIENCE + timeout)

    async def call(self, name: str, args: Sequence[Any], kwargs: Any, options: Mapping[str, Any], *, send: bool) -> str:
        """Publish a task and give its id. With `send` by its name alone, else as the app's registered task."""
        work = functools.partial(self._publish, name, args, kwargs, options, send=send)
        return await self._run(self._calls, work)

    async def result(self, task_id: str) -> TaskResult:
        """State and result of a task now."""
        return await self._run(self._calls, lambda: self._results.read(task_id))

    async def abort(self, task_id: str) -> None:
        """Write the state ABORTED into the result backend."""
        await self._run(self._calls, lambda: self._results.abort(task_id))

    def stop(self) -> None:
        """Take no more work. May be called twice."""
        for threads in (self._commands, self._inspections, self._calls):
            threads.stop()
        self._remote.close()

    def _publish(self, name: str, args: Sequence[Any], kwargs: Any, options: Mapping[str, Any], *, send: bool) -> str:
        forbidden = sorted(set(OURS) & set(options))
        if forbidden:
            raise Refused("invalid", f"The option {forbidden[0]!r} cannot be given from outside.")
        chosen = {key: value for key, value in options.items() if key not in ("retry", "retry_policy")}
        # Celery would subscribe to each result and never let go of it; results are read when they are asked for.
        unsubscribed = nullcontext() if self._results.tied_to_thread else denied_join_result()
        with self._remote.connection() as connection, unsubscribed:
            connection.default_channel  # noqa: B018 -- connects, so that an outage is not taken for a wrong call
            how = functools.partial(self._app.send_task, name) if send else self._app.tasks[name].apply_async
            try:
                return str(how(args=args, kwargs=kwargs, connection=connection, retry=False, **chosen).id)
            except Exception as exc:
                if is_outage(exc):
                    raise
                raise Refused("failed", f"The task was not sent: {type(exc).__name__}: {exc}") from exc

    async def _run(self, threads: Threads, work: Callable[[], T], *, within: float = PATIENCE) -> T:
        with _translated():
            return await threads.run(work, within=within)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except MeadowError:
        raise
    except Exception as exc:
        if is_outage(exc):
            log.debug("Celery: %s: %s", type(exc).__name__, exc)
            raise BrokerUnavailable(UNAVAILABLE) from exc
        log.exception("Celery failed in a way that Meadow does not know.", extra={"action": "celery.failed"})
        raise Refused("failed", f"Celery raised {type(exc).__name__}: {exc}") from exc
