"""Metrics: what an evaluation measured of one release on one set of rows (metrics.json). `eval` writes it, everyone may
read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast


class ParityFigures(TypedDict):
    """How near the served answers came to the trainer's own. `difference` is None where it was no number."""

    prompts: int
    agreement: float
    difference: float | None
    passed: bool


class BehaviourFigures(TypedDict, total=False):
    """One behaviour test. `moved` is of directional tests alone; None: this kind of test has no such figure.

    `gap`: the mean absolute difference of a pair's two outcomes. `groups`: by perturbation, or by group of words.
    """

    kind: str
    n: int
    metric: str
    original: float | None
    changed: float | None
    drop: float | None
    flip_rate: float | None
    moved: float | None
    gap: float | None
    groups: dict[str, dict[str, float | None]]


class MetricDefinition(TypedDict):
    """Of a metric that only this run has (a harness task's, one of evaluate.metrics), or whose range it sets (a judge's
    score, an answer's tokens). `kind` as in configs.run.metrics; None: no limit on that side, or neither way is
    better."""

    kind: str
    low: float | None
    high: float | None
    higher_is_better: bool | None


class HarnessFigures(TypedDict):
    """One task of lm-evaluation-harness. `harness`: the program's version."""

    version: float | str | None
    n: int
    harness: str | None
    figures: dict[str, float]


class FoldFigures(TypedDict):
    """Of an evaluation by folds: the models that answered, each the rows that it had not seen, and how many those were.
    `champion_trained_on`: how many of all rows the champion was trained on, None where nobody knows."""

    releases: list[str]
    rows: list[int]
    champion_trained_on: NotRequired[int | None]


# Raise it when what is asked, counted or written changes: earlier evaluations are then measured anew.
EVALUATION_VERSION = 6


class Conditions(TypedDict):
    """All that two evaluations must have in common to be compared: the evaluation's key but for the release.
    `settings`: a digest of `evaluate:`; `versions` of vLLM, of the evaluation itself, of lm_eval and the judge where
    they are used."""

    rows: str
    settings: str
    versions: dict[str, str]


class Metrics(TypedDict, total=False):
    """The contents of metrics.json. Any key may be missing in a file that another version wrote, so readers ask by
    `get`."""

    release: str  # NAME@sha256:DIGEST
    dataset: str  # fingerprint of the test rows
    n: int  # test rows
    metrics: dict[str, float]
    classes: dict[str, dict[str, float]]  # by label or type of entity: precision, recall, f1, n
    slices: dict[str, dict[str, float]]  # by name: n and metrics
    parity: ParityFigures | None
    size_bytes: int  # of weights
    behaviour: dict[str, BehaviourFigures]
    harness: dict[str, HarnessFigures]
    cost: dict[str, float]
    definitions: dict[str, MetricDefinition]  # by the name that a rule gives: judge_score, harness:TASK:METRIC, ...
    key: str  # of the cache: what was measured, on what, and how
    conditions: Conditions
    folds: FoldFigures  # only where models of folds answered and not the release itself
    compared: list[str]  # those of `metrics` that tell of the unquantized parent


def why_not_comparable(one: Metrics, other: Metrics) -> str | None:
    """In words for a sentence, from the view of `other`; None where both were measured on the same rows, in the same
    way, by the same versions."""
    if not one.get("dataset") or one.get("dataset") != other.get("dataset"):
        return "was measured on other test rows"
    mine, theirs = one.get("conditions"), other.get("conditions")
    if mine == theirs:
        return None
    if mine is None or theirs is None:
        return "was measured by another version of tunegate"
    ours, others = mine["versions"], theirs["versions"]
    for name in sorted(ours.keys() | others.keys()):
        here, there = ours.get(name, "none"), others.get(name, "none")
        if here != there:
            return f"was measured with {name} {there}, the release with {here}"
    return "was measured with other settings of `evaluate:`"


def read_metrics(folder: Path) -> Metrics | None:
    """Of an evaluation's folder; None where metrics.json is missing or is no JSON object."""
    try:
        found: Any = json.loads((folder / "metrics.json").read_text(encoding="utf8"))
    except (OSError, ValueError):
        return None
    return cast(Metrics, found) if isinstance(found, dict) else None
