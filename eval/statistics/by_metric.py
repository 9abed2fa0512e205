"""One metric of two sets of predictions, paired by example id; one metric of one set. The metric says which method
fits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from configs.run.metrics import METRICS, Metric
from eval.metrics.aggregate import figure
from eval.statistics.bootstrap import compare_figures, estimate_figure
from eval.statistics.comparison import Comparison, Estimate
from eval.statistics.values import compare_values, estimate_values

if TYPE_CHECKING:
    from pandas import DataFrame

Range = tuple[float, float]


def higher_is_better(metric: str) -> bool:
    """Of `f1:positive` what is true of f1. What the table does not know (a task of a harness) is a score."""
    known = METRICS.get(metric.partition(":")[0])
    return known is None or known.higher_is_better


def compare(
    metric: str,
    release: DataFrame,
    reference: DataFrame,
    confidence: float,
    margin: float = 0.0,
    value_range: Range | None = None,
) -> Comparison:
    """Held against the bound of non-inferiority: a difference of `margin` for the worse. `value_range`: of a metric
    whose range hangs on a setting, as a judge's scale does. Frames have `id`, `cluster` where rows share something, and
    the metric's columns.

    Raises ValueError, in words for a sentence, unless both hold the same ids and every value is a finite number.
    """
    ids = release["id"].astype(str), reference["id"].astype(str)
    if set(ids[0]) != set(ids[1]) or not len(release) or not (ids[0].is_unique and ids[1].is_unique):
        raise ValueError(f"{len(set(ids[0]) ^ set(ids[1]))} examples are not shared")
    one, other = (
        frame.assign(id=names).sort_values("id", ignore_index=True)
        for frame, names in zip((release, reference), ids, strict=True)
    )
    known = metric_of(metric)
    bound = -margin if known.higher_is_better else margin
    if known.per_example is None:
        scale = scale_of(known)
        return compare_figures(lambda frame: figure(metric, frame), one, other, confidence, bound, scale)
    mine, theirs = (values_of(frame, known.per_example) for frame in (one, other))
    limits = value_range or known.value_range
    return compare_values(mine, theirs, clusters_of(one), known.kind, limits, confidence, bound)


def estimate(
    metric: str, frame: DataFrame, confidence: float, bound: float = math.nan, value_range: Range | None = None
) -> Estimate:
    """Raises ValueError as `compare` does."""
    known = metric_of(metric)
    if not len(frame):
        raise ValueError("no examples")
    if known.per_example is None:
        return estimate_figure(lambda rows: figure(metric, rows), frame, confidence, bound, scale_of(known))
    values = values_of(frame, known.per_example)
    return estimate_values(values, clusters_of(frame), known.kind, value_range or known.value_range, confidence, bound)


def metric_of(metric: str) -> Metric:
    """Raises ValueError for what is no metric of examples."""
    base = metric.partition(":")[0]
    if base not in METRICS:
        raise ValueError(f"{metric} is not made of examples")
    return METRICS[base]


def values_of(frame: DataFrame, column: str) -> object:
    import numpy

    if column not in frame:
        raise ValueError(f"no column {column}")
    values = frame[column].to_numpy(dtype=float)
    if not numpy.isfinite(values).all():
        raise ValueError(f"{column} is not a finite number in {int((~numpy.isfinite(values)).sum())} examples")
    return values


def clusters_of(frame: DataFrame) -> object | None:
    """What each row shares with others; None where every row is one of its own."""
    return frame["cluster"].to_numpy() if "cluster" in frame else None


def scale_of(known: Metric) -> float:
    low, high = known.value_range
    return high - low if math.isfinite(high - low) else 1.0
