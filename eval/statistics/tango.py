"""Tango's score statistic and interval of the difference of two paired shares."""

from __future__ import annotations

from typing import Any


def score(gained: Any, lost: Any, n: Any, difference: Any) -> Any:
    """Tango's score statistic of a true `difference` (Statist. Med. 17, 1998, 891); standard normal when it is true.
    Takes arrays.

    `share` is the likeliest share of lost pairs given the difference: the larger root of a quadratic.
    """
    import numpy

    linear = -gained - lost + (2 * n - gained + lost) * difference
    root = numpy.sqrt(numpy.maximum(linear * linear + 8 * n * lost * difference * (1 - difference), 0.0))
    share = (root - linear) / (4 * n)
    variance = n * (2 * share + difference * (1 - difference))
    distance = gained - lost - n * difference
    with numpy.errstate(divide="ignore", invalid="ignore"):
        beyond = numpy.where(
            distance == 0, 0.0, numpy.sign(distance) * numpy.inf
        )  # no pair differs, and none does truly
        return numpy.where(variance > 1e-12, distance / numpy.sqrt(numpy.maximum(variance, 1e-12)), beyond)


def tango_interval(gained: Any, lost: Any, n: Any, confidence: float) -> tuple[Any, Any]:
    """The differences that the score test does not refuse, by bisection. Takes arrays.

    Chosen over Newcombe's method 10, which passed a true loss of the margin in up to 3.4% of draws where few pairs
    differ (n = 500, 3% discordant, margin 0.02); this one in 2.2% (benchmarks/eval/statistics.py). Of some width even
    where no pair differs.
    """
    import numpy
    from scipy.stats import norm

    gained, lost, n = (numpy.asarray(one, dtype=float) for one in (gained, lost, n))
    critical, centre = float(norm.ppf((1 + confidence) / 2)), (gained - lost) / n

    def bound(outer: float) -> Any:
        inside, outside = centre, numpy.full(numpy.shape(centre), outer)
        for _ in range(50):
            middle = (inside + outside) / 2
            kept = numpy.abs(score(gained, lost, n, middle)) <= critical
            inside, outside = numpy.where(kept, middle, inside), numpy.where(kept, outside, middle)
        return inside

    return bound(-1.0), bound(1.0)
