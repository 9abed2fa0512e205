"""The ratio of two means over the same examples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from eval.statistics.comparison import Estimate
from eval.statistics.means import chance_of_less
from eval.statistics.values import LEAST_UNBOUNDED, codes_of, deviation_of, finite_values, range_of

if TYPE_CHECKING:
    from configs.run.metrics import Kind

METHOD = "ratios that the bound of Learned-Miller and Thomas 2019 on the paired difference does not refuse (Fieller)"
TOLERANCE = 1e-6
LARGEST = 1e6  # a ratio beyond it is as good as none


def estimate_ratio(
    release: Any,
    reference: Any,
    clusters: Any = None,
    kind: Kind = "unbounded",
    value_range: tuple[float, float] = (0.0, math.inf),
    confidence: float = 0.95,
) -> Estimate:
    """The mean of `release` by that of `reference`, two arrays of shape (n,), never below 0 and paired by place.

    A ratio r lies in the interval where the mean of release - r * reference is not shown to lie on either side of 0
    (Fieller 1954, with the bound of eval/statistics/means.py in the place of t, so that it holds at every n). Raises
    ValueError, in words for a sentence, for what has no ratio.
    """
    import numpy

    mine, theirs = finite_values(release, kind), finite_values(reference, kind)
    if len(mine) != len(theirs):
        raise ValueError(f"{len(mine)} examples beside {len(theirs)}")
    codes = codes_of(clusters, len(mine))
    sizes = numpy.bincount(codes).astype(float)
    low, high = range_of(value_range, len(sizes), LEAST_UNBOUNDED, mine, theirs)
    if low < 0 or not theirs.sum() > 0:
        raise ValueError("a mean of 0 or less has no ratio")
    ours, others = numpy.bincount(codes, weights=mine), numpy.bincount(codes, weights=theirs)
    order = numpy.lexsort((sizes, others, ours))  # what is found hangs on no order of the rows
    ours, others, sizes = ours[order], others[order], sizes[order]

    def above(ratio: float) -> float:
        """Small where the ratio is shown to be larger."""
        return float(chance_of_less(ours - ratio * others, sizes, low - ratio * high, 0.0))

    def below(ratio: float) -> float:
        return float(chance_of_less(ratio * others - ours, sizes, ratio * low - high, 0.0))

    ratio, mean = float(ours.sum() / others.sum()), float(theirs.mean())
    ends = ends_of(above, below, ratio, (1 - confidence) / 2)
    n, deviation = len(mine), deviation_of(ours - ratio * others, sizes) / mean
    scale = (1 + ratio) * (high - low) / mean
    return Estimate(ratio, *ends, confidence, n, METHOD, deviation=deviation, scale=scale)


def ends_of(above: Any, below: Any, ratio: float, alpha: float) -> tuple[float, float]:
    """The least and the largest ratio that neither chance refuses; inf where none is too large."""
    from scipy.optimize import brentq

    low = 0.0
    if ratio and above(0.0) <= alpha:
        low = float(brentq(lambda one: above(one) - alpha, 0.0, ratio, xtol=TOLERANCE))
    far = 2 * max(ratio, 1e-6)
    while below(far) > alpha:
        far *= 2
        if far > LARGEST:
            return low, math.inf
    return low, float(brentq(lambda one: below(one) - alpha, ratio, far, xtol=TOLERANCE))
