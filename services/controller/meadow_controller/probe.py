"""What `meadow doctor` wants to know of a Celery app's surroundings. Everything here blocks, for seconds at most."""

import socket
import time
from typing import Any

PING_SECONDS = 2.0


def broker_problem(app: Any) -> str | None:
    """Why the broker cannot be reached, or `None` when it can."""
    with app.connection_for_read(connect_timeout=3) as connection:
        try:
            connection.ensure_connection(max_retries=1, timeout=3)
        except Exception as exc:  # noqa: BLE001 -- every transport has errors of its own, and all are the answer
            return f"{type(exc).__name__}: {exc}"
    return None


def answering_workers(app: Any) -> list[str]:
    """The workers that answer a ping."""
    return [name for reply in app.control.ping(timeout=PING_SECONDS) for name in reply]


def event_types(app: Any, patience: float) -> set[str]:
    """Types of the events that arrive while workers are asked for heartbeats; returns at the first ones."""
    seen: set[str] = set()
    end = time.monotonic() + patience
    app.control.enable_events()
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": lambda event: seen.add(event["type"])})
        while not seen and time.monotonic() < end:
            try:
                receiver.capture(limit=1, timeout=1, wakeup=True)
            except (TimeoutError, socket.timeout):  # noqa: UP041
                continue
    return seen
