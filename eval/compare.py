"""Any two releases beside each other: every metric that both have, paired on the same test rows, and the slices of one
metric."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

from configs.errors import InputError
from configs.run.metrics import METRICS
from configs.verdict import RuleEvidence
from eval.metrics.aggregate import figure
from eval.rules.evidence import Measured, read_measured, slices_of
from eval.rules.result import describe, finite
from eval.statistics.by_metric import compare

if TYPE_CHECKING:
    from pandas import DataFrame

HELPS = (
    "tunegate evaluate CONFIG   "
    "(a rule of its gate that names NAME@sha256:DIGEST has that release measured on the same rows)"
)


class ComparedFigure(RuleEvidence, total=False):
    """One metric of two releases, or one slice by its `name`. `why_not`: why there is nothing else."""

    name: str
    why_not: str
    p_adjusted: float  # by Holm over the slices


class ComparedReleases(TypedDict):
    """`difference` is release minus reference."""

    release: str
    reference: str
    dataset: str
    n: int
    confidence: float
    metrics: list[ComparedFigure]
    sliced_metric: str | None
    slices: list[ComparedFigure]


def compare_releases(
    one: str, other: str, confidence: float, metric: str | None, report_progress: Callable[[str], None]
) -> ComparedReleases:
    """Raises InputError for what was not measured, or not on the same rows."""
    mine, theirs = same_rows(find(one), find(other), one, other)
    ours, reference = mine.record["metrics"], theirs.record["metrics"]
    shared = [
        name
        for name in ours
        if name in METRICS and finite(ours[name]) is not None and finite(reference.get(name)) is not None
    ]
    rows: list[ComparedFigure] = []
    for name in shared:
        report_progress(f"compare {name}")
        rows.append({"metric": name, **paired(name, mine.frame, theirs.frame, confidence)})
    chosen = metric or next((name for name in shared if METRICS[name].per_example is not None), None)
    if metric is not None and metric not in shared:
        raise InputError(f"--metric {metric}: not measured of both, expected one of {', '.join(shared)}", hint=HELPS)
    slices = slice_rows(chosen, mine, theirs, confidence, report_progress) if chosen else []
    return {
        "release": mine.record["release"],
        "reference": theirs.record["release"],
        "dataset": mine.record["dataset"],
        "n": 0 if mine.frame is None else len(mine.frame),
        "confidence": confidence,
        "metrics": rows,
        "sliced_metric": chosen,
        "slices": slices,
    }


def paired(metric: str, mine: DataFrame | None, theirs: DataFrame | None, confidence: float) -> ComparedFigure:
    """`why_not` where the two cannot be compared."""
    if mine is None or theirs is None:
        return {"why_not": "there are no predictions"}
    try:
        found = compare(metric, mine, theirs, confidence)
    except ValueError as error:
        return {"why_not": str(error)}
    row: RuleEvidence = {"value": figure(metric, mine), "reference_value": figure(metric, theirs)}
    return cast(ComparedFigure, row | describe(found))


def slice_rows(
    metric: str, mine: Measured, theirs: Measured, confidence: float, report_progress: Callable[[str], None]
) -> list[ComparedFigure]:
    """Slices of at least 20 rows; p adjusted by Holm over them."""
    from statsmodels.stats.multitest import multipletests

    rows: list[ComparedFigure] = []
    for name, part in slices_of(mine.frame).items() if mine.frame is not None else ():
        if len(part) >= 20 and theirs.frame is not None:
            report_progress(f"compare slice {name}")
            rows.append(
                {"name": name, **paired(metric, part, theirs.frame[theirs.frame["id"].isin(part["id"])], confidence)}
            )
    judged = [row for row in rows if "p_value" in row]
    adjusted = multipletests([row["p_value"] for row in judged], method="holm")[1] if judged else ()
    for row, p in zip(judged, adjusted, strict=True):
        row["p_adjusted"] = float(p)
    return sorted(judged, key=lambda row: row["difference"])


def find(text: str) -> list[Path]:
    """Evaluations of the one release that `text` means: a folder of build, NAME@sha256:DIGEST or the beginning of it, a
    name, or a digest's beginning."""
    folder = Path(text)
    if (folder / "eval" / "metrics.json").exists():
        return [folder / "eval"]
    plain, places = text.replace("@sha256:", "@"), dict[str, list[Path]]()
    for path, reference in evaluations():
        name, digest = reference.split("@sha256:")
        if (
            f"{name}@{digest}".startswith(plain)
            if "@" in plain
            else plain == name or (len(plain) >= 6 and digest.startswith(plain.removeprefix("sha256:")))
        ):
            places.setdefault(reference, []).append(path)
    if len(places) != 1:
        known = (
            "".join(f"\n  {one}" for one in sorted({*places} or {reference for _, reference in evaluations()}))
            or " none"
        )
        raise InputError(
            f"{text}: {len(places)} evaluated releases fit, expected one of{known}", hint="tunegate evaluate CONFIG"
        )
    return next(iter(places.values()))


def evaluations() -> Iterator[tuple[Path, str]]:
    for pattern in ("releases/*/eval", "releases/*/judged/*/eval", "build/*/eval", "build/*/eval/*"):
        for folder in sorted(Path().glob(pattern)):
            try:
                reference = str(json.loads((folder / "metrics.json").read_text(encoding="utf8"))["release"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if "@sha256:" in reference:
                yield folder, reference


def same_rows(one: list[Path], other: list[Path], name: str, other_name: str) -> tuple[Measured, Measured]:
    pairs = [
        (mine, theirs) for mine in map(read_measured, one) for theirs in map(read_measured, other) if mine and theirs
    ]
    for mine, theirs in pairs:
        if mine.record.get("dataset") and mine.record["dataset"] == theirs.record.get("dataset"):
            return mine, theirs
    if not pairs:
        raise InputError(
            f"{name}, {other_name}: an evaluation is not whole, expected metrics.json and predictions.parquet",
            hint="tunegate evaluate CONFIG",
        )
    raise InputError(f"{name} and {other_name} were measured on different test rows, expected the same", hint=HELPS)
