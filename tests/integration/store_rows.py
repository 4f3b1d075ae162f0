"""Rows of tasks for tests of the store that need no events."""

from typing import Any

from meadow_api.store.schema import NO_NUMBER


def task_row(number: int, *, at: float = 1000.0, state: str = "SUCCESS", **more: Any) -> dict[str, Any]:
    """One task of cluster 1, received, started and last heard of at `at`."""
    row = {"cluster": 1, "uuid": f"task-{number}", "name": "proj.add", "worker": "w1@h", "state": state}
    times = {"timestamp": at, "received": at, "started": at, "runtime": NO_NUMBER}
    return {**row, **times, **more}
