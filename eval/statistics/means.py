"""The mean of bounded values, whatever their distribution: held at every n, in any order, with examples in clusters.

The bound that Gaffke proposed (2005) and Learned-Miller and Thomas take up (arXiv:1905.06208): the sample gains one
example at the end of its range, all weigh as a Dirichlet draw says, and the bound is a quantile of the mean so weighed.
Of outcomes of 0 and 1 it is Clopper and Pearson's. That it errs no oftener than stated is proven for those and seen in
all simulations of the others, ours too (benchmarks/eval/statistics.py); a betting interval (Waudby-Smith and Ramdas
2024), which is proven, is two fifths wider at large n. Better values never lower it.
"""

from __future__ import annotations

from typing import Any

from eval.statistics.comparison import LEAST_P

ITERATIONS = 60


def chance_above(weights: Any) -> Any:
    """P(sum of weights[i] * E[i] > 0) over the last axis, each E[i] exponential: the chance that a mean weighed by
    Dirichlet draws, which are exponentials over their sum, lies above a bound that was taken from every value.

    By the saddlepoint (Barndorff-Nielsen's r*, Biometrika 73, 1986, 307): within 1% of the chance even of three
    examples, and never 0 where it is not.
    """
    import numpy
    from scipy.special import ndtr

    weights = numpy.asarray(weights, dtype=float)
    largest, smallest = weights.max(axis=-1), weights.min(axis=-1)
    found = numpy.where(largest > 0, 1.0, 0.0)
    mixed = (largest > 0) & (smallest < 0)
    if not mixed.any():
        return found
    some = weights[mixed] / numpy.abs(weights[mixed]).max(axis=-1, keepdims=True)
    place, variance = saddlepoint(some)
    depth = numpy.sign(place) * numpy.sqrt(2 * numpy.log1p(-place[..., None] * some).sum(axis=-1).clip(min=0))
    height = place * numpy.sqrt(variance)
    skew = 2 * (some**3).sum(axis=-1) / (some**2).sum(axis=-1) ** 1.5
    with numpy.errstate(divide="ignore", invalid="ignore"):
        tail = ndtr(-(depth + numpy.log(height / depth) / depth))
    middle = 0.5 - skew / (6 * numpy.sqrt(2 * numpy.pi))  # the limit at 0, where the tail's terms cancel
    found[mixed] = numpy.where(numpy.abs(depth) < 1e-3, middle, tail)
    return found


def saddlepoint(weights: Any) -> tuple[Any, Any]:
    """Where the cumulant generating function, minus the sum of ln(1 - s * weights), is least, and its second derivative
    there: Newton's steps within a bracket that halves where they would leave it."""
    import numpy

    low, high = 1 / weights.min(axis=-1).clip(max=-1e-12), 1 / weights.max(axis=-1).clip(min=1e-12)
    place = numpy.zeros(weights.shape[:-1])
    for _ in range(ITERATIONS):
        terms = weights / (1 - place[..., None] * weights)
        slope, variance = terms.sum(axis=-1), (terms * terms).sum(axis=-1)
        low, high = numpy.where(slope < 0, place, low), numpy.where(slope >= 0, place, high)
        step = place - slope / variance
        step = numpy.where((step > low) & (step < high), step, (low + high) / 2)
        done = numpy.abs(step - place) * numpy.sqrt(variance) < 1e-9
        place = numpy.where(done, place, step)
        if done.all():
            break
    return place, variance


def chance_of_less(sums: Any, sizes: Any, least: Any, bound: float) -> Any:
    """One-sided p: small where the mean is shown to lie above `bound`. `sums` and `sizes`: of each cluster, over the
    last axis; `least`: the lowest that one example may be. An unseen cluster is as large as the largest seen."""
    import numpy

    unseen = sizes.max(axis=-1, keepdims=True) * (least - bound)
    gaps = numpy.concatenate([sums - bound * sizes, unseen], axis=-1)
    return chance_above(-gaps)


def p_of_mean(sums: Any, sizes: Any, value_range: tuple[float, float], bound: float) -> tuple[float, float]:
    """p_below and p_above of the mean of all examples."""
    low, high = value_range
    below, above = chance_of_less(-sums, sizes, -high, -bound), chance_of_less(sums, sizes, low, bound)
    return min(1.0, max(float(below), LEAST_P)), min(1.0, max(float(above), LEAST_P))


def bounds_of_mean(sums: Any, sizes: Any, value_range: tuple[float, float], confidence: float) -> tuple[float, float]:
    """The means that neither p refuses."""
    low, high = value_range
    return lower_bound(sums, sizes, low, (1 - confidence) / 2), -lower_bound(-sums, sizes, -high, (1 - confidence) / 2)


def lower_bound(sums: Any, sizes: Any, least: float, alpha: float) -> float:
    from scipy.optimize import brentq

    mean = float(sums.sum() / sizes.sum())
    if mean <= least or float(chance_of_less(sums, sizes, least, mean)) <= alpha:
        return min(mean, max(mean, least))
    return float(brentq(lambda one: float(chance_of_less(sums, sizes, least, one)) - alpha, least, mean, xtol=1e-9))
