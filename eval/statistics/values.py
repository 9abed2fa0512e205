"""One value an example: a mean of one side, or the paired difference of two. The kind of the metric says which method
fits, never the values that came."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from eval.statistics.bootstrap import compare_means, estimate_mean
from eval.statistics.comparison import Comparison, Estimate
from eval.statistics.proportions import compare_outcomes, estimate_share

if TYPE_CHECKING:
    from configs.run.metrics import Kind

UNKNOWN = (-math.inf, math.inf)


def estimate_values(
    values: Any,
    clusters: Any = None,
    kind: Kind = "bounded",
    value_range: tuple[float, float] = (0.0, 1.0),
    confidence: float = 0.95,
    bound: float = math.nan,
) -> Estimate:
    """The mean of `values`, an array of shape (n,). `clusters`: of the same shape, what each shares with others; None:
    every example is one of its own.

    Raises ValueError, in words for a sentence, for what no interval can be had of.
    """
    found = numbers(values)
    if kind == "binary":
        return estimate_share(found, confidence, bound)
    return estimate_mean(found, confidence, bound, scale_of(value_range, found))


def compare_values(
    release: Any,
    reference: Any,
    clusters: Any = None,
    kind: Kind = "bounded",
    value_range: tuple[float, float] = (0.0, 1.0),
    confidence: float = 0.95,
    bound: float = 0.0,
) -> Comparison:
    """The mean of `release` less that of `reference`, two arrays of shape (n,) paired by place; `bound`: the difference
    that p_below and p_above ask about. Otherwise as `estimate_values`."""
    mine, theirs = numbers(release), numbers(reference)
    if len(mine) != len(theirs):
        raise ValueError(f"{len(mine)} examples beside {len(theirs)}")
    if kind == "binary":
        return compare_outcomes(mine, theirs, confidence, bound)
    return compare_means(mine, theirs, confidence, bound, scale_of(value_range, mine, theirs))


def numbers(values: Any) -> Any:
    import numpy

    found = numpy.asarray(values, dtype=float)
    if not len(found):
        raise ValueError("no examples")
    if not numpy.isfinite(found).all():
        raise ValueError(f"not a finite number in {int((~numpy.isfinite(found)).sum())} examples")
    return found


def scale_of(value_range: tuple[float, float], *arrays: Any) -> float:
    """How far one example may lie from another: by the metric's range, else by what was seen."""
    low, high = value_range
    if math.isfinite(high - low):
        return high - low
    largest, smallest = max(values.max() for values in arrays), min(values.min() for values in arrays)
    return float(largest - smallest) or abs(float(largest))
