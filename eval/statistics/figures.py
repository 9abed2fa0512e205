"""Figures of a whole set (F1, AUC, BLEU ...): intervals by weighing the rows anew, of clusters all rows alike.

The Bayesian bootstrap (Rubin, Annals of Statistics 9, 1981, 130): each draw weighs the rows as a Dirichlet draw says,
so that no row is ever left out and a figure that is defined stays so. As in eval/statistics/means.py one row (or
cluster) more that nobody saw takes its share of the weight at its worst: where few rows differ, or none, that is the
width that is left. Where rows count by their size (entities, tokens), it is as large as the row in which a drawn entity
or token stands: sampling in proportion to size. Seeded, so that the same evidence gives the same verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from eval.statistics.comparison import Comparison, Estimate, TooFewError
from eval.statistics.power import effect_of_means
from eval.statistics.weighted import Weighted

SEED = 17
DRAWS = 1999
BATCH = 4_000_000  # numbers in memory at a time
LEAST = 20  # rows or clusters, the fewest that were simulated (benchmarks/eval/whole_sets.py)
LEAST_UNBOUNDED = 50  # of one release's figure that may be of any size
Pairs = Callable[[Any], Any]  # weights of shape (draws, n) to figures of shape (draws,)


def estimate_figure(found: Weighted, codes: Any, confidence: float, bound: float, bounded: bool = True) -> Estimate:
    """`codes`: of shape (n,), the number of each row's cluster. `bounded`: the figure has a range; of one that has none
    an unseen row may lie twice as far as any that was seen. Raises TooFewError for too few clusters."""
    drawn, unseen = draw(found.weigh, codes, LEAST if bounded else LEAST_UNBOUNDED)
    effect = reach(found.effect if bounded else 2 * found.effect, codes, len(drawn))
    low, high = drawn - unseen * effect, drawn + unseen * effect
    return Estimate(
        found.value,
        min(quantile(low, (1 - confidence) / 2), found.value),
        max(-quantile(-high, (1 - confidence) / 2), found.value),
        confidence,
        len(codes),
        method_of(DRAWS),
        *p_values(low, high, bound),
        float(drawn.std(ddof=1)) * math.sqrt(len(codes)),
        float(effect.mean()),
    )


def compare_figures(
    mine: Weighted, theirs: Weighted, codes: Any, confidence: float, bound: float, draws: int = DRAWS
) -> Comparison:
    """Both sides weighed alike. Otherwise as `estimate_figure`."""
    import numpy

    difference = mine.value - theirs.value
    drawn, unseen = draw(lambda weights: mine.weigh(weights) - theirs.weigh(weights), codes, draws=draws)
    effect = reach(numpy.maximum(mine.effect, theirs.effect), codes, len(drawn))
    low, high, n = drawn - unseen * effect, drawn + unseen * effect, len(codes)
    deviation = float(drawn.std(ddof=1)) * math.sqrt(n)
    return Comparison(
        difference,
        min(quantile(low, (1 - confidence) / 2), difference),
        max(-quantile(-high, (1 - confidence) / 2), difference),
        confidence,
        min(1.0, 2 * min(p_values(low, high, 0.0))),
        *p_values(low, high, bound),
        n,
        deviation,
        f"paired {method_of(draws)}",
        effect_of_means(deviation, n, confidence),
        scale=float(effect.mean()),
        clusters=int(codes.max()) + 1 if codes.max() + 1 < n else None,
    )


def method_of(draws: int) -> str:
    return f"Bayesian bootstrap, {draws} draws, with an unseen example at its worst"


def draw(weigh: Pairs, codes: Any, least: int = LEAST, draws: int = DRAWS) -> tuple[Any, Any]:
    """`draws` figures, each times the weight of what was seen, and the weight of one cluster more, as large as the
    largest."""
    import numpy

    sizes = numpy.bincount(codes)
    if len(sizes) < least:
        raise TooFewError("examples" if len(sizes) == len(codes) else "clusters", len(sizes), least)
    parts = [(weigh(weights), unseen) for weights, unseen in weights_of(codes, sizes, draws)]
    figures, unseen = (numpy.concatenate(side) for side in zip(*parts, strict=True))
    return figures * (1 - unseen), unseen


def weights_of(codes: Any, sizes: Any, draws: int) -> Iterator[tuple[Any, Any]]:
    """By batches: weights of shape (draws, n), which add up to n, and the share of the unseen cluster."""
    import numpy

    generator, step = numpy.random.default_rng(SEED), max(1, BATCH // len(codes))
    for start in range(0, draws, step):
        drawn = generator.standard_exponential((min(step, draws - start), len(sizes) + 1))
        seen = drawn[:, 1:] @ sizes
        unseen = drawn[:, 0] * sizes.max()
        yield drawn[:, 1:][:, codes] * (len(codes) / seen)[:, None], unseen / (unseen + seen)


def reach(effect: Any, codes: Any, draws: int) -> Any:
    """Of shape (draws,): how far the unseen cluster moves the figure in each draw, for a unit of its share. Of effects
    by row that of one cluster, drawn in proportion to it."""
    import numpy

    if numpy.ndim(effect) == 0:
        return numpy.full(draws, effect)
    mean = numpy.bincount(codes, effect) / numpy.bincount(codes)
    return numpy.random.default_rng(SEED + 1).choice(mean, draws, p=mean / mean.sum())


def quantile(drawn: Any, tail: float) -> float:
    """The lower one. Beyond the 20 lowest draws by the normal tail that goes through the 20th and the median."""
    import numpy
    from scipy.special import ndtri

    known = max(tail, 20 / len(drawn))
    found, median = float(numpy.quantile(drawn, known)), float(numpy.median(drawn))
    return found if known == tail else median + (found - median) * float(ndtri(tail) / ndtri(known))


def p_values(low: Any, high: Any, bound: float) -> tuple[float, float]:
    """p_below and p_above: `quantile` turned round."""
    return tail_of(-high, -bound), tail_of(low, bound)


def tail_of(drawn: Any, bound: float) -> float:
    """Share of the draws at or below `bound`; never 0."""
    import numpy
    from scipy.special import ndtr, ndtri

    counted = int((drawn <= bound).sum())
    if counted >= 20 or not math.isfinite(bound):
        return counted / len(drawn)
    known = 20 / len(drawn)
    found, median = float(numpy.quantile(drawn, known)), float(numpy.median(drawn))
    beyond = float(ndtr(ndtri(known) * (bound - median) / (found - median))) if found < median else 0.0
    return max(min(beyond, known), 1e-12)
