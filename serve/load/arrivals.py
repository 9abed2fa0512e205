"""When each request of an open loop is sent: drawn from a seed, or read from sampled requests. One plan is one file:
blue and green get the same.

Open, because users who wait for an answer before they ask again slow down with the server: the requests that a stall
would have hit are then never sent, and the stall hides (coordinated omission; Tene, "How NOT to measure latency",
2015). Schroeder et al., NSDI 2006, on both kinds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict

from configs.environment.load_test import LoadTest
from serve.load.samples import Body, SampledRequest, read_trace

if TYPE_CHECKING:
    from numpy.random import Generator


class Arrival(TypedDict):
    """`at`: seconds after the beginning; with the `rate` and `step` that it belongs to, or a trace's `path` and
    `body`."""

    at: float
    rate: NotRequired[float]
    step: NotRequired[int]
    path: NotRequired[str]
    body: NotRequired[Body]


def poisson(rate: float, seconds: float, generator: Generator) -> list[float]:
    """Arrival times in [0, seconds): independent exponential gaps of mean 1 / rate, as of many users who know nothing
    of each other."""
    arrivals, at = [], float(generator.exponential(1 / rate))
    while at < seconds:
        arrivals.append(at)
        at += float(generator.exponential(1 / rate))
    return arrivals


def plan_load(settings: LoadTest) -> list[Arrival]:
    """In order of time. Empty for a closed loop. Raises
    InputError for an unreadable trace."""
    import numpy

    if settings.trace:
        return replay(read_trace(Path(settings.trace)), settings.trace_speed, settings.seconds)
    rates = settings.ramp or ([settings.rate] if settings.rate else [])
    generator = numpy.random.default_rng(settings.seed)
    each = settings.seconds / max(1, len(rates))
    return [
        {"at": step * each + at, "rate": rate, "step": step}
        for step, rate in enumerate(rates)
        for at in poisson(rate, each, generator)
    ]


def replay(rows: Iterable[SampledRequest], speed: float, seconds: float) -> list[Arrival]:
    """From the first request on, gaps divided by `speed`; what would come after `seconds` is left out."""
    ordered = sorted(rows, key=lambda row: float(row["at"]))
    shifted: list[Arrival] = [
        {"at": (float(row["at"]) - float(ordered[0]["at"])) / speed, "path": row["path"], "body": row["body"]}
        for row in ordered
    ]
    return [row for row in shifted if row["at"] < seconds]


def write_plan(rows: list[Arrival], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf8")
