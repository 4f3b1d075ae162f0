"""The Celery app whose events the collector's tests read. Its broker comes from the environment."""

import os
from typing import Any

from celery import Celery, Task

app = Celery("collector_app", broker=os.environ.get("COLLECTOR_BROKER", "memory://"))
app.conf.update(
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        name.removeprefix("COLLECTOR_OPTION_").lower(): value
        for name, value in os.environ.items()
        if name.startswith("COLLECTOR_OPTION_")
    },
)


@app.task(name="collector.add")
def add(x: int, y: int) -> int:
    """The sum."""
    return x + y


@app.task(name="collector.connect")
def connect(url: str, password: str = "") -> str:
    """Say where it connected to."""
    return f"connected to {url}"


@app.task(name="collector.fail", bind=True, max_retries=1, default_retry_delay=0)
def fail(self: "Task[Any, Any]", message: str) -> None:
    """Raise ValueError, twice."""
    raise self.retry(exc=ValueError(message))
