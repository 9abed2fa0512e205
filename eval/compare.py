"""Any two releases beside each other: every metric that both have, paired on the same test rows, and the slices of one
metric; compared as the rules of a gate compare (eval/rules/figures.py)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypedDict, cast

from configs.errors import InputError
from configs.metrics import why_not_comparable
from configs.run.metrics import METRICS
from configs.verdict import RuleEvidence
from eval.rules.evidence import Measured, part_of, read_measured, slices_of
from eval.rules.figures import compare_metric, defined_name, definition_of, higher_is_better, is_whole
from eval.rules.interval import Shown, shown
from eval.rules.result import describe, finite
from eval.statistics.looks import confidence_of_each

HELPS = (
    "tunegate evaluate CONFIG   "
    "(a rule of its gate that names NAME@sha256:DIGEST has that release measured on the same rows)"
)
LEAST_ROWS = 20  # of a slice that is shown


class ComparedFigure(RuleEvidence, total=False):
    """One metric of two releases, or one slice by its `name`. `shown`: what its interval shows of the release.
    `why_not`: why there is nothing else."""

    name: str
    shown: Shown
    why_not: str


class ComparedReleases(TypedDict):
    """`difference` is release minus reference. The intervals of the slices are at `slice_confidence` each, so that
    all of them hold at `confidence` together (Bonferroni)."""

    release: str
    reference: str
    dataset: str
    n: int
    confidence: float
    metrics: list[ComparedFigure]
    sliced_metric: str | None
    slice_confidence: float | None
    slices: list[ComparedFigure]


def compare_releases(
    one: str, other: str, confidence: float, metric: str | None, report_progress: Callable[[str], None]
) -> ComparedReleases:
    """Raises InputError for what was not measured, or not on the same rows in the same way."""
    mine, theirs = same_conditions(find(one), find(other), one, other)
    shared = [name for name in mine.record["metrics"] if is_compared(name, mine, theirs)]
    rows: list[ComparedFigure] = []
    for name in shared:
        report_progress(f"compare {name}")
        rows.append({"metric": name, **compared(name, mine, theirs, confidence)})
    chosen = metric or next((name for name in shared if not is_whole(name) and name in METRICS), None)
    if metric is not None and metric not in shared:
        raise InputError(f"--metric {metric}: not measured of both, expected one of {', '.join(shared)}", hint=HELPS)
    parts = large_slices(mine) if chosen else {}
    each = confidence_of_each(confidence, len(parts)) if parts else None
    return {
        "release": mine.record["release"],
        "reference": theirs.record["release"],
        "dataset": mine.record["dataset"],
        "n": 0 if mine.frame is None else len(mine.frame),
        "confidence": confidence,
        "metrics": rows,
        "sliced_metric": chosen,
        "slice_confidence": each,
        "slices": compare_slices(chosen, parts, theirs, each, report_progress) if chosen and each else [],
    }


def is_compared(name: str, mine: Measured, theirs: Measured) -> bool:
    """A figure of both that examples make; what tells of the unquantized parent is none."""
    figures = (finite(one.record["metrics"].get(name)) for one in (mine, theirs))
    known = name in METRICS or defined_name(name, mine.record.get("definitions") or {})
    return bool(known) and name not in (mine.record.get("compared") or []) and None not in figures


def compared(metric: str, mine: Measured, theirs: Measured, confidence: float) -> ComparedFigure:
    """`why_not` where the two cannot be compared."""
    try:
        both = compare_metric(metric, mine, theirs, confidence)
    except ValueError as error:
        return {"why_not": str(error)}
    figures = {"value": both.value, "reference_value": both.reference_value, **describe(both.found)}
    found = shown(both.found.low, both.found.high, definition_of(metric, mine)["higher_is_better"])
    return cast(ComparedFigure, {**figures, "shown": found})


def large_slices(measured: Measured) -> dict[str, Measured]:
    parts = slices_of(measured.frame) if measured.frame is not None else {}
    return {name: part_of(measured, part["id"]) for name, part in parts.items() if len(part) >= LEAST_ROWS}


def compare_slices(
    metric: str, parts: dict[str, Measured], theirs: Measured, confidence: float, report_progress: Callable[[str], None]
) -> list[ComparedFigure]:
    """The worst first."""
    rows: list[ComparedFigure] = []
    for name, part in parts.items():
        report_progress(f"compare slice {name}")
        ids = part.frame["id"] if part.frame is not None else ()
        rows.append({"name": name, **compared(metric, part, part_of(theirs, ids), confidence)})
    sign = 1 if all(higher_is_better(metric, part) for part in parts.values()) else -1
    return sorted((row for row in rows if "difference" in row), key=lambda row: sign * row["difference"])


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


def same_conditions(one: list[Path], other: list[Path], name: str, other_name: str) -> tuple[Measured, Measured]:
    """The first pair of evaluations that may be compared, as the gate asks it."""
    pairs = [
        (mine, theirs) for mine in map(read_measured, one) for theirs in map(read_measured, other) if mine and theirs
    ]
    if not pairs:
        raise InputError(
            f"{name}, {other_name}: an evaluation is not whole, expected metrics.json and predictions.parquet",
            hint="tunegate evaluate CONFIG",
        )
    reasons = [why_not_comparable(mine.record, theirs.record) for mine, theirs in pairs]
    if None not in reasons:
        raise InputError(f"{name} beside {other_name}: the latter {reasons[-1]}, expected the same", hint=HELPS)
    return pairs[reasons.index(None)]
