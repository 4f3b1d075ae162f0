"""The Celery app that the controller's tests control. Its servers come from the environment."""

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

from celery import Celery, Task
from celery.contrib.abortable import AbortableTask

app = Celery(
    "control_app", broker=os.environ.get("CONTROL_BROKER", "memory://"), backend=os.environ.get("CONTROL_BACKEND")
)
app.conf.update(
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    enable_utc=True,
    timezone="UTC",
    broker_connection_retry_on_startup=True,
    worker_pool_restarts=os.environ.get("CONTROL_POOL_RESTARTS") == "1",
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    task_send_sent_event=False,
    broker_transport_options=json.loads(os.environ.get("CONTROL_TRANSPORT_OPTIONS", "{}")),
)


@app.task(name="control.add")
def add(x: int, y: int) -> int:
    """The sum."""
    return x + y


@app.task(name="control.fail")
def fail(message: str) -> None:
    """Raise ValueError."""
    raise ValueError(message)


@app.task(name="control.sleep")
def sleep(seconds: float) -> float:
    """Do nothing for a while."""
    time.sleep(seconds)
    return seconds


@app.task(name="control.now")
def now() -> datetime:
    """What JSON cannot hold."""
    return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@app.task(name="control.mark")
def mark(path: str) -> None:
    """Leave a file behind."""
    Path(path).write_text("ran", encoding="utf-8")


@app.task(name="control.patient", bind=True, base=AbortableTask)
def patient(self: "Task[..., str]", seconds: float) -> str:
    """Wait until somebody aborts it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if self.is_aborted():  # type: ignore[attr-defined]
            return "aborted"
        time.sleep(0.05)
    return "not aborted"
