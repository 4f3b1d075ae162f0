"""Reads the result backend. Everything here blocks.

Celery rebuilds the exception of a failed task from names that stand in the backend, which was a way to run code
(CVE-2021-23727), and unpickles results where it is told to. Here, what is stored stays data.
"""

import json
import threading
from dataclasses import dataclass
from typing import Any

from celery import Celery, states
from celery.app import backends
from celery.backends.base import DisabledBackend
from kombu.exceptions import ContentDisallowed

from meadow.errors import Refused

SAFE_TYPES = frozenset({"application/json", "application/x-yaml", "application/x-msgpack"})
PICKLED = (
    "The result backend holds pickled results, and Meadow unpickles nothing that others have written. "
    "Set result_serializer to json."
)
ONCE_MORE = {"max_retries": 1, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.1}
EXCEPTION_STATES = frozenset({"FAILURE", "RETRY", "REVOKED"})


@dataclass(frozen=True)
class TaskResult:
    """`result` is what JSON can hold, or its repr. Both are `None` until the task is `ready`."""

    state: str
    ready: bool = False
    result: Any = None
    traceback: str | None = None


class Results:
    """The result backend of one app. Each thread has a connection of its own."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._local = threading.local()
        backend = app.backend
        self.available = not isinstance(backend, DisabledBackend)
        self.tied_to_thread = "celery.backends.rpc" in _modules(backend)
        """Whether only the thread that has sent a task can read its result."""

    def read(self, task_id: str) -> TaskResult:
        """The task's state and result; an unknown task is PENDING. Raises `Refused` for pickled results."""
        try:
            meta = self._backend().get_task_meta(task_id)
        except ContentDisallowed as exc:
            raise Refused("unavailable", PICKLED) from exc
        state = str(meta.get("status") or states.PENDING)
        if state not in states.READY_STATES:
            return TaskResult(state)
        result, traceback = meta.get("result"), meta.get("traceback")
        if state in EXCEPTION_STATES:
            result = exception_repr(result)
        return TaskResult(state, True, encodable(result), traceback if isinstance(traceback, str) else None)

    def abort(self, task_id: str) -> None:
        """Write the state that an `AbortableTask` looks for."""
        self._backend().store_result(task_id, None, "ABORTED", traceback=None)

    def _backend(self) -> Any:
        found = getattr(self._local, "backend", None)
        if found is None:
            found = self._local.backend = self._make()
        return found

    def _make(self) -> Any:
        factory, url = backends.by_url(self._app.backend_cls or self._app.conf.result_backend, self._app.loader)
        careful = type(factory.__name__, (factory,), {"retry_policy": ONCE_MORE, "meta_from_decoded": _as_it_is})
        backend: Any = careful(app=self._app, url=url)
        backend.always_retry = False
        backend.accept = frozenset(backend.accept or ("application/json",)) & SAFE_TYPES
        if "celery.backends.database" in _modules(backend):
            if not hasattr(backend, "_decode_stored_result"):  # before Celery 5.7 the column itself was a pickle
                raise Refused("unavailable", PICKLED)
            backend._decode_stored_result = lambda payload: None if payload is None else backend.decode(payload)
        return backend


def _as_it_is(_: Any, meta: dict[str, Any]) -> dict[str, Any]:
    """In place of the method that would rebuild exceptions."""
    return meta


def _modules(backend: Any) -> set[str]:
    return {kind.__module__ for kind in type(backend).__mro__}


def exception_repr(stored: Any) -> Any:
    """What `repr` of the stored exception would be, without making one.

    >>> exception_repr({"exc_type": "ValueError", "exc_message": ["boom"], "exc_module": "builtins"})
    "ValueError('boom')"
    """
    if not isinstance(stored, dict) or "exc_type" not in stored:
        return stored
    name = str(stored["exc_type"]).rpartition(".")[2]
    message = stored.get("exc_message", "")
    arguments = message if isinstance(message, (list, tuple)) else [message]
    return f"{name}({', '.join(map(repr, arguments))})"


def encodable(value: Any) -> Any:
    """The value where JSON can hold it, else its repr, as Flower gives it."""
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return repr(value)
    return value
