"""What a worker answered to inspections, as tables. Workers are strangers: any answer may have any shape."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meadow_web.formats import clip

Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class TaskLine:
    """A task that the worker holds: active, reserved or scheduled."""

    uuid: str
    name: str
    args: str
    kwargs: str
    acknowledged: bool | None = None
    pid: str = ""
    started: float | None = None
    eta: str = ""


@dataclass(frozen=True)
class TaskLimit:
    """A registered task; `rate` is its rate limit where the worker told."""

    name: str
    rate: str = ""


class Inspection:
    """Reads the answers by Celery's names (`stats`, `active`, …)."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self._answers = answers
        self.stats = as_mapping(answers.get("stats"))
        self.conf = as_mapping(answers.get("conf"))

    @property
    def known(self) -> bool:
        """Whether the worker ever told about itself."""
        return bool(self.stats)

    @property
    def pool(self) -> Rows:
        """What the worker says of its pool, its process and its prefetching."""
        extra = {"worker pid": self.stats.get("pid"), "prefetch count": self.stats.get("prefetch_count")}
        return rows({**as_mapping(self.stats.get("pool")), **extra})

    @property
    def pool_size(self) -> int | None:
        """How many processes there are now; `max-concurrency` does not follow when a pool grows."""
        pool = as_mapping(self.stats.get("pool"))
        processes = as_list(pool.get("processes"))
        size = len(processes) or pool.get("max-concurrency")
        return size if isinstance(size, int) and not isinstance(size, bool) else None

    @property
    def implementation(self) -> str:
        """`prefork`, `threads`, `gevent`, `solo`."""
        path = str(as_mapping(self.stats.get("pool")).get("implementation") or "")
        return path.partition(":")[0].rpartition(".")[2].rpartition("_")[2] or path

    @property
    def autoscaler(self) -> Rows:
        return rows(as_mapping(self.stats.get("autoscaler")))

    @property
    def broker(self) -> Rows:
        return rows(as_mapping(self.stats.get("broker")))

    @property
    def system(self) -> Rows:
        return rows(as_mapping(self.stats.get("rusage")))

    @property
    def other(self) -> Rows:
        """The rest of the statistics."""
        shown = {"pool", "broker", "rusage", "autoscaler", "total", "prefetch_count", "pid"}
        return rows({key: value for key, value in self.stats.items() if key not in shown})

    @property
    def totals(self) -> Rows:
        """Tasks processed, by name, most first."""
        totals = {str(name): count for name, count in as_mapping(self.stats.get("total")).items()}
        by_count = sorted(totals, key=lambda name: (-(totals[name] if isinstance(totals[name], int) else 0), name))
        return [(name, shown(totals[name])) for name in by_count]

    @property
    def queues(self) -> list[Mapping[str, Any]]:
        return [as_mapping(queue) for queue in as_list(self._answers.get("active_queues"))]

    @property
    def config(self) -> Rows:
        """Every setting that is not null."""
        return rows({key: value for key, value in sorted(self.conf.items()) if value is not None})

    @property
    def pool_restarts(self) -> bool:
        return self.conf.get("worker_pool_restarts") is True

    @property
    def limits(self) -> list[TaskLimit]:
        """The registered tasks; Celery writes `proj.add [rate_limit=10/m]`."""
        lines = [str(line).partition(" [") for line in as_list(self._answers.get("registered"))]
        return [TaskLimit(name, rest.rstrip("]").removeprefix("rate_limit=")) for name, _, rest in sorted(lines)]

    def tasks(self, method: str) -> list[TaskLine]:
        """The tasks that `active`, `reserved` or `scheduled` named."""
        return [task_line(as_mapping(entry)) for entry in as_list(self._answers.get(method))]

    @property
    def revoked(self) -> list[str]:
        return [str(entry) for entry in as_list(self._answers.get("revoked"))]


def task_line(entry: Mapping[str, Any]) -> TaskLine:
    """One entry; those of `scheduled` have the task inside a `request`."""
    request = as_mapping(entry.get("request")) or entry
    acknowledged, started = request.get("acknowledged"), request.get("time_start")
    return TaskLine(
        uuid=str(request.get("id") or ""),
        name=str(request.get("name") or request.get("type") or ""),
        args=clip(str(request.get("args") or "")),
        kwargs=clip(str(request.get("kwargs") or "")),
        acknowledged=acknowledged if isinstance(acknowledged, bool) else None,
        pid=shown(request.get("worker_pid")),
        started=float(started) if isinstance(started, int | float) else None,
        eta=shown(entry.get("eta")),
    )


def rows(mapping: Mapping[str, Any]) -> Rows:
    """A mapping as lines of a table, its keys as words."""
    return [(str(key), shown(value)) for key, value in mapping.items()]


def shown(value: Any) -> str:
    """A value as text: lists of plain values with commas, the rest as Python writes it."""
    if value is None:
        return "–"
    if isinstance(value, list) and value and all(isinstance(item, str | int | float) for item in value):
        return ", ".join(str(item) for item in value)
    return str(value)


def as_mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
