"""The figures of many scored answers: one column a metric, one function for each figure of a whole set."""

from __future__ import annotations

import math
from array import array
from itertools import count
from typing import TYPE_CHECKING, Any

from configs.metrics import Metrics
from configs.run.metrics import METRICS, REPORTED
from eval.metrics import classification, entities, generation, regression
from eval.metrics.classification import averaged, over_labels
from eval.metrics.entities import over_entities

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray
    from pandas import DataFrame

MANY = {"gold_labels", "answer_labels"}  # only where a row may have many labels
LABELS = ("gold", "answer", "correct", *MANY)

# Figures of the whole set: the columns that each reads, and how it is made.
WHOLE: dict[str, tuple[tuple[str, ...], Callable[[DataFrame], float]]] = {
    **{
        f"{average}_{name}": (LABELS, averaged(name, average))
        for average in ("micro", "macro")
        for name in ("precision", "recall", "f1")
    },
    "matthews_correlation": (("gold", "answer", "correct"), classification.matthews_correlation),
    "roc_auc": (("probabilities", "gold", "gold_labels"), over_labels("roc_auc_score")),
    "pr_auc": (("probabilities", "gold", "gold_labels"), over_labels("average_precision_score")),
    "expected_calibration_error": (("confidence", "correct"), classification.expected_calibration_error),
    "root_mean_squared_error": (("absolute_error",), regression.root_mean_squared_error),
    "r_squared": (("gold", "answer", "absolute_error"), regression.r_squared),
    "spearman": (("gold", "answer", "absolute_error"), regression.spearman),
    "entity_precision": (("entities_found", "entities_wrong"), over_entities("entities_found", "entities_wrong")),
    "entity_recall": (("entities_found", "entities"), over_entities("entities")),
    "entity_f1": (
        ("entities_found", "entities_wrong", "entities"),
        over_entities("entities_found", "entities_wrong", "entities", times=2),
    ),
    "bleu": (("bleu_statistics",), generation.bleu),
    "chrf": (("chrf_statistics",), generation.chrf),
    "perplexity": (("logprob", "tokens"), generation.perplexity),
}


def figure(name: str, frame: DataFrame) -> float:
    """A metric of METRICS, or precision, recall or f1 of one label as in `f1:positive`, over rows of predictions; not a
    number where it is undefined.

    A mean is taken over the rows that have the column's value.
    """
    base, _, label = name.partition(":")
    column = METRICS[base].per_example if base in METRICS else None
    if name in frame and base == "custom":
        return float(frame[name].mean())
    if label:
        return classes_of(frame).get(label, {}).get(base, math.nan)
    if column is not None:
        return float(frame[column].mean()) if column in frame else math.nan
    needed, calculate = WHOLE.get(base, ((), None))
    return calculate(frame) if calculate and len(frame) and {*needed} - MANY <= {*frame} else math.nan


def classes_of(frame: DataFrame) -> dict[str, dict[str, float]]:
    """precision, recall, f1 and n by label, or by type of entity; empty where rows have neither."""
    if "entities" in frame:
        return entities.types(frame)
    return classification.classes(frame) if "probabilities" in frame else {}


def summarise(path: Path, kind: str, minimum_slice: int, own: Iterable[str] = ()) -> Metrics:
    """metrics, classes and slices of a predictions.parquet; `own`: the columns of evaluate.metrics. The columns of one
    figure are in memory at a time; what is not finite is left out."""
    members = {name: rows for name, rows in slice_rows(path).items() if len(rows) >= minimum_slice}
    metrics: dict[str, float] = {}
    slices: dict[str, dict[str, float]] = {name: {"n": len(rows)} for name, rows in members.items()}
    for name in (*REPORTED[kind], *own):
        column = METRICS[name].per_example if name in METRICS else name
        frame = read_columns(path, {*WHOLE[name][0]} if column is None else {column})
        metrics |= finite_figure(name, frame)
        for one, rows in members.items():
            slices[one] |= finite_figure(name, frame.iloc[rows])
    counted = {
        "label": {*LABELS, "probabilities"},
        "labels": {*LABELS, "probabilities"},
        "tags": {"gold", "answer", "entities"},
    }
    return {
        "metrics": metrics,
        "classes": classes_of(read_columns(path, counted[kind])) if kind in counted else {},
        "slices": slices,
    }


def finite_figure(name: str, frame: DataFrame) -> dict[str, float]:
    value = figure(name, frame)
    return {name: value} if math.isfinite(value) else {}


def read_columns(path: Path, columns: set[str]) -> DataFrame:
    """Those of `columns` that are there."""
    import pandas
    import pyarrow.parquet

    return pandas.read_parquet(
        path, columns=[name for name in pyarrow.parquet.read_schema(path).names if name in columns]
    )


def slice_rows(path: Path) -> dict[str, NDArray[Any]]:
    """The row numbers of each slice, by name: 4 bytes for each time that a row is in one."""
    import numpy
    import pyarrow.parquet

    found: dict[str, array[int]] = {}
    with pyarrow.parquet.ParquetFile(path) as file:
        numbers = count()
        for batch in file.iter_batches(columns=["slices"]):
            for names, number in zip(
                batch.column(0).to_pylist(), numbers, strict=False
            ):  # numbers last: zip takes none too many
                for name in names:
                    found.setdefault(name, array("i")).append(number)
    return {name: numpy.asarray(rows) for name, rows in sorted(found.items())}
