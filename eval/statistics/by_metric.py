"""One metric of two sets of predictions, paired by example id; one metric of one set. The metric says which method
fits."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from configs.run.metrics import METRICS, Metric
from eval.statistics import calibration
from eval.statistics.comparison import Comparison, Estimate
from eval.statistics.figures import DRAWS, compare_figures, estimate_figure
from eval.statistics.values import codes_of, compare_values, estimate_values
from eval.statistics.weighted import weighted

if TYPE_CHECKING:
    from pandas import DataFrame

Range = tuple[float, float]


def higher_is_better(metric: str) -> bool:
    """Of `f1:positive` what is true of f1. What the table does not know (a task of a harness) is a score."""
    known = METRICS.get(metric.partition(":")[0])
    return known is None or known.higher_is_better is not False


def compare(
    metric: str,
    release: DataFrame,
    reference: DataFrame,
    confidence: float,
    margin: float = 0.0,
    value_range: Range | None = None,
    draws: int = DRAWS,
) -> Comparison:
    """Held against the bound of non-inferiority: a difference of `margin` for the worse. `value_range`: of a metric
    whose range hangs on a setting, as a judge's scale does. `draws`: of a bootstrap, where there is one. Frames have
    `id`, `cluster` where rows share something, and the metric's columns.

    Raises ValueError, in words for a sentence, unless both hold the same ids and every value is a finite number.
    """
    ids = release["id"].astype(str), reference["id"].astype(str)
    if set(ids[0]) != set(ids[1]) or not len(release) or not (ids[0].is_unique and ids[1].is_unique):
        raise ValueError(f"{len(set(ids[0]) ^ set(ids[1]))} examples are not shared")
    one, other = (
        frame.assign(id=names).sort_values("id", ignore_index=True)
        for frame, names in zip((release, reference), ids, strict=True)
    )
    bound = -margin if higher_is_better(metric) else margin
    known, (one, other) = as_shares(metric, one, other)
    if known.per_example is not None:
        mine, theirs = (values_of(frame, known.per_example) for frame in (one, other))
        limits = value_range or known.value_range
        return compare_values(mine, theirs, clusters_of(one), known.kind, limits, confidence, bound)
    codes = codes_of(clusters_of(one), len(one))
    if metric == calibration.NAME:
        return calibration.compare_calibration(one, other, codes, confidence, bound, draws)
    found = compare_figures(weighted(metric, one), weighted(metric, other), codes, confidence, bound, draws)
    widest = known.value_range[1] - known.value_range[0]
    return replace(found, low=max(found.low, -widest), high=min(found.high, widest))


def estimate(
    metric: str, frame: DataFrame, confidence: float, bound: float = math.nan, value_range: Range | None = None
) -> Estimate:
    """Raises ValueError as `compare` does."""
    if not len(frame):
        raise ValueError("no examples")
    known, (rows,) = as_shares(metric, frame)
    clusters = clusters_of(rows)
    if known.per_example is not None:
        values, limits = values_of(rows, known.per_example), value_range or known.value_range
        return estimate_values(values, clusters, known.kind, limits, confidence, bound)
    rows = rows.assign(id=rows["id"].astype(str)).sort_values("id", ignore_index=True) if "id" in rows else rows
    codes = codes_of(clusters_of(rows), len(rows))
    if metric == calibration.NAME:
        return calibration.estimate_calibration(rows, codes, confidence, bound)
    low, high = known.value_range
    found = estimate_figure(
        weighted(metric, rows), codes, confidence, bound, math.isfinite(low) and math.isfinite(high)
    )
    return replace(found, low=max(found.low, low), high=min(found.high, high))


def as_shares(metric: str, *frames: DataFrame) -> tuple[Metric, list[DataFrame]]:
    """The metric under the name that decides its method. Of rows of one label the micro averages are the accuracy, and
    the recall of a label is the accuracy of its rows: shares of rows that are right or wrong, so a synonym gives the
    same answer. Raises ValueError where no row has the label."""
    known, (base, _, label) = metric_of(metric), metric.partition(":")
    if any("gold" not in frame or "correct" not in frame or "entities" in frame for frame in frames):
        return known, [*frames]
    single = not any("gold_labels" in frame for frame in frames)
    if single and base.startswith("micro_"):
        return METRICS["accuracy"], [*frames]
    if base != "recall" or not label:
        return known, [*frames]
    rows = [
        frame[frame["gold"] == label].assign(recalled=lambda one: one["correct"])
        if single
        else frame[[label in names for names in frame["gold_labels"]]].assign(
            recalled=lambda one: [float(label in names) for names in one["answer_labels"]]
        )
        for frame in frames
    ]
    if not all(map(len, rows)):
        raise ValueError(f"no example has the label {label}")
    return known._replace(per_example="recalled", kind="binary"), rows


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
