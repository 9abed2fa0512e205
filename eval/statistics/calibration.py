"""The interval of the expected calibration error, which its own noise raises: at a true 0 it is above 0 at every n.

Low end: by the triangle inequality the true error is at least the measured one less the bins' own noise, whose size the
draws show. High end: that of the plain draws, which noise has raised twice. So a true 0 lies in the interval, and an
error that is said to be at most a bound is. Of two releases the difference is at most that of the ends, and at most the
distance of the two bin by bin.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from eval.metrics.aggregate import figure
from eval.metrics.classification import BINS
from eval.statistics.comparison import Comparison, Estimate
from eval.statistics.figures import DRAWS, draw, method_of, p_values, quantile
from eval.statistics.power import effect_of_means

if TYPE_CHECKING:
    from pandas import DataFrame

NAME = "expected_calibration_error"
EFFECT = 1.0  # a row at a share of s moves the error by s at most: its confidence and its outcome lie in [0, 1]


def gaps(frame: DataFrame) -> Any:
    """(n, BINS): a row's outcome less its confidence, in the column of its bin. Raises ValueError where it is not
    known."""
    import numpy

    confidence, correct = (frame[name].to_numpy(dtype=float) for name in ("confidence", "correct"))
    if not numpy.isfinite(confidence).all():
        raise ValueError("the confidence is not a finite number in some examples")
    bins = numpy.clip(numpy.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    found = numpy.zeros((len(frame), BINS))
    found[numpy.arange(len(frame)), bins] = correct - confidence
    return found


def ends(frame: DataFrame, codes: Any, draws: int = DRAWS) -> tuple[Any, Any, Any]:
    """Draws of the error, of its low end and of its high end."""
    import numpy

    rows = gaps(frame)
    n, centre = len(rows), rows.mean(axis=0)

    def both(weights: Any) -> Any:
        found = weights @ rows / n
        return numpy.abs(found).sum(axis=1) + 1j * numpy.abs(found - centre).sum(axis=1)

    drawn, unseen = draw(both, codes, draws=draws)
    low = numpy.abs(centre).sum() - drawn.imag - unseen * EFFECT
    return drawn.real, numpy.maximum(low, 0.0), numpy.minimum(drawn.real + unseen * EFFECT, 1.0)


def estimate_calibration(frame: DataFrame, codes: Any, confidence: float, bound: float) -> Estimate:
    value = figure(NAME, frame)
    drawn, low, high = ends(frame, codes)
    tail = (1 - confidence) / 2
    return Estimate(
        value,
        min(quantile(low, tail), value),
        max(-quantile(-high, tail), value),
        confidence,
        len(frame),
        method_of(DRAWS),
        *p_values(low, high, bound),
        float(drawn.std(ddof=1)) * math.sqrt(len(frame)),
    )


def compare_calibration(
    mine: DataFrame, theirs: DataFrame, codes: Any, confidence: float, bound: float, draws: int = DRAWS
) -> Comparison:
    """Each end is the nearer of two, each held at half of what may err."""
    import numpy

    difference, n = figure(NAME, mine) - figure(NAME, theirs), len(mine)
    (drawn, low, high), (others, their_low, their_high) = ends(mine, codes, draws), ends(theirs, codes, draws)
    apart = gaps(mine) - gaps(theirs)
    distance, unseen = draw(lambda weights: numpy.abs(weights @ apart / n).sum(axis=1), codes, draws=draws)
    farthest = distance + unseen * EFFECT
    sides = [(low - their_high, high - their_low), (-farthest, farthest)]
    tail, deviation = (1 - confidence) / 4, float((drawn - others).std(ddof=1)) * math.sqrt(n)

    def p_of(bound: float) -> tuple[float, float]:
        below, above = zip(*(p_values(*side, bound) for side in sides), strict=True)
        return min(1.0, 2 * min(below)), min(1.0, 2 * min(above))

    return Comparison(
        difference,
        min(max(quantile(one, tail) for one, _ in sides), difference),
        max(min(-quantile(-one, tail) for _, one in sides), difference),
        confidence,
        min(1.0, 2 * min(p_of(0.0))),
        *p_of(bound),
        n,
        deviation,
        f"paired {method_of(draws)}",
        effect_of_means(deviation, n, confidence),
    )
