"""Flower and Meadow side by side in one run: what each takes in, what it loses, and what that costs.

Broker, generator and the measured program share the machine. Counted is what each program itself says it has: for
Flower and Meadow `flower_events_total`, for Meadow also that its store has everything; for the collector alone what its
state says, when all of it is in JetStream.

Parts: `loss` (loss, processor time and page times at some rates), `sustained` (the highest rate that is kept up with),
`collector` (the collector alone, for a minute), `overload` (twice a rate: is all that was lost counted?), `soak`
(memory over many events).
"""

import argparse
import asyncio
import json
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from tests.servers import running_rabbitmq, running_redis

from benchmarks.monitors import Monitor, install_flower, memory, processor_seconds, running

PARTS = ("loss", "sustained", "collector", "overload", "soak")
RATES = (5000.0, 10_000.0, 20_000.0, 50_000.0)
TIMES_FLOWER = 56_000.0
"""25 times what Flower takes in."""
GIVE_UP = 60.0
STANDS_STILL = 8.0
LOOKED = 2.5
REPORTS = 2
LAG = 1.0
PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
HEAD = """| program, broker | offered/s | lost | counted as lost | behind, s | CPU s per 100k | collector's | nats' | \
RSS MB | pages p50 / p95 / max, ms |
|---|---|---|---|---|---|---|---|---|---|"""


@dataclass
class Figures:
    """One program at one rate."""

    program: str
    broker: str
    offered: float
    sent: int
    counted: int
    dropped: int
    behind: float
    processor: dict[str, float]
    memory: float
    pages: list[float] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Events that never arrived."""
        return max(0, self.sent - self.counted)

    @property
    def kept_up(self) -> bool:
        """Nothing lost, and at most a second behind."""
        return self.lost == 0 and self.behind <= LAG

    def processor_per_100k(self, role: str | None = None) -> float:
        """Processor seconds for 100,000 events."""
        used = sum(self.processor.values()) if role is None else self.processor.get(role, 0.0)
        return used / max(self.counted, 1) * 100_000

    def line(self) -> str:
        """A row of the table."""
        pages = sorted(page * 1000 for page in self.pages) or [0.0]
        shown = " / ".join(f"{pages[min(int(len(pages) * part), len(pages) - 1)]:.0f}" for part in (0.5, 0.95, 1.0))
        by_role = " | ".join(f"{self.processor_per_100k(role):.2f}" for role in (None, "collector", "nats"))
        return (
            f"| {self.program}, {self.broker} | {self.offered:.0f} | {self.lost / self.sent:.2%} | {self.dropped} | "
            f"{self.behind:.1f} | {by_role} | {self.memory:.0f} | {shown} |"
        )


@dataclass
class Report:
    """Prints what is measured, and keeps it for the page."""

    lines: list[str] = field(default_factory=list)

    def add(self, line: str) -> None:
        """One more line."""
        print(line, flush=True)
        self.lines.append(line)

    def add_all(self, title: str, runs: Sequence[Figures]) -> None:
        """All runs of one measurement, with the spread where there are several."""
        for figures in runs:
            self.add(figures.line())
        if len(runs) > 1:
            spread = [figures.processor_per_100k() for figures in runs]
            lost = [figures.lost / figures.sent for figures in runs]
            self.add(
                f"| {title}: {len(runs)} runs | | {min(lost):.2%} to {max(lost):.2%} | | | "
                f"{min(spread):.2f} to {max(spread):.2f}, median {statistics.median(spread):.2f} | | | | |"
            )


async def measure(argv: Sequence[str] = ()) -> None:
    """Run the parts that the command line names."""
    options = parse(argv)
    if "flower" in options.program:
        await asyncio.to_thread(install_flower)
    report = Report()
    for broker in options.broker:
        with tempfile.TemporaryDirectory() as name, _broker(broker, Path(name)) as url:
            for part in options.part:
                report.add(f"\n### {part}, {broker}\n")
                await asyncio.to_thread(_PARTS[part], options, broker, url, Path(name), report)
    if options.write:
        PAGE.write_text(page(argv, report.lines), encoding="utf-8")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The options. `--program` and `--part` may be given more than once."""
    parser = argparse.ArgumentParser(prog="benchmarks ingest", description=__doc__)
    parser.add_argument("--part", action="append", choices=PARTS)
    parser.add_argument("--broker", action="append", choices=("redis", "rabbitmq"))
    parser.add_argument("--program", action="append", choices=("flower", "meadow", "collector"))
    parser.add_argument("--rates", type=lambda text: tuple(map(float, text.split(","))), default=RATES)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--events", type=float, default=5e6, help="of the soak")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    options = parser.parse_args(argv)
    options.part = options.part or ["loss", "sustained", "collector", "overload"]
    options.broker = options.broker or ["redis", "rabbitmq"]
    options.program = options.program or ["flower", "meadow"]
    return options


@contextmanager
def _broker(kind: str, directory: Path) -> Iterator[str]:
    if kind == "redis":
        with running_redis(directory) as url:
            yield url
        return
    with running_rabbitmq(directory) as server:
        yield server.url


def _loss(options: argparse.Namespace, broker: str, url: str, directory: Path, report: Report) -> None:
    report.add(HEAD)
    for program in options.program:
        for rate in options.rates:
            runs = [_once(program, broker, url, directory, rate, options.seconds) for _ in range(options.runs)]
            report.add_all(f"{program}, {broker}, {rate:.0f}/s", runs)


