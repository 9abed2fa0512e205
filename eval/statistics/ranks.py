"""Figures made of the order of the rows, weighed: areas under curves and Spearman's correlation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from eval.metrics.classification import read_probabilities

if TYPE_CHECKING:
    from pandas import DataFrame


def areas(curve: Callable[[Any, Any], Any], steps: Callable[[int], float]) -> Callable[[DataFrame], tuple[Any, float]]:
    """Mean over the labels that some rows have and others have not. `steps`: how many times 1 / positives one unseen
    row can move the area of so many positives."""

    def make(frame: DataFrame) -> tuple[Any, float]:
        import numpy

        labels = sorted(read_probabilities(frame["probabilities"].iloc[0]))
        known = [read_probabilities(one) for one in frame["probabilities"]]
        gold = frame["gold_labels"] if "gold_labels" in frame else [{one} for one in frame["gold"]]
        parts, effects = [], []
        for label in labels:
            true = numpy.array([label in one for one in gold], dtype=float)
            if 0 < true.sum() < len(true):
                scores = numpy.array([one.get(label, math.nan) for one in known])
                parts.append((numpy.argsort(-scores, kind="stable"), ends_of_ties(-numpy.sort(-scores)), true))
                rarer = min(true.sum(), len(true) - true.sum())
                effects.append(len(true) * steps(int(true.sum())) / rarer)

        def weigh(weights: Any) -> Any:
            found = [curve(*steps_of(weights[:, order], true[order], ends)) for order, ends, true in parts]
            return sum(found) / len(found)

        return weigh, sum(effects) / len(effects)

    return make


def ends_of_ties(ordered: Any) -> Any:
    """The last place of each run of equal values."""
    import numpy

    return numpy.flatnonzero(numpy.append(numpy.diff(ordered) != 0, True))


def steps_of(weights: Any, true: Any, ends: Any) -> tuple[Any, Any]:
    """Weight of the positives, and of the negatives, at or above each distinct score, the highest first."""
    import numpy

    return numpy.cumsum(weights * true, axis=1)[:, ends], numpy.cumsum(weights * (1 - true), axis=1)[:, ends]


def under_roc(positives: Any, negatives: Any) -> Any:
    """By the trapezoid over the last axis: ties count half."""
    import numpy

    rise, before = numpy.diff(negatives, axis=-1, prepend=0.0), numpy.roll(positives, 1, axis=-1)
    before[..., 0] = 0.0
    return (rise * (positives + before) / 2).sum(axis=-1) / (positives[..., -1] * negatives[..., -1])


def average_precision(positives: Any, negatives: Any) -> Any:
    """Precision at each distinct score, weighed by the rise in recall, as scikit-learn's."""
    import numpy

    gain = numpy.diff(positives, axis=-1, prepend=0.0)
    return (gain * positives / numpy.maximum(positives + negatives, 1e-30)).sum(axis=-1) / positives[..., -1]


def spearman(frame: DataFrame) -> tuple[Any, float]:
    """Pearson's correlation of weighed mid-ranks. The effect: it is 12 times the covariance of ranks in [0, 1], which a
    row at one corner moves by 3, and one at the other by as much the other way."""
    import numpy

    sides = []
    for name in ("gold", "answer"):
        values = frame[name].to_numpy(dtype=float)
        order = numpy.argsort(values, kind="stable")
        ends = ends_of_ties(values[order])
        tie = numpy.empty(len(values), dtype=int)
        tie[order] = numpy.searchsorted(ends, numpy.arange(len(values)))
        sides.append((order, ends, tie))

    def weigh(weights: Any) -> Any:
        total = weights.sum(axis=1, keepdims=True)
        one, other = (centred(weights, total, *side) for side in sides)
        covariance, first, second = (
            (weights * a * b).sum(axis=1) for a, b in ((one, other), (one, one), (other, other))
        )
        return covariance / numpy.sqrt(first * second)

    return weigh, 6.0


def centred(weights: Any, total: Any, order: Any, ends: Any, tie: Any) -> Any:
    """Mid-ranks less their mean, which is half of all weight."""
    import numpy

    above = numpy.cumsum(weights[:, order], axis=1)[:, ends]
    below = numpy.concatenate([numpy.zeros((len(weights), 1)), above[:, :-1]], axis=1)
    return ((above + below) / 2)[:, tie] - total / 2


FIGURES: dict[str, Callable[[DataFrame], tuple[Any, float]]] = {
    "roc_auc": areas(under_roc, lambda positives: 1.0),
    "pr_auc": areas(average_precision, lambda positives: 1 + math.log(positives)),
    "spearman": spearman,
}
