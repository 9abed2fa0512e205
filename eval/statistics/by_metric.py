"""One metric of two sets of predictions, paired by example id; one metric of one set. The metric says which method fits."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from configs.run.metrics import METRICS
from eval.metrics.aggregate import figure
from eval.statistics.bootstrap import compare_figures, compare_means, estimate_figure, estimate_mean
from eval.statistics.proportions import Comparison, Estimate, compare_outcomes, estimate_share

if TYPE_CHECKING:
    from pandas import DataFrame


def higher_is_better(metric: str) -> bool:
    """Of `f1:positive` what is true of f1. What the table does not know (a task of a harness) is a score."""
    known = METRICS.get(metric.partition(":")[0])
    return known is None or known.higher_is_better


def compare(metric: str, release: DataFrame, reference: DataFrame, confidence: float, margin: float = 0.0) -> Comparison:
    """`p_worse`: of the release being truly no worse than the reference by more than `margin`.

    Raises ValueError, in words for a sentence, unless both hold the same ids and every value is a finite number.
    """
    ids = release["id"].astype(str), reference["id"].astype(str)
    if set(ids[0]) != set(ids[1]) or not len(release) or not (ids[0].is_unique and ids[1].is_unique):
        raise ValueError(f"{len(set(ids[0]) ^ set(ids[1]))} examples are not shared")
    one, other = (frame.assign(id=names).sort_values("id", ignore_index=True) for frame, names in zip((release, reference), ids, strict=True))
    better, column = higher_is_better(metric), column_of(metric)
    bound = -margin if better else margin
    if column is None:
        found = compare_figures(lambda frame: figure(metric, frame), one, other, confidence, bound, scale_of(metric))
    else:
        mine, theirs = values_of(one, column), values_of(other, column)
        found = compare_outcomes(mine, theirs, confidence, bound) if outcomes(mine, theirs) else means(metric, mine, theirs, confidence, bound)
    return found if better else replace(found, p_worse=1 - found.p_worse)


def means(metric: str, mine: Any, theirs: Any, confidence: float, bound: float) -> Comparison:
    return compare_means(mine, theirs, confidence, bound, scale_of(metric, mine, theirs))


def estimate(metric: str, frame: DataFrame, confidence: float, bound: float = math.nan) -> Estimate:
    """`p_below` tells how well the figure fits a truth of at least `bound`. Raises ValueError as `compare` does."""
    column = column_of(metric)
    if not len(frame):
        raise ValueError("no examples")
    if column is None:
        return estimate_figure(lambda rows: figure(metric, rows), frame, confidence, bound, scale_of(metric))
    values = values_of(frame, column)
    return estimate_share(values, confidence, bound) if outcomes(values) else estimate_mean(values, confidence, bound, scale_of(metric, values))


def column_of(metric: str) -> str | None:
    """None for a figure of the whole set. Raises ValueError for what is no metric of examples."""
    base = metric.partition(":")[0]
    if base not in METRICS:
        raise ValueError(f"{metric} is not made of examples")
    return METRICS[base].per_example


def values_of(frame: DataFrame, column: str) -> Any:
    import numpy

    if column not in frame:
        raise ValueError(f"no column {column}")
    values = frame[column].to_numpy(dtype=float)
    if not numpy.isfinite(values).all():
        raise ValueError(f"{column} is not a finite number in {int((~numpy.isfinite(values)).sum())} examples")
    return values


def outcomes(*arrays: Any) -> bool:
    return all(((values == 0) | (values == 1)).all() for values in arrays)


def scale_of(metric: str, *arrays: Any) -> float:
    """How far one example may lie from the others: 1 in the unit interval, else the range that was seen."""
    if METRICS[metric.partition(":")[0]].unit_interval or not arrays:
        return 1.0
    largest, smallest = max(values.max() for values in arrays), min(values.min() for values in arrays)
    return float(largest - smallest) or abs(float(largest))
