"""The gate's intervals held against truth, cell by cell: each kind of metric by size, share of rows that differ and
layout of clusters. A release truly loses exactly the margin: how often does it pass, how often does the interval hold
the truth, and is there an interval at all?

Rows are drawn from a finite population, whose figures are known exactly. The intervals are the product's own functions
on all draws at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy
from numpy.typing import NDArray

from benchmarks.eval import whole_sets
from benchmarks.eval.whole_sets import ALPHA, judge_calibration
from eval.statistics.means import chance_of_less
from eval.statistics.tango import score
from eval.statistics.values import LEAST_UNBOUNDED, TANGO_FROM

SEED = 20_261_127
DRAWS = 10_000
SIZES = (2, 3, 5, 10, 20, 50, 200, 1000)
CLUSTERED = ((100, 5), (50, 10))  # clusters and rows of each
DISCORDANCE = {0.005: 1.0, 0.05: 0.9, 0.4: 0.75}  # share of rows that differ: share of those that are worse
COPIED = 0.5  # of a cluster's rows, which are as its first
Array = NDArray[Any]


class Layout(NamedTuple):
    clusters: int
    size: int

    @property
    def name(self) -> str:
        return f"{self.clusters}" if self.size == 1 else f"{self.clusters} x {self.size}"


class Cell(NamedTuple):
    """Shares of the draws. `too_small`: without an interval, so that a gate is inconclusive."""

    kind: str
    layout: str
    discordance: float
    margin: float
    false_passes: float
    coverage: float
    too_small: float
    draws: int

    @property
    def holds(self) -> bool:
        error = 3.09 * math.sqrt(ALPHA * (1 - ALPHA) / self.draws)
        spread = 3.09 * math.sqrt(0.06 * 0.94 / self.draws)
        return self.false_passes <= ALPHA + error and (self.too_small == 1 or self.coverage >= 0.94 - spread)


Judge = Callable[[Array, Layout], tuple[Array, Array]]  # rows of (draws, clusters, size) to p_above and p_below


def places(sizes: tuple[int, ...] = SIZES) -> Iterator[tuple[Layout, float]]:
    """Every layout of the rows, and every share of them that differs."""
    for layout in [Layout(n, 1) for n in sizes] + [Layout(*one) for one in CLUSTERED]:
        yield from ((layout, discordance) for discordance in DISCORDANCE)


def cell(kind: str, layout: Layout, discordance: float, draws: int) -> Cell:
    worse = DISCORDANCE[discordance]
    random = numpy.random.default_rng([SEED, layout.clusters, layout.size, round(1000 * discordance)])
    shares, loss, judge = MAKERS[kind](discordance, worse)
    passed = held = none = 0
    step = max(1, min(draws, 2_000_000 // (layout.clusters * layout.size)))
    for start in range(0, draws, step):
        count = min(step, draws - start)
        rows = random.choice(len(shares), p=shares, size=(count, layout.clusters, layout.size))
        copied = random.random(rows.shape) < COPIED
        rows = numpy.where(copied, rows[:, :, :1], rows)
        above, below = judge(rows, layout)
        known = numpy.isfinite(above) & numpy.isfinite(below)
        passed += int((above[known] < ALPHA).sum())
        held += int(((above >= ALPHA) & (below >= ALPHA) & known).sum())
        none += int((~known).sum())
    seen = draws - none
    return Cell(kind, layout.name, discordance, loss, passed / draws, held / seen if seen else 1.0, none / draws, draws)


Made = tuple[Array, float, Judge]


def binary(discordance: float, worse: float) -> Made:
    """Three kinds of rows: gained, lost, alike."""
    values = numpy.array([1.0, -1.0, 0.0])
    shares = numpy.array([discordance * (1 - worse), discordance * worse, 1 - discordance])
    loss = -float(shares @ values)

    def judge(rows: Array, layout: Layout) -> tuple[Array, Array]:
        if layout.size > 1 or layout.clusters < TANGO_FROM:
            return by_mean(values[rows], (-1.0, 1.0), -loss)
        from scipy.special import ndtr

        gained, lost = ((rows == one).sum(axis=(1, 2)) for one in (0, 1))
        found = score(gained, lost, layout.clusters, -loss)
        return ndtr(-found), ndtr(found)

    return shares, loss, judge


def by_mean(values: Array, limits: tuple[float, float], truth: float) -> tuple[Array, Array]:
    totals = values.sum(axis=2)
    sizes = numpy.full(totals.shape, float(values.shape[2]))
    return chance_of_less(totals, sizes, limits[0], truth), chance_of_less(-totals, sizes, -limits[1], -truth)


def bounded(discordance: float, worse: float) -> Made:
    """Scores in [0, 1], two thirds on average; where the two differ the release's is a share of the reference's, or the
    other way round."""
    random = numpy.random.default_rng(SEED)
    one = random.beta(2, 1, 2000)
    other = one * random.random(2000)
    gaps = numpy.concatenate([other - one, one - other, 0 * one])
    shares = mixture(discordance, worse, 2000)
    loss = -float(shares @ gaps)
    return shares, loss, lambda rows, layout: by_mean(gaps[rows], (-1.0, 1.0), -loss)


def mixture(discordance: float, worse: float, each: int) -> Array:
    """Of `each` rows that are worse, as many that are better, as many that are alike."""
    parts = (discordance * worse, discordance * (1 - worse), 1 - discordance)
    return numpy.repeat([one / each for one in parts], each)


def unbounded(discordance: float, worse: float) -> Made:
    """Losses with an exponential tail, whose range is only what was seen on either side."""
    random = numpy.random.default_rng(SEED)
    good = random.exponential(0.5, 1000)
    bad = good + random.exponential(0.5, 1000)
    mine, theirs = (numpy.concatenate(one) for one in ((bad, good, good), (good, bad, good)))
    shares = mixture(discordance, worse, 1000)
    loss = float(shares @ (mine - theirs))

    def judge(rows: Array, layout: Layout) -> tuple[Array, Array]:
        if layout.clusters < LEAST_UNBOUNDED:
            return nothing(rows)
        reach = -numpy.maximum(mine[rows], theirs[rows]).max(axis=(1, 2))[:, None]
        totals = (theirs - mine)[rows].sum(axis=2)  # more is better
        sizes = numpy.full(totals.shape, float(layout.size))
        return chance_of_less(totals, sizes, reach, -loss), chance_of_less(-totals, sizes, reach, loss)

    return shares, loss, judge


def nothing(rows: Array) -> tuple[Array, Array]:
    return numpy.full(len(rows), math.nan), numpy.full(len(rows), math.nan)


def whole(name: str) -> Callable[[float, float], Made]:
    def make(discordance: float, worse: float) -> Made:
        """Where the two differ one has the good answer and the other the bad one."""
        good, bad = numpy.arange(whole_sets.ROWS), numpy.arange(whole_sets.ROWS) + whole_sets.ROWS
        mine, theirs = numpy.concatenate([bad, good, good]), numpy.concatenate([good, bad, good])
        shares = mixture(discordance, worse, whole_sets.ROWS)
        if name == "expected_calibration_error":
            gaps = whole_sets.calibration_rows()
            truth = float(abs(shares @ gaps[theirs]).sum() - abs(shares @ gaps[mine]).sum())
            return shares, -truth, lambda rows, one: judge_calibration(gaps, mine, theirs, -truth, rows, one.size)
        found = whole_sets.FIGURES[name]()
        ends = (float(found.value(1000 * shares @ found.rows[side])) for side in (mine, theirs))
        truth = (next(ends) - next(ends)) * (1 if found.higher_is_better else -1)
        return shares, -truth, lambda rows, one: whole_sets.judge(found, mine, theirs, truth, rows, one.size)

    return make


MAKERS: dict[str, Callable[[float, float], Made]] = {
    "binary": binary,
    "bounded": bounded,
    "unbounded": unbounded,
    **{name: whole(name) for name in (*whole_sets.FIGURES, "expected_calibration_error")},
}