def _collector(options: argparse.Namespace, broker: str, url: str, directory: Path, report: Report) -> None:
    report.add(HEAD)
    rate = TIMES_FLOWER if broker == "redis" else 20_000.0
    runs = [_once("collector", broker, url, directory, rate, 60.0) for _ in range(options.runs)]
    report.add_all(f"collector, {broker}, {rate:.0f}/s", runs)


def _overload(options: argparse.Namespace, broker: str, url: str, directory: Path, report: Report) -> None:
    report.add(HEAD)
    for program in options.program:
        rate = 2 * max(options.rates)
        runs = [_once(program, broker, url, directory, rate, options.seconds) for _ in range(options.runs)]
        report.add_all(f"{program}, {broker}, {rate:.0f}/s", runs)
        if program != "flower":
            unseen = max(figures.lost - figures.dropped for figures in runs)
            report.add(f"\nLost and not counted by {program}: {unseen}\n")


def _sustained(options: argparse.Namespace, broker: str, url: str, directory: Path, report: Report) -> None:
    """Double the rate until it is too much, then halve the interval three times."""
    for program in options.program:
        low, high = 0.0, 1000.0
        while _once(program, broker, url, directory, high, options.seconds).kept_up:
            low, high = high, high * 2
        for _ in range(3):
            middle = (low + high) / 2
            if _once(program, broker, url, directory, middle, options.seconds).kept_up:
                low = middle
            else:
                high = middle
        report.add(f"- {program}, {broker}: {low:.0f} events/s sustained over {options.seconds:.0f} s")


def _soak(options: argparse.Namespace, broker: str, url: str, directory: Path, report: Report) -> None:
    """Memory after every tenth of the events."""
    rate = min(options.rates)
    for program in options.program:
        report.add(f"\n| {program}: events | RSS MB |\n|---|---|")
        with running(program, directory, url) as monitor:
            for tenth in range(10):
                figures = _at_rate(monitor, broker, url, rate, options.events / 10 / rate, first=1000 * tenth)
                report.add(f"| {options.events * (tenth + 1) / 10:.0f} | {figures.memory:.0f} |")


_PARTS: dict[str, Callable[[argparse.Namespace, str, str, Path, Report], None]] = {
    "loss": _loss,
    "sustained": _sustained,
    "collector": _collector,
    "overload": _overload,
    "soak": _soak,
}


def _once(program: str, broker: str, url: str, directory: Path, rate: float, seconds: float) -> Figures:
    with running(program, directory, url) as monitor:
        return _at_rate(monitor, broker, url, rate, seconds)


def _at_rate(monitor: Monitor, broker: str, url: str, rate: float, seconds: float, first: int = 0) -> Figures:
    family = monitor.family()
    before, counted_before, dropped_before = processor_seconds(family), monitor.counted(), monitor.dropped()
    argv = [sys.executable, "-m", "benchmarks.load", url, str(rate), str(seconds), str(first)]
    load = subprocess.Popen(argv, stdout=subprocess.PIPE)
    pages: list[float] = []
    while load.poll() is None:
        began = time.perf_counter()
        monitor.get(monitor.pages[len(pages) % len(monitor.pages)])
        pages.append(time.perf_counter() - began)
        time.sleep(max(0.0, 0.25 - pages[-1]))
    assert load.stdout is not None
    sent = json.loads(load.stdout.read())
    expected = monitor.expected(sent)
    counted, behind = _wait(monitor, counted_before, expected)
    after = processor_seconds(family)
    used = {role: seconds - before.get(role, 0.0) for role, seconds in after.items()}
    dropped = monitor.dropped() - dropped_before
    return Figures(monitor.name, broker, sent["rate"], expected, counted, dropped, behind, used, memory(family), pages)


def _wait(monitor: Monitor, before: int, expected: int) -> tuple[int, float]:
    """Until all has arrived, or nothing arrives any more: what was counted, and how long that took.

    A program looks only now and then how far its stream reaches, so it has to stand still for longer than that. Its own
    reports, a message or two, are no progress.
    """
    ended = moved = time.perf_counter()
    counted, position = monitor.counted() - before, monitor.position()
    while (now := time.perf_counter()) - ended < GIVE_UP:
        found, place = monitor.counted() - before, monitor.position()
        if found != counted or place > position + REPORTS:
            counted, moved = found, time.perf_counter()
        elif now - moved > (LOOKED if counted >= expected and monitor.settled() else STANDS_STILL):
            break
        position = place
        time.sleep(0.1)
    return counted, moved - ended


def page(argv: Sequence[str], lines: Sequence[str]) -> str:
    """The page with the figures, and all that is needed to measure them again."""
    packages = ("celery", "kombu", "msgspec", "hiredis", "redis", "amqp", "nats-py", "sqlalchemy", "aiohttp")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    command = shlex.join(["make", "bench", f"ARGS=ingest {' '.join(argv)}"])
    return "\n".join(
        (
            "# Measurements\n",
            "Broker, generator, NATS and the measured program share one machine; compare ratios, not figures.\n",
            f"- machine: {psutil.cpu_count()} cores ({_processor()}), {psutil.virtual_memory().total / 2**30:.0f} GB",
            f"- Python {platform.python_version()}, {_server('redis-server')}, {_server('nats-server')}, {versions}",
            f"- date: {time.strftime('%Y-%m-%d')}; command: `{command}`",
            *lines,
            "",
        )
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _server(name: str) -> str:
    try:
        said: Any = subprocess.run([name, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return name
    return " ".join(str(said).split()[:3])


if __name__ == "__main__":
    asyncio.run(measure(sys.argv[1:]))
