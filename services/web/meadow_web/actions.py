"""Every button: which wish it sends, and what its form has to say. One table, one handler (`doing.py`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from meadow.commands import (
    AddConsumer,
    AnyCommand,
    Autoscale,
    CancelConsumer,
    GrowPool,
    RestartPool,
    RevokeTask,
    SendTask,
    SetRateLimit,
    SetTimeLimits,
    ShrinkPool,
    ShutdownWorker,
)
from meadow_web.run_again import from_json

SIGNALS = ("SIGTERM", "SIGKILL", "SIGINT", "SIGHUP", "SIGUSR1")
LONGEST = 1000


class BadForm(Exception):
    """The form cannot become a wish; the message says what to correct."""


class BadCall(BadForm):
    """What was typed for the arguments cannot be sent; `call` is the wish without them."""

    def __init__(self, message: str, call: SendTask) -> None:
        super().__init__(message)
        self.call = call


@dataclass(frozen=True)
class Form:
    """The fields of a posted form."""

    fields: Mapping[str, str]

    def text(self, name: str, label: str) -> str:
        """A text that must not be empty."""
        value = self.fields.get(name, "").strip()
        if not value:
            raise BadForm(f"{label} is missing. Go back and fill it in.")
        if len(value) > LONGEST:
            raise BadForm(f"{label} is longer than {LONGEST} characters.")
        return value

    def whole(self, name: str, label: str, least: int) -> int:
        """A whole number of at least `least`."""
        text = self.text(name, label)
        if not text.isdecimal() or len(text) > 6 or int(text) < least:
            raise BadForm(f"{label} has to be a whole number from {least} up, not '{text[:50]}'.")
        return int(text)

    def seconds(self, name: str, label: str) -> float | None:
        """Seconds, or nothing."""
        text = self.fields.get(name, "").strip()
        if not text:
            return None
        try:
            value = float(text)
        except ValueError as exc:
            raise BadForm(f"{label} has to be a number of seconds, not '{text[:50]}'.") from exc
        if not 0 < value < 1e9:
            raise BadForm(f"{label} has to be more than 0 seconds.")
        return value

    def json(self, name: str, label: str, kind: type[list[Any]] | type[dict[str, Any]]) -> Any:
        """JSON whose outermost value is of that kind; nothing at all is an empty one."""
        try:
            value = from_json(self.fields.get(name, "").strip() or ("[]" if kind is list else "{}"))
        except ValueError as exc:
            raise BadForm(f"{label} are not JSON that can be sent: {exc}.") from exc
        if not isinstance(value, kind):
            wanted = "array, like [1, 2]" if kind is list else 'object, like {"x": 1}'
            raise BadForm(f"{label} have to be a JSON {wanted}.")
        return value

    def signal(self) -> str:
        """A signal by its name."""
        name = self.fields.get("signal", "").strip().upper() or SIGNALS[0]
        if name not in SIGNALS:
            raise BadForm(f"The signal has to be one of {', '.join(SIGNALS)}.")
        return name


@dataclass(frozen=True)
class Action:
    """`title` heads the confirmation, `label` is on its button; `danger` puts it in its own colour;
    `asks_call` lets the arguments of a task be edited before it is sent."""

    title: str
    label: str
    command: Callable[[Form], AnyCommand]
    danger: bool = False
    asks_signal: bool = False
    asks_call: bool = False


def _worker(form: Form) -> str:
    return form.text("worker", "The worker")


def _autoscale(form: Form) -> AnyCommand:
    least, most = form.whole("min", "The minimum", 0), form.whole("max", "The maximum", 1)
    if least > most:
        raise BadForm(f"The minimum ({least}) is more than the maximum ({most}).")
    return Autoscale(worker=_worker(form), min=least, max=most)


def _time_limits(form: Form) -> AnyCommand:
    return SetTimeLimits(
        worker=_worker(form),
        task=form.text("task", "The task"),
        soft=form.seconds("soft", "The soft time limit"),
        hard=form.seconds("hard", "The hard time limit"),
    )


def _run_again(form: Form) -> AnyCommand:
    queue = form.fields.get("queue", "").strip()
    call = SendTask(
        task=form.text("task", "The task"), options={"queue": form.text("queue", "The queue")} if queue else {}
    )
    try:
        args = form.json("args", "The arguments", list)
        kwargs = form.json("kwargs", "The keyword arguments", dict)
    except BadForm as exc:
        raise BadCall(str(exc), call) from exc
    return replace(call, args=args, kwargs=kwargs)


ACTIONS: dict[str, Action] = {
    "revoke": Action("Revoke this task?", "Revoke", lambda f: RevokeTask(task_id=f.text("task_id", "The task"))),
    "terminate": Action(
        "Terminate this task?",
        "Terminate",
        lambda f: RevokeTask(task_id=f.text("task_id", "The task"), terminate=True, signal=f.signal()),
        danger=True,
        asks_signal=True,
    ),
    "run-again": Action("Run this task again?", "Run again", _run_again, asks_call=True),
    "shutdown": Action("Shut down this worker?", "Shut down", lambda f: ShutdownWorker(worker=_worker(f)), danger=True),
    "pool-restart": Action(
        "Restart this worker's pool?", "Restart pool", lambda f: RestartPool(worker=_worker(f)), danger=True
    ),
    "pool-grow": Action(
        "Grow the pool?", "Grow", lambda f: GrowPool(worker=_worker(f), n=f.whole("n", "The number of processes", 1))
    ),
    "pool-shrink": Action(
        "Shrink the pool?",
        "Shrink",
        lambda f: ShrinkPool(worker=_worker(f), n=f.whole("n", "The number of processes", 1)),
        danger=True,
    ),
    "autoscale": Action("Change the autoscaling range?", "Apply", _autoscale),
    "add-consumer": Action(
        "Add a consumer?",
        "Add consumer",
        lambda f: AddConsumer(worker=_worker(f), queue=f.text("queue", "The queue")),
    ),
    "cancel-consumer": Action(
        "Cancel this consumer?",
        "Cancel consumer",
        lambda f: CancelConsumer(worker=_worker(f), queue=f.text("queue", "The queue")),
        danger=True,
    ),
    "rate-limit": Action(
        "Change the rate limit?",
        "Apply",
        lambda f: SetRateLimit(
            worker=_worker(f), task=f.text("task", "The task"), rate=f.text("rate", "The rate limit")
        ),
    ),
    "time-limit": Action("Change the time limits?", "Apply", _time_limits),
}
