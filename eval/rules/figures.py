"""One metric of what was measured: its figure, its interval, and its difference from another release's. Pure.

Means are made of the long table of samples (eval/metrics/samples.py), figures of the whole set of predictions.parquet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from configs.metrics import MetricDefinition
from configs.run.metrics import METRICS, Kind, Metric
from eval.metrics.aggregate import figure
from eval.metrics.samples import JUDGE, column_of, select, source_of
from eval.rules.evidence import Measured
from eval.rules.result import as_object, finite
from eval.statistics import by_metric
from eval.statistics.comparison import Comparison, Estimate, Found, widen_by_folds
from eval.statistics.figures import DRAWS
from eval.statistics.ratios import estimate_ratio
from eval.statistics.values import compare_values, estimate_values

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from pandas import DataFrame, Series

    Arrays = tuple[NDArray[Any], NDArray[Any] | None]  # values and clusters


@dataclass(frozen=True)
class Compared:
    """A comparison, both figures, and how many examples only one of the two has."""

    found: Comparison
    value: float
    reference_value: float
    left_out: int = 0


def definition_of(metric: str, measured: Measured) -> MetricDefinition:
    """Raises ValueError for a metric that was not measured and that nobody knows."""
    known = measured.record.get("definitions") or {}
    if name := defined_name(metric, known):
        return known[name]
    base = METRICS.get(metric.partition(":")[0])
    if base is None:
        raise ValueError(f"{metric} was not measured")
    return as_definition(base)


def as_definition(known: Metric) -> MetricDefinition:
    low, high = known.value_range
    return {"kind": known.kind, "low": low, "high": high, "higher_is_better": known.higher_is_better}


def defined_name(metric: str, known: Any) -> str | None:
    """harness_TASK_METRIC is the name that harness:TASK:METRIC has in metrics.json."""
    return metric if metric in known else next((one for one in known if one.replace(":", "_") == metric), None)


def higher_is_better(metric: str, measured: Measured) -> bool:
    try:
        return definition_of(metric, measured)["higher_is_better"] is not False
    except ValueError:
        return True


def value_of(metric: str, measured: Measured) -> float | None:
    """As metrics.json says, else counted anew; None where there is none."""
    metrics = as_object(measured.record.get("metrics"))
    for name in (metric, metric.replace(":", "_")):
        if name in metrics:
            return finite(metrics[name])
    return finite(figure(metric, measured.frame)) if ":" in metric and measured.frame is not None else None


def estimate_metric(metric: str, measured: Measured, confidence: float, bound: float = 0.0) -> Estimate:
    """Raises ValueError, in words for a sentence, where there are no examples, or not all are finite numbers."""
    if is_whole(metric):
        if measured.frame is None:
            raise ValueError(f"{metric} has no examples")
        found = by_metric.estimate(metric, measured.frame, confidence, bound)
        return by_folds(found, metric, measured, lambda frame: figure(metric, frame), bound)
    known, samples = definition_of(metric, measured), samples_of(metric, measured)
    found = estimate_samples(samples, known, confidence, bound)
    values = samples.set_index("id")["value"]
    return by_folds(found, metric, measured, lambda frame: mean_of(values, frame), bound)


def estimate_samples(samples: DataFrame, known: MetricDefinition, confidence: float, bound: float = 0.0) -> Estimate:
    """Of columns id, cluster, value. Raises ValueError as above."""
    values, clusters = arrays_of(samples.sort_values("id", ignore_index=True))
    return estimate_values(values, clusters, kind_of(known), range_of(known), confidence, bound)


def compare_metric(
    metric: str, mine: Measured, theirs: Measured, confidence: float, margin: float = 0.0, draws: int = DRAWS
) -> Compared:
    """Paired by id; of a judge's scores those pairs that both have. `draws`: of a bootstrap, where there is one. Raises
    ValueError as above."""
    if is_whole(metric):
        if mine.frame is None or theirs.frame is None:
            raise ValueError(f"{metric} has no examples")
        found = by_metric.compare(metric, mine.frame, theirs.frame, confidence, margin, draws=draws)
        frames = theirs.frame
        bound = -margin if by_metric.higher_is_better(metric) else margin

        def differ(frame: DataFrame) -> float:
            return figure(metric, frame) - figure(metric, frames[frames["id"].isin(frame["id"])])

        found = by_folds(found, metric, mine, differ, bound)
        return Compared(found, figure(metric, mine.frame), figure(metric, theirs.frame))
    one, other, alone = paired_samples(metric, mine, theirs)
    known = definition_of(metric, mine)
    found = compare_samples(one, other, known, confidence, margin)
    differences = one.set_index("id")["value"] - other.set_index("id")["value"]
    bound = -margin if known["higher_is_better"] else margin
    found = by_folds(found, metric, mine, lambda frame: mean_of(differences, frame), bound)
    return Compared(found, float(one["value"].mean()), float(other["value"].mean()), alone)


def ratio_of_metric(metric: str, mine: Measured, theirs: Measured, confidence: float) -> Estimate:
    """Of the two means, paired as above. Raises ValueError as above."""
    if is_whole(metric):
        raise ValueError(f"{metric} is no mean over examples")
    one, other, _ = paired_samples(metric, mine, theirs)
    known, (values, clusters), (others, _) = definition_of(metric, mine), *arrays_of_pairs(one, other)
    found = estimate_ratio(values, others, clusters, kind_of(known), range_of(known), confidence)
    ours, theirs_values = (side.set_index("id")["value"] for side in (one, other))

    def ratio(frame: DataFrame) -> float:
        below = mean_of(theirs_values, frame)
        return mean_of(ours, frame) / below if below else math.nan

    return by_folds(found, metric, mine, ratio, limits=(0.0, math.inf))


def paired_samples(metric: str, mine: Measured, theirs: Measured) -> tuple[DataFrame, DataFrame, int]:
    """Both by id, and how many only one of the two has, which a judge's scores alone may have. Raises ValueError as
    above."""
    one, other = (samples_of(metric, side) for side in (mine, theirs))
    alone = {*one["id"]} ^ {*other["id"]}
    if alone and source_of(metric) != JUDGE:
        raise ValueError(f"{len(alone)} examples are not shared")
    one, other = (side[~side["id"].isin(alone)].sort_values("id", ignore_index=True) for side in (one, other))
    return one, other, len(alone)


def compare_samples(
    one: DataFrame, other: DataFrame, known: MetricDefinition, confidence: float, margin: float = 0.0
) -> Comparison:
    """Of two that hold the same ids in the same order. Raises ValueError as above."""
    (values, clusters), (others, _) = arrays_of_pairs(one, other)
    bound = -margin if known["higher_is_better"] else margin
    return compare_values(values, others, clusters, kind_of(known), range_of(known), confidence, bound)


def by_folds(
    found: Found,
    metric: str,
    measured: Measured,
    figure_of: Callable[[DataFrame], float],
    bound: float = math.nan,
    limits: tuple[float, float] | None = None,
) -> Found:
    """An interval of test rows that were answered by models of folds; any other as it is. `figure_of`: what `found` is
    of, of some rows of the predictions. Raises TooFewError where fewer than two folds have such a figure."""
    frame = measured.frame
    if metric.startswith("harness") or frame is None or "fold" not in frame:
        return found
    low, high = range_of(definition_of(metric, measured))
    return of_folds(
        found,
        frame,
        figure_of,
        limits or ((low, high) if isinstance(found, Estimate) else (low - high, high - low)),
        bound,
    )


def of_folds(
    found: Found,
    frame: DataFrame,
    figure_of: Callable[[DataFrame], float],
    limits: tuple[float, float],
    bound: float = math.nan,
) -> Found:
    """As by_folds, of what is no metric; `limits`: what the figure may be."""
    if "fold" not in frame:
        return found
    return widen_by_folds(found, [figure_of(rows) for _, rows in frame.groupby("fold")], limits, bound)


def mean_of(values: Series, frame: DataFrame) -> float:
    """Of the frame's rows; nan where none has a value."""
    return float(values[values.index.isin(frame["id"])].mean())


