"""Lines and areas as SVG path data: what charts show without JavaScript, and the little lines in tables."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from meadow.queries import Overview, RatePoint
from meadow_web.observed import observed

Value = float | None

MOST_POINTS = 120


@dataclass(frozen=True)
class Line:
    """SVG path data for a viewBox of `width` × `height`, with the largest value it shows."""

    stroke: str
    fill: str
    width: int
    height: int
    top: float


def line(values: Sequence[Value], width: int = 120, height: int = 24, top: float | None = None) -> Line | None:
    """A line with the area below it; gaps where values are `None`. `None` when there is nothing to draw."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return None
    highest = max(top if top is not None else max(known), 1e-9)
    stride = width / max(len(values) - 1, 1)
    strokes, fills, run = [], [], list[tuple[float, float]]()
    for index, value in enumerate([*values, None]):
        if value is not None:
            run.append((index * stride, height - 1 - (height - 2) * min(max(value / highest, 0.0), 1.0)))
        elif run:
            path = " L".join(f"{x:.1f} {y:.1f}" for x, y in run)
            strokes.append(f"M{path}")
            fills.append(f"M{run[0][0]:.1f} {height} L{path} L{run[-1][0]:.1f} {height} Z")
            run = []
    return Line(" ".join(strokes), " ".join(fills), width, height, highest)


@dataclass(frozen=True)
class Series:
    """One line of a chart: `values` are per minute; `style` is a state's or `plain`."""

    label: str
    style: str
    values: list[float]


@dataclass(frozen=True)
class Chart:
    """What a chart needs, in the browser (`times` are epoch seconds) and drawn here (`lines`). `nothing` says what did
    not happen when it is `empty`; between the times of a gap nobody can know."""

    title: str
    nothing: str
    times: list[float]
    series: tuple[Series, ...]
    empty: bool = False
    gaps: tuple[tuple[float, float], ...] = ()

    @property
    def data(self) -> dict[str, object]:
        """For the browser."""
        return {
            "times": self.times,
            "gaps": self.gaps,
            "series": [{"label": s.label, "style": s.style, "values": s.values} for s in self.series],
        }

    @property
    def lines(self) -> list[tuple[Series, Line]]:
        """For an SVG of 600 × 140."""
        top = max((max(s.values, default=0.0) for s in self.series), default=0.0)
        drawn = [(s, line(s.values, 600, 140, top)) for s in self.series]
        return [(s, path) for s, path in drawn if path is not None]

    @property
    def bands(self) -> list[tuple[float, float]]:
        """The gaps in that SVG: left edge and width."""
        if len(self.times) < 2:
            return []
        first, scale = self.times[0], 600.0 / (self.times[-1] - self.times[0])
        inside = [(max(start, first), min(end, self.times[-1])) for start, end in self.gaps]
        return [
            (round((start - first) * scale, 1), round(max((end - start) * scale, 1.0), 1))
            for start, end in inside
            if end >= start
        ]


TOO_EARLY = "Too few figures for a line yet"


def rate_charts(overview: Overview) -> tuple[Chart, Chart]:
    """Throughput, and failures and retries, both per minute."""
    slices = _merged(observed(overview), overview.step)
    times = [at for at, _ in slices]

    def series(label: str, style: str, name: str) -> Series:
        scale = [60.0 / (len(points) * overview.step) for _, points in slices]
        sums = [sum(getattr(point, name) for point in points) for _, points in slices]
        return Series(label, style, [round(total * factor, 2) for total, factor in zip(sums, scale, strict=True)])

    throughput = (series("Received", "received", "received"), series("Succeeded", "success", "succeeded"))
    failures = (series("Failed", "failure", "failed"), series("Retried", "retry", "retried"))
    quiet = not any(p.received or p.succeeded for p in overview.points)
    well = not any(p.failed or p.retried for p in overview.points)
    gaps = tuple((gap.start, gap.end) for gap in overview.gaps)
    early = len(times) < 2  # which make no line
    return (
        Chart("Tasks per minute", "No tasks" if quiet else TOO_EARLY, times, throughput, quiet or early, gaps),
        Chart(
            "Failures and retries per minute",
            "No failures and no retries" if well else TOO_EARLY,
            times,
            failures,
            well or early,
            gaps,
        ),
    )


def _merged(points: Sequence[RatePoint], step: float) -> list[tuple[float, list[RatePoint]]]:
    """Neighbouring slices together, so that few enough remain to show a trend. The borders stay where they are while
    time goes on, so that a chart grows at its end and does not waver."""
    width = step * max(1, math.ceil(len(points) / MOST_POINTS))
    merged: dict[float, list[RatePoint]] = {}
    for point in points:
        merged.setdefault(math.floor(point.at / width) * width, []).append(point)
    return sorted(merged.items())
