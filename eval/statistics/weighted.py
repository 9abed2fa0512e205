"""A figure of the whole set as a function of how much each row weighs: what a bootstrap asks thousands of times, as one
product of matrices. Equal weights give what eval/metrics/aggregate.py gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eval.metrics.aggregate import figure
from eval.statistics import ranks, sums

if TYPE_CHECKING:
    from pandas import DataFrame

Weigh = Callable[[Any], Any]  # weights of shape (draws, n), each draw's sum n, to figures of shape (draws,)


@dataclass(frozen=True)
class Weighted:
    """`value`: as it was measured. `effect`: how far one row that was not seen could move the figure, for each unit of
    its share of all weight; of shape (n,) where it is as large as one of the rows."""

    value: float
    weigh: Weigh
    effect: Any


def weighted(metric: str, frame: DataFrame) -> Weighted:
    """Raises ValueError where the figure is undefined."""
    value = figure(metric, frame)
    if not math.isfinite(value):
        raise ValueError(f"{metric} is undefined")
    base, _, label = metric.partition(":")
    if base in ranks.FIGURES:
        weigh, effect = ranks.FIGURES[base](frame)
        return Weighted(value, weigh, effect)
    return of_sums(value, sums.statistics_of(base, label, frame))


def of_sums(value: float, found: sums.Statistics) -> Weighted:
    rows = found.rows
    effect = effect_of(found, rows.sum(axis=0), len(rows))
    if not effect.max() > 0:
        raise ValueError("no example could change it")
    return Weighted(value, lambda weights: found.figure(weights @ rows), effect if found.sized else float(effect))


def effect_of(found: sums.Statistics, total: Any, n: int) -> Any:
    """Of one row of n at its worst instead of its best, where the rows add up to `total`, of shape (..., k): of each
    where it has a size, of shape (..., m), else where that is largest, of shape (...)."""
    import numpy

    others = total[..., None, :] * (n - 1) / n
    best, worst = found.figure(others + found.best), found.figure(others + found.worst)
    if found.sized:
        return n * abs(best - worst)
    return n * numpy.maximum(best.max(-1) - worst.min(-1), worst.max(-1) - best.min(-1))


def rate_difference(given: Any, first: Any, second: Any) -> Weighted:
    """The share of `given` among the rows `first` less that among `second`: three arrays of 0 and 1, of shape (n,)."""
    import numpy

    rows = numpy.stack([first, first * given, second, second * given], axis=1).astype(float)

    def difference(found: Any) -> Any:
        return sums.ratio(found[..., 1], found[..., 0]) - sums.ratio(found[..., 3], found[..., 2])

    best, worst = numpy.array([[1, 1, 0, 0], [0, 0, 1, 0]]), numpy.array([[1, 0, 0, 0], [0, 0, 1, 1]])
    return of_sums(float(difference(rows.sum(axis=0))), sums.Statistics(rows, difference, best, worst))