def is_whole(metric: str) -> bool:
    """Whether it is a figure of the whole set, of which one example has none."""
    base = metric.partition(":")[0]
    return base in METRICS and METRICS[base].kind == "whole"


def samples_of(metric: str, measured: Measured) -> DataFrame:
    """Columns id, cluster, value. Raises ValueError where there is no sample."""
    name, found = defined_name(metric, measured.record.get("definitions") or {}) or metric, None
    if measured.samples is not None:
        source, _, of_task = name.rpartition(":") if name.startswith("harness:") else (source_of(name), "", name)
        found = select(measured.samples, source, of_task)
    if (found is None or not len(found)) and measured.frame is not None:  # measured before there were samples
        found = samples_of_frame(metric, measured.frame)
    if found is None or not len(found):
        raise ValueError(f"{metric} has no examples")
    return found


def samples_of_frame(metric: str, frame: DataFrame) -> DataFrame | None:
    column = column_of(metric)
    if column is None or column not in frame:
        return None
    found = frame[["id"]].assign(cluster=frame.get("cluster"), value=frame[column])
    return found[found["value"].notna()] if source_of(metric) == JUDGE else found


def arrays_of_pairs(one: DataFrame, other: DataFrame) -> tuple[Arrays, Arrays]:
    """Raises ValueError unless both hold the same ids in the same order."""
    if not len(one) or not one["id"].is_unique or list(one["id"]) != list(other["id"]):
        raise ValueError("no examples are shared" if not len(one) else "ids repeat, or are not shared")
    return arrays_of(one), arrays_of(other)


def arrays_of(samples: DataFrame) -> Arrays:
    """Values and clusters. Raises ValueError where one is no finite number."""
    import numpy

    values = samples["value"].to_numpy(dtype=float)
    if wrong := int((~numpy.isfinite(values)).sum()):
        raise ValueError(f"{wrong} examples are no finite number")
    clusters = samples["cluster"]
    return values, clusters.fillna(samples["id"]).to_numpy(dtype=object) if clusters.notna().any() else None


def kind_of(known: MetricDefinition) -> Kind:
    return cast(Kind, known["kind"])


def range_of(known: MetricDefinition) -> tuple[float, float]:
    low, high = known["low"], known["high"]
    return -math.inf if low is None else low, math.inf if high is None else high
