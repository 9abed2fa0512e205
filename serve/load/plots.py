"""Where the lines of a load test's plots run, in a box of WIDTH by HEIGHT: the page draws them as SVG in its own
colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from configs.environment.load_test import LoadTest
from serve.load.figures import Sample

WIDTH, HEIGHT = 560.0, 220.0
MOST_POINTS = 400  # a line of more looks the same and makes a page of megabytes

Points = Sequence[tuple[float, float]]


class Line(NamedTuple):
    """`path`: x,y pairs for a polyline; `dots`: the same as points, where each stands for itself."""

    name: str
    path: str
    dots: list[tuple[float, float]]


class Plot(NamedTuple):
    """`across` and `up`: place and text of each tick. `bounds`: heights of dashed lines, with their names."""

    title: str
    x_name: str
    y_name: str
    lines: list[Line]
    across: list[tuple[float, str]]
    up: list[tuple[float, str]]
    bounds: list[tuple[float, str]]


def plot(
    title: str,
    x_name: str,
    y_name: str,
    series: dict[str, Points],
    bounds: dict[str, float] | None = None,
    *,
    dots: bool = False,
) -> Plot | None:
    """None where no series has a point. Both axes begin at zero: a small difference must not look large."""
    drawn = {name: thin(points) for name, points in series.items() if points}
    if not drawn:
        return None
    limits = bounds or {}
    right = max(x for points in drawn.values() for x, _ in points) or 1.0
    top = 1.05 * max([*(y for points in drawn.values() for _, y in points), *limits.values()]) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        return round(WIDTH * x / right, 1), round(HEIGHT * (1 - y / top), 1)

    lines = [line(name, [place(x, y) for x, y in points], dots) for name, points in drawn.items()]
    across = [(place(tick, 0)[0], f"{tick:g}") for tick in ticks(right)]
    up = [(place(0, tick)[1], f"{tick:g}") for tick in ticks(top)]
    return Plot(
        title, x_name, y_name, lines, across, up, [(place(0, limit)[1], name) for name, limit in limits.items()]
    )


def line(name: str, placed: list[tuple[float, float]], dots: bool) -> Line:
    return Line(
        name, "" if dots else " ".join(f"{x},{y}" for x, y in placed), placed if dots or len(placed) <= 20 else []
    )


def thin(points: Points) -> Points:
    """At most MOST_POINTS, evenly, the last among them."""
    if len(points) <= MOST_POINTS:
        return points
    return [points[round(index * (len(points) - 1) / (MOST_POINTS - 1))] for index in range(MOST_POINTS)]


def ticks(largest: float) -> list[float]:
    from matplotlib.ticker import MaxNLocator

    return [float(tick) for tick in MaxNLocator(5).tick_values(0, largest) if 0 <= tick <= largest]


def cumulative(values: list[float]) -> list[tuple[float, float]]:
    """(milliseconds, per cent of requests at most so long)."""
    ordered = sorted(values)
    return [(1000 * one, 100 * (index + 1) / len(ordered)) for index, one in enumerate(ordered)]


def plots_of(samples: list[Sample], settings: LoadTest, steps: list[dict[str, float]]) -> list[Plot]:
    """Times as shares of requests, times over the run, and what a ramp did to them."""
    good, latency_ms = [sample for sample in samples if sample["ok"]], settings.slo and settings.slo.latency_ms
    zero = min((sample["at"] for sample in samples), default=0.0)
    first = [sample["first"] for sample in good if sample["first"] is not None]
    gaps = [gap for sample in good for gap in sample["gaps"]]
    over = sorted((sample["at"] - zero, 1000 * sample["seconds"]) for sample in good)
    limits = {f"objective {latency_ms:g} ms": latency_ms} if latency_ms else {}
    found = [
        plot("Time to first token", "milliseconds", "% of requests", {"time to first token": cumulative(first)}),
        plot("Inter-token latency", "milliseconds", "% of gaps", {"inter-token latency": cumulative(gaps)}),
        plot(
            "End-to-end latency",
            "milliseconds",
            "% of requests",
            {"latency": cumulative([sample["seconds"] for sample in good])},
        ),
        plot(
            "Latency over the run",
            "seconds since the first request",
            "milliseconds",
            {"latency": over},
            limits,
            dots=True,
        ),
        *ramp_plots(steps),
    ]
    return [one for one in found if one is not None]


def ramp_plots(steps: list[dict[str, float]]) -> list[Plot | None]:
    def of(name: str, scale: float = 1.0) -> list[tuple[float, float]]:
        return [(step["rate"], scale * step[name]) for step in steps if name in step]

    if not steps:
        return []
    names = {"time to first token p95": "time_to_first_token_p95_ms", "latency p95": "latency_p95_ms"}
    return [
        plot(
            "Ramp: p95 by offered rate",
            "requests a second offered",
            "milliseconds",
            {name: of(key) for name, key in names.items()},
        ),
        plot(
            "Ramp: goodput by offered rate",
            "requests a second offered",
            "% of requests",
            {"met the objective": of("goodput_share", 100)},
        ),
    ]
