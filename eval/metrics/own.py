"""Metrics of one's own: functions of a checkout's modules, called with each test row and its answer."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from configs.errors import InputError
from configs.metrics import MetricDefinition
from configs.run.own_metric import OwnMetric
from eval.metrics.rows import Row

Scorer = Callable[[Row, str], dict[str, float | None]]


def own_name(metric: OwnMetric) -> str:
    """Its column of predictions.parquet, and how a gate names it."""
    return f"custom:{metric.name}"


def own_definition(metric: OwnMetric) -> MetricDefinition:
    kind, (low, high) = "binary" if metric.binary else "bounded", metric.range
    return {"kind": kind, "low": low, "high": high, "higher_is_better": metric.higher_is_better}


def load_own(metrics: list[OwnMetric]) -> Scorer:
    """A row's values by name. Raises InputError where a function cannot be had; what is made, where one fails on a row
    or gives what is not in its range."""
    functions = {metric: load(metric) for metric in metrics}

    def score(row: Row, answer: str) -> dict[str, float | None]:
        return {own_name(metric): value_of(metric, function, row, answer) for metric, function in functions.items()}

    return score


def load(metric: OwnMetric) -> Callable[[Row, str], Any]:
    module, _, name = metric.python.partition(":")
    try:
        spec = importlib.util.spec_from_file_location(module, Path(metric.path))
        if spec is None or spec.loader is None:
            raise ImportError(f"{metric.path} is no module")
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        function: Callable[[Row, str], Any] = getattr(loaded, name)
    except Exception as error:  # whatever the user's module raises
        raise InputError(
            f"evaluate.metrics {metric.name}: {metric.python} cannot be loaded: {error}",
            hint=f"python -c 'from {module} import {name}'",
        ) from error
    return function


def value_of(metric: OwnMetric, function: Callable[[Row, str], Any], row: Row, answer: str) -> float | None:
    low, high = metric.range
    try:
        found = function(dict(row), answer)
        value = None if found is None else float(found)
    except Exception as error:  # whatever the user's function raises
        raise InputError(
            f"evaluate.metrics {metric.name}: {metric.python} fails on row {row['id']}: {error}",
            hint=f"mend {metric.path}; the answers are kept: tunegate evaluate CONFIG",
        ) from error
    if value is not None and (not low <= value <= high or (metric.binary and value not in (0, 1))):
        expected = "0 or 1" if metric.binary else f"a number from {low:g} to {high:g}"
        raise InputError(
            f"evaluate.metrics {metric.name}: row {row['id']} has {value:g}, expected {expected}, or None",
            hint=f"mend {metric.path}, or evaluate.metrics: range",
        )
    return value
