"""Means and figures of a whole set, by resampling examples: seeded, so that the same evidence gives the same
verdict."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from eval.statistics.comparison import Comparison, Estimate
from eval.statistics.power import effect_of_means, normal

if TYPE_CHECKING:
    from pandas import DataFrame

SEED = 17
DRAWS = 9999
FIGURE_DRAWS = 999  # a figure of a whole set takes milliseconds, not microseconds
# BCa leaves each example out once, which takes n squared; beyond it the t interval differs by less than the draws' own
# noise
BCA_LIMIT = 2000
BATCH = 4_000_000  # numbers in memory at a time


def mean_interval(values: Any, confidence: float, scale: float) -> tuple[float, float, str]:
    """BCa bootstrap (Efron 1987) by scipy; Student's t beyond BCA_LIMIT and where BCa is undefined.

    Values that are all alike show no spread: then a share z^2 / (n + z^2) of unseen examples, the score interval's for
    none seen, may differ by `scale`.
    """
    import numpy
    from scipy import stats

    n, mean, error = len(values), float(numpy.mean(values)), float(stats.sem(values))
    if numpy.ptp(values) <= 1e-12 * max(1.0, abs(mean)):
        width = unseen(scale, n, confidence)
        return mean - width, mean + width, "interval of no spread seen"
    if n <= BCA_LIMIT:
        found = stats.bootstrap(
            (values,),
            numpy.mean,
            n_resamples=DRAWS,
            confidence_level=confidence,
            method="BCa",
            vectorized=True,
            rng=SEED,
            batch=max(1, BATCH // n),
        ).confidence_interval
        if math.isfinite(found.low) and math.isfinite(found.high):
            return float(found.low), float(found.high), f"BCa bootstrap, {DRAWS} draws"
    low, high = stats.t.interval(confidence, n - 1, loc=mean, scale=error)
    return float(low), float(high), "Student's t interval"


def permutation_p(release: Any, reference: Any) -> float:
    """Two-sided paired permutation test of the mean difference: each pair's sides are swapped or not (scipy,
    `samples`)."""
    from scipy.stats import permutation_test

    def statistic(one: Any, other: Any, axis: int) -> Any:
        return (one - other).mean(axis=axis)

    sides = (release, reference)
    return float(
        permutation_test(
            sides,
            statistic,
            permutation_type="samples",
            n_resamples=DRAWS,
            vectorized=True,
            rng=SEED,
            batch=max(1, BATCH // len(release) // 2),
        ).pvalue
    )


def compare_means(release: Any, reference: Any, confidence: float, bound: float, scale: float) -> Comparison:
    """Of two arrays paired by place. Raises ValueError for a single pair: it shows no spread."""
    import numpy

    if len(release) < 2:
        raise ValueError("one example")
    differences = release - reference
    low, high, method = mean_interval(differences, confidence, scale)
    deviation = float(numpy.std(differences, ddof=1))
    return Comparison(
        float(differences.mean()),
        low,
        high,
        confidence,
        permutation_p(release, reference),
        p_less(differences, bound),
        p_less(-differences, -bound),
        len(release),
        deviation,
        f"paired {method}, paired permutation p",
        effect_of_means(deviation, len(release), confidence),
    )


def estimate_mean(values: Any, confidence: float, bound: float, scale: float) -> Estimate:
    if len(values) < 2:
        raise ValueError("one example")
    low, high, method = mean_interval(values, confidence, scale)
    below, above = p_less(values, bound), p_less(-values, -bound)
    return Estimate(float(values.mean()), low, high, confidence, len(values), method, below, above)


def p_less(values: Any, bound: float) -> float:
    """One-sided t-test that the mean is truly below `bound`; 1 where no spread was seen."""
    import numpy
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(values, bound, alternative="less").pvalue) if numpy.ptp(values) > 1e-12 else 1.0


def draw(figure: Callable[[Any], float], n: int) -> Any:
    """FIGURE_DRAWS figures of examples drawn with replacement; the undefined ones are left out. Raises ValueError if
    more than one in twenty is."""
    import numpy

    generator = numpy.random.default_rng(SEED)
    found = numpy.array([figure(generator.integers(0, n, n)) for _ in range(FIGURE_DRAWS)])
    found = found[numpy.isfinite(found)]
    if len(found) < 0.95 * FIGURE_DRAWS:
        raise ValueError("the figure is undefined in more than one draw in twenty")
    return found


def compare_figures(
    figure: Callable[[DataFrame], float],
    release: DataFrame,
    reference: DataFrame,
    confidence: float,
    bound: float,
    scale: float,
) -> Comparison:
    """A figure of the whole set, both sides resampled together: percentile bootstrap (Efron and Tibshirani 1993), p by
    inverting it."""
    difference, n = figure(release) - figure(reference), len(release)
    if not math.isfinite(difference):
        raise ValueError("the figure is undefined")
    drawn = draw(lambda rows: figure(release.iloc[rows]) - figure(reference.iloc[rows]), n)
    low, high = percentiles(drawn, confidence, scale, n)
    p_value = min(1.0, 2 * min(share(drawn <= 0), share(drawn >= 0)))
    deviation = float(drawn.std(ddof=1)) * math.sqrt(n)
    method = f"paired percentile bootstrap, {FIGURE_DRAWS} draws, p by its inversion"
    effect = effect_of_means(deviation, n, confidence)
    return Comparison(
        difference,
        min(low, difference),
        max(high, difference),
        confidence,
        p_value,
        share(drawn >= bound),
        share(drawn <= bound),
        n,
        deviation,
        method,
        effect,
    )


def estimate_figure(
    figure: Callable[[DataFrame], float], frame: DataFrame, confidence: float, bound: float, scale: float
) -> Estimate:
    value = figure(frame)
    if not math.isfinite(value):
        raise ValueError("the figure is undefined")
    drawn = draw(lambda rows: figure(frame.iloc[rows]), len(frame))
    low, high = percentiles(drawn, confidence, scale, len(frame))
    return Estimate(
        value,
        min(low, value),
        max(high, value),
        confidence,
        len(frame),
        f"percentile bootstrap, {FIGURE_DRAWS} draws",
        share(drawn >= bound),
        share(drawn <= bound),
    )


def percentiles(drawn: Any, confidence: float, scale: float, n: int) -> tuple[float, float]:
    """Draws that are all alike show no spread: the same width as in `mean_interval`."""
    import numpy

    low, high = numpy.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    width = unseen(scale, n, confidence) if numpy.ptp(drawn) <= 1e-12 else 0.0
    return float(low) - width, float(high) + width


def unseen(scale: float, n: int, confidence: float) -> float:
    return scale * normal(confidence) ** 2 / (n + normal(confidence) ** 2)


def share(holds: Any) -> float:
    """Never 0: the draw that was measured counts as one."""
    return float((holds.sum() + 1) / (len(holds) + 1))
