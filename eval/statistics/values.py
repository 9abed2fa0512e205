"""One value an example: a mean of one side, or the paired difference of two. The kind of the metric says which method
fits, never the values that came."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from eval.statistics.comparison import Comparison, Estimate, TooFewError
from eval.statistics.means import bounds_of_mean, p_of_mean
from eval.statistics.power import effect_of_means
from eval.statistics.proportions import compare_outcomes, estimate_proportion

if TYPE_CHECKING:
    from configs.run.metrics import Kind

Range = tuple[float, float]
TANGO_FROM = 50  # pairs: below it Tango's false passes reach 3.0% at 20, 4.4% at 3 (exact enumeration)
# Examples or clusters, where the range is only what was seen: of pairs; of one release, whose skew nothing takes away.
LEAST_UNBOUNDED, LEAST_UNBOUNDED_ALONE = 50, 100
BOUNDED = "bound of Learned-Miller and Thomas 2019"


def estimate_values(
    values: Any,
    clusters: Any = None,
    kind: Kind = "bounded",
    value_range: Range = (0.0, 1.0),
    confidence: float = 0.95,
    bound: float = math.nan,
) -> Estimate:
    """The mean of `values`, an array of shape (n,). `clusters`: of the same shape, what each shares with others; None:
    every example is one of its own.

    Raises ValueError, in words for a sentence, for what no interval can be had of.
    """
    found = finite_values(values, kind)
    sums, sizes = sums_by_cluster(found, clusters)
    if kind == "binary" and len(sums) == len(found):
        return estimate_proportion(found, confidence, bound)
    limits = widened(value_range, range_of(value_range, len(sums), LEAST_UNBOUNDED_ALONE, found))
    low, high = bounds_of_mean(sums, sizes, limits, confidence)
    below, above = p_of_mean(sums, sizes, limits, bound) if math.isfinite(bound) else (math.nan, math.nan)
    return Estimate(
        float(found.mean()),
        low,
        high,
        confidence,
        len(found),
        method(sums, found),
        below,
        above,
        deviation_of(sums, sizes),
        limits[1] - limits[0],
    )


def compare_values(
    release: Any,
    reference: Any,
    clusters: Any = None,
    kind: Kind = "bounded",
    value_range: Range = (0.0, 1.0),
    confidence: float = 0.95,
    bound: float = 0.0,
) -> Comparison:
    """The mean of `release` less that of `reference`, two arrays of shape (n,) paired by place; `bound`: the difference
    that p_below and p_above ask about. Otherwise as `estimate_values`."""
    mine, theirs = finite_values(release, kind), finite_values(reference, kind)
    if len(mine) != len(theirs):
        raise ValueError(f"{len(mine)} examples beside {len(theirs)}")
    sums, sizes = sums_by_cluster(mine - theirs, clusters)
    if kind == "binary" and TANGO_FROM <= len(sums) == len(mine):
        return compare_outcomes(mine, theirs, confidence, bound)
    low, high = range_of(value_range, len(sums), LEAST_UNBOUNDED, mine, theirs)
    return compare_sums(mine, theirs, sums, sizes, (low - high, high - low), confidence, bound, kind == "binary")


def compare_sums(
    mine: Any,
    theirs: Any,
    sums: Any,
    sizes: Any,
    limits: Range,
    confidence: float,
    bound: float,
    counted: bool,
) -> Comparison:
    """Of the differences' sums by cluster. p of no difference: by the same method, so that it is small exactly where
    the interval leaves 0 out."""
    import numpy

    n, difference = len(mine), float(sums.sum() / sizes.sum())
    low, high = bounds_of_mean(sums, sizes, limits, confidence)
    deviation = deviation_of(sums, sizes)
    gained, lost = (int((one > other).sum()) for one, other in ((mine, theirs), (theirs, mine)))
    return Comparison(
        difference,
        low,
        high,
        confidence,
        min(1.0, 2 * min(p_of_mean(sums, sizes, limits, 0.0))),
        *p_of_mean(sums, sizes, limits, bound),
        n,
        deviation,
        f"paired {method(sums, numpy.asarray(mine))}",
        effect_of_means(deviation, n, confidence),
        gained if counted else None,
        lost if counted else None,
        limits[1],
        len(sums) if len(sums) < n else None,
    )


def deviation_of(sums: Any, sizes: Any) -> float:
    """Of one example: what n independent ones would have, were the mean to err as it does with these clusters."""
    spread = float(((sums - sums.sum() / sizes.sum() * sizes) ** 2).sum()) / max(len(sums) - 1, 1)
    return math.sqrt(spread * len(sums) / float(sizes.sum()))


def finite_values(values: Any, kind: Kind) -> Any:
    import numpy

    found = numpy.asarray(values, dtype=float)
    if not len(found):
        raise ValueError("no examples")
    if not numpy.isfinite(found).all():
        raise ValueError(f"not a finite number in {int((~numpy.isfinite(found)).sum())} examples")
    if kind == "binary" and not ((found == 0) | (found == 1)).all():
        raise ValueError("a value that is neither 0 nor 1")
    return found


def sums_by_cluster(values: Any, clusters: Any) -> tuple[Any, Any]:
    """Sums and sizes by cluster, in the order of their values: what is found hangs on no order of the rows."""
    import numpy

    if clusters is None:
        return numpy.sort(values), numpy.ones(len(values))
    codes = codes_of(clusters, len(values))
    sums, sizes = numpy.bincount(codes, weights=values), numpy.bincount(codes).astype(float)
    order = numpy.lexsort((sizes, sums))
    return sums[order], sizes[order]


def codes_of(clusters: Any, n: int) -> Any:
    """The number of each example's cluster, shape (n,)."""
    import numpy

    if clusters is None:
        return numpy.arange(n)
    if len(clusters) != n:
        raise ValueError(f"{len(clusters)} clusters' names for {n} examples")
    return numpy.unique(numpy.asarray(clusters).astype(str), return_inverse=True)[1]


def range_of(value_range: Range, clusters: int, least: int, *arrays: Any) -> Range:
    """The metric's own, where it has one. An end that it lacks is what was seen: then of `least` clusters only."""
    low, high = value_range
    smallest, largest = (end(end(values) for values in arrays) for end in (min, max))
    if math.isfinite(low) and math.isfinite(high):
        if smallest < low - 1e-9 or largest > high + 1e-9:
            raise ValueError(f"a value beyond the metric's range, {low:g} to {high:g}")
        return low, high
    if clusters < least:
        raise TooFewError("examples or clusters", clusters, least, ", of a metric without a range")
    if largest <= smallest:
        raise ValueError("all values are alike, of a metric without a range")
    return (low if math.isfinite(low) else float(smallest)), (high if math.isfinite(high) else float(largest))


def widened(value_range: Range, seen: Range) -> Range:
    """An end that the metric lacks, as far again: a skewed loss has larger ones than the largest of a hundred (false
    passes of 1.5% at most over four skewed shapes at 100 examples, 5.1% were it taken as it is)."""
    (low, high), (smallest, largest) = value_range, seen
    reach = largest - smallest
    return (low if math.isfinite(low) else smallest - reach), (high if math.isfinite(high) else largest + reach)


def method(sums: Any, values: Any) -> str:
    return BOUNDED if len(sums) == len(values) else f"{BOUNDED}, {len(sums)} clusters"
