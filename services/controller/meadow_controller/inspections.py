"""Asks workers what they are doing, once for all who want to know at the same time."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from meadow.commands import INSPECT_METHODS
from meadow.errors import Refused
from meadow.events import WorkerInspected


@dataclass(frozen=True)
class Answer:
    """One worker's answer to one inspection: plain, without secrets. `cut` says what of it was left out."""

    value: Any
    cut: str = ""
    at: float = 0.0


Ask = Callable[[Sequence[str], Sequence[str] | None, float], Awaitable[dict[str, dict[str, Answer]]]]
"""Methods, workers (`None`: all), seconds to wait → worker → method → answer."""

Publish = Callable[[Sequence[WorkerInspected]], Awaitable[None]]

Workers = tuple[str, ...] | None

KEPT_WORKERS = 2_000
KEPT_SECONDS = 60.0
LONGEST_WAIT = 30.0
MOST_NAMES = 1_000


@dataclass(frozen=True)
class Round:
    """Questions under way. `at` is when they were asked."""

    at: float
    task: "asyncio.Task[None]"


class Inspections:
    """Coalesces questions: an answer under way, or young enough, is shared. Each new answer is published."""

    def __init__(self, ask: Ask, publish: Publish, clock: Callable[[], float]) -> None:
        self._ask = ask
        self._publish = publish
        self._clock = clock
        self._rounds: dict[tuple[Workers, str], Round] = {}
        self._asked: dict[str, float] = {}  # when all workers were last asked this, successfully
        self._answers: OrderedDict[str, dict[str, Answer]] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    async def inspect(
        self, methods: Sequence[str], workers: Workers, *, max_age: float, timeout: float
    ) -> dict[str, dict[str, Any]]:
        """Worker → method → answer, with `timestamp`; raises `BrokerUnavailable` and `Refused`."""
        wanted = tuple(dict.fromkeys(methods))
        unknown = [method for method in wanted if method not in INSPECT_METHODS]
        if unknown or not wanted:
            raise Refused("invalid", f"{unknown} is not among the inspections {', '.join(INSPECT_METHODS)}.")
        if workers is not None and len(workers) > MOST_NAMES:
            raise Refused("invalid", f"At most {MOST_NAMES} workers can be asked by their names at a time.")
        names = None if workers is None else tuple(sorted(set(workers)))
        since = {method: self._young(method, names, max_age) for method in wanted}
        missing = tuple(method for method in wanted if since[method] is None)
        for method, round_ in self._ask_for(missing, names, min(timeout, LONGEST_WAIT)).items():
            await self._share(round_)
            since[method] = round_.at
        return self._collect({method: at for method, at in since.items() if at is not None}, names)

    async def _share(self, round_: Round) -> None:
        try:
            await asyncio.shield(round_.task)
        except asyncio.CancelledError as exc:
            if not round_.task.cancelled():
                raise
            raise Refused("unavailable", "The controller is stopping.") from exc

    def _ask_for(self, methods: tuple[str, ...], workers: Workers, timeout: float) -> dict[str, Round]:
        new = tuple(method for method in methods if (workers, method) not in self._rounds)
        if new:
            task = asyncio.create_task(self._run(new, workers, timeout), name=f"inspect {', '.join(new)}")
            self._tasks.add(task)
            task.add_done_callback(self._ended)
            round_ = Round(self._clock(), task)
            self._rounds.update({(workers, method): round_ for method in new})
        return {method: self._rounds[workers, method] for method in methods}

    async def _run(self, methods: tuple[str, ...], workers: Workers, timeout: float) -> None:
        asked = self._clock()
        try:
            replies = await self._ask(methods, workers, timeout)
        finally:
            for method in methods:
                del self._rounds[workers, method]
        now = self._clock()
        if workers is None:
            self._asked.update(dict.fromkeys(methods, asked))
        for worker, answers in replies.items():
            self._keep(worker, answers, now)
        await self._publish(
            [WorkerInspected(hostname=worker, seen=now, replies=told(answers)) for worker, answers in replies.items()]
        )

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked has had it; nobody may be left

    def _keep(self, worker: str, answers: dict[str, Answer], now: float) -> None:
        kept = self._answers.setdefault(worker, {})
        kept.update({method: replace(answer, at=now) for method, answer in answers.items()})
        self._answers.move_to_end(worker)
        while self._answers:
            oldest, its = next(iter(self._answers.items()))
            too_old = max(answer.at for answer in its.values()) < now - KEPT_SECONDS if its else True
            if not too_old and len(self._answers) <= KEPT_WORKERS:
                break
            del self._answers[oldest]

    def _young(self, method: str, workers: Workers, max_age: float) -> float | None:
        """Since when there are answers to this that may be served again."""
        oldest = self._clock() - min(max_age, KEPT_SECONDS)
        if max_age <= 0:
            return None
        asked = self._asked.get(method)
        if asked is not None and asked >= oldest:
            return asked
        if workers is None:
            return None
        times = [self._answers.get(worker, {}).get(method) for worker in workers]
        if all(answer is not None and answer.at >= oldest for answer in times):
            return oldest
        return None

    def _collect(self, since: dict[str, float], workers: Workers) -> dict[str, dict[str, Any]]:
        result: dict[str, dict[str, Any]] = {}
        for worker in sorted(self._answers) if workers is None else workers:
            kept = self._answers.get(worker, {})
            young = {method: kept[method] for method, at in since.items() if method in kept and kept[method].at >= at}
            if young:
                result[worker] = {**told(young), "timestamp": max(answer.at for answer in young.values())}
        return result

    async def stop(self) -> None:
        """Give up what is under way. May be called twice."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=1.0)


def told(answers: Mapping[str, Answer]) -> dict[str, Any]:
    """Method → answer as it goes out; the key `cut` is there when something was left out, and says what."""
    values = {method: answer.value for method, answer in answers.items()}
    cut = {method: answer.cut for method, answer in answers.items() if answer.cut}
    return {**values, "cut": cut} if cut else values
