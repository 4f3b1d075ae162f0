"""The Celery app that the replay drives over HTTP: each of its tasks shows one state.

Its settings come from the environment: REPLAY_BROKER, REPLAY_BACKEND (without it there are no results),
REPLAY_SENT_EVENT and REPLAY_POOL_RESTARTS ("1": on).
"""

import os
import time
from datetime import UTC, datetime
from typing import Any

from celery import Celery, chain, group
from celery.contrib.abortable import AbortableTask
from celery.exceptions import Ignore, Reject

app = Celery("proj", broker=os.environ["REPLAY_BROKER"], backend=os.environ.get("REPLAY_BACKEND") or None)
app.conf.update(
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    timezone="UTC",
    enable_utc=True,
    broker_connection_retry_on_startup=True,
    worker_pool_restarts=os.environ.get("REPLAY_POOL_RESTARTS") == "1",
    task_send_sent_event=os.environ.get("REPLAY_SENT_EVENT") == "1",
    worker_prefetch_multiplier=1,
    task_default_queue="celery",
)


@app.task(name="proj.add")
def add(x: int, y: int) -> int:
    return x + y


@app.task(name="proj.echo")
def echo(*args: Any, **kwargs: Any) -> dict[str, Any]:
    return {"args": list(args), "kwargs": kwargs}


@app.task(name="proj.big")
def big(payload: str, size: int = 0) -> str:
    return payload[:10] + "r" * size


@app.task(name="proj.fail")
def fail(message: str = "boom") -> None:
    raise ValueError(message)


@app.task(name="proj.sleep")
def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@app.task(name="proj.now")
def now() -> datetime:
    """A result that comes back as a datetime, which JSON cannot hold."""
    return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@app.task(name="proj.retry_then_ok", bind=True, max_retries=5)
def retry_then_ok(self: Any, times: int = 2) -> int:
    if self.request.retries < times:
        raise self.retry(exc=RuntimeError("not yet"), countdown=0.2)
    return int(self.request.retries)


@app.task(name="proj.retry_later", bind=True, max_retries=5)
def retry_later(self: Any) -> None:
    """The next try waits in a queue without a consumer, so that it is not received again."""
    raise self.retry(exc=RuntimeError("come back in an hour"), countdown=3600, queue="parked")


@app.task(name="proj.reject", bind=True, acks_late=True)
def reject(self: Any) -> None:
    raise Reject("no thanks", requeue=False)


@app.task(name="proj.ignore", bind=True)
def ignore(self: Any) -> None:
    raise Ignore


@app.task(name="proj.abortable", bind=True, base=AbortableTask)
def abortable(self: Any, seconds: float = 20) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if self.is_aborted():
            return "aborted"
        time.sleep(0.1)
    return "not aborted"


@app.task(name="proj.progress", bind=True)
def progress(self: Any, hold: float = 0) -> str:
    """Sends an event of a type that Celery does not know: Flower shows it as a state of its own."""
    self.send_event("task-progress", percent=50)
    time.sleep(hold)
    return "done"


@app.task(name="proj.spawn_chain", bind=True)
def spawn_chain(self: Any, first: str, second: str) -> list[str]:
    chain(add.s(1, 2).set(task_id=first), add.s(10).set(task_id=second)).apply_async()
    return [first, second]


@app.task(name="proj.spawn_group", bind=True)
def spawn_group(self: Any, members: list[str]) -> list[str]:
    group(add.s(i, i).set(task_id=member) for i, member in enumerate(members)).apply_async()
    return list(members)


@app.task(name="proj.spawn_failing_child", bind=True)
def spawn_failing_child(self: Any, child: str) -> str:
    fail.apply_async(args=["child failed"], task_id=child)
    return child
