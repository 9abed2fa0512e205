"""Samples of lm-evaluation-harness (`log_samples`): each example's own value of each metric that is a mean, so that a
task can be paired with another release's.

A metric that the harness counts over the whole set (perplexity, MCC) has no samples: it can be held to a threshold by
its point figure alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs.metrics import MetricDefinition
from eval.metrics.samples import Sample

# Right or wrong an example, by the harness' own metrics and those of its tasks.
BINARY = {
    "acc",
    "acc_norm",
    "acc_bytes",
    "acc_mutual_info",
    "exact_match",
    "prompt_level_strict_acc",
    "prompt_level_loose_acc",
    "pass@1",
    "pct_stereotype",
}
SHARE = "mc2"  # in the name of a task whose acc is the share of probability on true answers: TruthfulQA's, any language


def figure_name(subtask: str, task: str, metric: str, filtered: str) -> str:
    """METRIC, METRIC_FILTER; of a group's parts SUBTASK_METRIC."""
    parts = [*([subtask] if subtask != task else []), metric, *([filtered] if filtered != "none" else [])]
    return "_".join(parts).replace("-", "_")


def read_harness_samples(
    results: Any, files: list[Path], task: str
) -> tuple[list[Sample], dict[str, MetricDefinition]]:
    """And what each of their metrics is, by harness:TASK:METRIC. `files`: samples_SUBTASK_DATE.jsonl."""
    found: dict[str, list[Sample]] = {}
    of_group: dict[str, list[Sample]] = {}
    better: dict[str, bool] = {}
    kinds: dict[str, str] = {}
    for path in files:
        named = [name for name in results["results"] if path.name.startswith(f"samples_{name}_")]
        subtask = max(named, key=len, default=task)  # a group's name may begin that of its parts: mmlu, mmlu_anatomy
        directions = (results.get("higher_is_better") or {}).get(subtask) or {}
        for identity, metric, filtered, value in values_of(path):
            name = figure_name(subtask, task, metric, filtered)
            binary = metric in BINARY and SHARE not in subtask
            kinds[name], better[name] = "binary" if binary else "bounded", directions.get(metric) is not False
            found.setdefault(name, []).append(Sample(f"{subtask}/{identity}", None, f"harness:{task}", name, value))
            if subtask != task:
                whole = figure_name(task, task, metric, filtered)
                kinds[whole] = kinds[name] if kinds.get(whole) != "bounded" else "bounded"
                better[whole] = better[name]
                sample = Sample(f"{subtask}/{identity}", None, f"harness:{task}", whole, value)
                of_group.setdefault(whole, []).append(sample)
    figures = {
        figure_name(subtask, task, metric, filtered): value
        for subtask, values in results["results"].items()
        for key, value in values.items()
        for metric, _, filtered in [key.partition(",")]
    }
    kept = {
        name: samples
        for name, samples in (of_group | found).items()
        if is_mean(samples, figures.get(name), kinds[name])
    }
    definitions = {f"harness:{task}:{name}": definition_of(kinds[name], better[name]) for name in kept}
    return [sample for samples in kept.values() for sample in samples], definitions


def values_of(path: Path) -> Iterator[tuple[str, str, str, float]]:
    """Id, metric, filter and value. What is no plain number is a part of some figure of the whole set."""
    for line in path.read_text(encoding="utf8").splitlines():
        one = json.loads(line)
        identity = f"{one['doc_id']}/{str(one.get('doc_hash', ''))[:8]}"  # another question is no pair
        for metric in one.get("metrics") or []:
            value = one.get(metric)
            if isinstance(value, int | float):
                yield identity, metric, str(one.get("filter", "none")), float(value)


def is_mean(samples: list[Sample], figure: object, kind: str) -> bool:
    """Whether the harness' own figure is the mean of these, and each lies where such a metric lies."""
    values = [one.value for one in samples]
    fits = all(value in (0, 1) for value in values) if kind == "binary" else all(0 <= value <= 1 for value in values)
    same = isinstance(figure, int | float) and math.isclose(sum(values) / len(values), figure, abs_tol=1e-6)
    return fits and same


def definition_of(kind: str, higher_is_better: bool) -> MetricDefinition:
    return {"kind": kind, "low": 0.0, "high": 1.0, "higher_is_better": higher_is_better}
