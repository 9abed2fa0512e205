"""What came of behaviour tests: figures for metrics.json, and samples, each pair a line for each of its outcomes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.metrics import BehaviourFigures
from configs.run.metrics import METRICS
from eval.behaviour.cases import PROMPT
from eval.metrics.samples import Sample

if TYPE_CHECKING:
    from pandas import DataFrame

WHOLE_ANSWER = {
    "label": "accuracy",
    "labels": "subset_accuracy",
    "value": "mean_absolute_error",
    "tags": "sentence_accuracy",
    "answer": "exact_match",
}


def figures_of(frame: DataFrame, metric: str, higher_is_better: bool = True) -> BehaviourFigures:
    original = float(frame["original_correct"].mean(skipna=False))
    changed = float(frame["changed_correct"].mean(skipna=False))
    drop = (original - changed) * (1 if higher_is_better else -1)
    return {
        "n": len(frame),
        "metric": metric,
        "original": original,
        "changed": changed,
        "drop": drop,
        "flip_rate": float(frame["flipped"].mean()),
    }


def sum_robustness(frame: DataFrame, test: Any, kind: str) -> BehaviourFigures:
    """`drop` is above 0 where the metric got worse; `groups`: the same figures by perturbation."""
    metric = WHOLE_ANSWER[kind]
    better = METRICS[metric].higher_is_better is not False
    groups = {
        str(name): without_nan(figures_of(part, metric, better)) for name, part in frame.groupby("variant", sort=False)
    }
    return {"kind": test.test, **figures_of(frame, metric, better), "gap": None, "groups": groups}


def sum_invariance(frame: DataFrame, test: Any, kind: str) -> BehaviourFigures:
    """`groups`: each word's or row's mean outcome counted once; of a group that is held against the first one also
    `gap`, the mean absolute difference of a pair, and `flip_rate`. The test's own `gap` is the largest of these: of
    pairs, for two differences of opposite sign would leave the means of their groups alike."""
    import pandas

    first = frame[["base", "id", "original_correct"]].set_axis(["group", "id", "outcome"], axis=1)
    if test.templates:  # the first group's words are compared with every other group's
        first = first.assign(id=frame["id"].str.replace(r"/[^/]*(?=/[^/]*$)", "", regex=True)).drop_duplicates("id")
    both = pandas.concat(
        [first, frame[["group", "id", "changed_correct"]].set_axis(["group", "id", "outcome"], axis=1)]
    )
    means: dict[str, dict[str, float]] = {
        str(name): {"n": len(part), "mean": float(part["outcome"].mean(skipna=False))}
        for name, part in both.groupby("group", sort=False)
    }
    for name, part in frame.groupby(part_of(frame, test.test), sort=False):
        gaps = (part["original_correct"] - part["changed_correct"]).abs()
        own = means.setdefault(str(name), {"n": len(part)})
        own |= {"gap": float(gaps.mean(skipna=False)), "flip_rate": float(part["flipped"].mean())}
    largest = [one["gap"] for one in means.values() if "gap" in one]
    metric = (
        f"probability:{test.label}"
        if test.label
        else "matches"
        if test.pattern
        else "value"
        if kind == "value"
        else WHOLE_ANSWER[kind]
    )
    return {
        "kind": test.test,
        **figures_of(frame, metric),
        "gap": math.nan if any(map(math.isnan, largest)) else max(largest),
        "groups": {name: without_nan(one) for name, one in means.items()},
    }


def part_of(frame: DataFrame, kind: str) -> Any:
    """By what a test's pairs are judged apart: the group of templates, else the perturbation."""
    return frame["group"].where(frame["variant"] != "swap", "swap") if kind == "invariance" else frame["variant"]


def sum_directional(frame: DataFrame, test: Any, kind: str) -> BehaviourFigures:
    """`original` and `changed` are means of the probability; `moved` is the share that moved as it must, `drop`
    the rest."""
    moved = float(frame["moved"].mean())
    figures = figures_of(frame, f"probability:{test.label}" if test.label else "value")
    return {"kind": test.test, **figures, "moved": moved, "drop": 1 - moved, "gap": None, "groups": {}}


def sum_abstention(frame: DataFrame, test: Any, kind: str) -> BehaviourFigures:
    """`changed`: share of the prompts abstained from, `original`: share of ordinary rows abstained from without need;
    `drop`: prompts answered."""
    asked, ordinary = frame[frame["variant"] == PROMPT], frame[frame["variant"] != PROMPT]
    abstained, without_need = float(asked["changed_correct"].mean()), float(ordinary["changed_correct"].mean())
    rates: dict[str, dict[str, float | None]] = {
        "prompt": {"n": len(asked), "mean": abstained},
        "ordinary": {"n": len(ordinary), "mean": without_need},
    }
    return {
        "kind": test.test,
        "n": len(asked),
        "metric": "abstained",
        "original": without_need,
        "changed": abstained,
        "drop": 1 - abstained,
        "flip_rate": None,
        "gap": None,
        "groups": rates,
    }


SUMMARIES: dict[str, Callable[[DataFrame, Any, str], BehaviourFigures]] = {
    "robustness": sum_robustness,
    "invariance": sum_invariance,
    "directional": sum_directional,
    "abstention": sum_abstention,
}


def without_nan(figures: Any) -> Any:
    """JSON knows no NaN: absent is null, and the gate does not pass it."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in figures.items()
    }


def samples_of_outcomes(path: Path) -> Iterator[Sample]:
    """Of behaviour.parquet, where there is one. A pair's sources are told apart as its rules judge them."""
    import pandas

    if not path.exists():
        return
    for kind, frame in pandas.read_parquet(path).groupby("kind", sort=False):
        parts = part_of(frame, str(kind))
        for (_, row), part in zip(frame.iterrows(), parts, strict=True):
            source = f"behaviour:{row['test']}:{part}"
            cluster = row["cluster"] if isinstance(row["cluster"], str) else None  # pandas' missing text is a float
            for metric, value in outcomes_of(str(kind), row).items():
                yield Sample(f"{row['test']}/{part}/{row['id']}", cluster, source, metric, float(value))


def outcomes_of(kind: str, row: Any) -> dict[str, float]:
    """By the name that a sample has."""
    original, changed = row["original_correct"], row["changed_correct"]
    if kind == "robustness":
        return {"original": original, "changed": changed, "flipped": row["flipped"]}
    if kind == "invariance":
        return {"gap": abs(original - changed), "flipped": row["flipped"]}
    return {"moved": row["moved"]} if kind == "directional" else {"abstained": changed}
