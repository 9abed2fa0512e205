"""What a verdict's pages show beside the headline, as values: the slices, the flipped examples, what could not be
judged, and what is read of the release and its champion."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from configs.paths import RunPaths
from configs.release import Manifest
from configs.run.metrics import METRICS
from configs.verdict import Verdict
from eval.measure.rows import question_of, read_rows
from eval.report import history, since
from eval.report.compared import frames, paired_with
from eval.report.headline import figure_of
from eval.rules.evidence import Evidence, slices_of
from eval.rules.result import finite
from infra.dvc.judgements import verdict_path
from infra.dvc.releases import folder_of


class Flip(NamedTuple):
    """One example that the release answers rightly where the reference did not (gained), or the other way round
    (lost)."""

    id: str
    kind: str
    gold: str
    reference: str
    release: str
    slices: list[str]
    question: str


class SliceRow(NamedTuple):
    """`low`, `high`: of the difference, where a rule on slices compared the two."""

    name: str
    n: int
    release: float
    reference: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Background:
    """What the pages show that is in no verdict and no evaluation. `gate`: the gate file and whether its rules are
    those of the champion's verdict; `champion_here`: its manifest could be read."""

    facts: dict[str, str] = field(default_factory=dict)
    questions: dict[str, str] = field(default_factory=dict)
    differences: list[since.Difference] = field(default_factory=list)
    releases: list[history.Point] = field(default_factory=list)
    gate: str = ""
    champion_here: bool = False


def flips(evidence: Evidence, questions: dict[str, str] | None = None) -> list[Flip]:
    """Lost ones first, in the order of the test rows; none where answers are not right or wrong."""
    mine, theirs = frames(evidence)
    if mine is None or theirs is None or not {"gold", "answer", "correct"} <= {*mine} & {*theirs}:
        return []
    both = mine.join(theirs[["answer", "correct"]].add_suffix("_reference"), how="inner")
    both = both[
        both["correct"].notna() & both["correct_reference"].notna() & (both["correct"] != both["correct_reference"])
    ]
    found = []
    for row in both.reset_index().to_dict("records"):
        kind, name = "gained" if row["correct"] > row["correct_reference"] else "lost", str(row["id"])
        gold, before, after = (str(row[column]) for column in ("gold", "answer_reference", "answer"))
        found.append(
            Flip(
                name,
                kind,
                gold,
                before,
                after,
                [str(one) for one in row.get("slices", ())],
                (questions or {}).get(name, ""),
            )
        )
    return sorted(found, key=lambda flip: flip.kind != "lost")


def main_metric(verdict: Verdict, evidence: Evidence) -> str | None:
    """The first that a rule compares, else the first that a rule names, else the first measured."""
    known = (evidence.measured.record.get("metrics") or {}) if evidence.measured else {}
    named = [
        one.evidence.get("metric") for one in sorted(verdict.results, key=lambda one: "difference" not in one.evidence)
    ]
    return next((name for name in [*named, *known] if name in known), None)


def slices(verdict: Verdict, evidence: Evidence, metric: str | None) -> list[SliceRow]:
    """Those of metrics.json, the worst first: by what was lost against the reference, else by the value."""
    if metric is None:
        return []
    name = paired_with(evidence)
    mine, theirs = (
        (one.record.get("slices") or {}) if one else {}
        for one in (evidence.measured, evidence.references[name] if name else None)
    )
    intervals, found = slice_intervals(verdict, metric, name), []
    for slice_name, figures in mine.items():
        value = finite(figures.get(metric))
        if value is not None:
            other = finite(theirs.get(slice_name, {}).get(metric))
            ends = intervals.get(slice_name, (None, None))
            found.append(SliceRow(slice_name, int(figures["n"]), value, other, *ends))
    sign = 1 if metric not in METRICS or METRICS[metric].higher_is_better is not False else -1
    return sorted(found, key=lambda row: (sign * (row.release - (row.reference or 0.0)), row.name))


def slice_intervals(
    verdict: Verdict, metric: str, reference: str | None
) -> dict[str, tuple[float | None, float | None]]:
    """Of the differences that rules on slices decided by."""
    found: dict[str, tuple[float | None, float | None]] = {}
    for one in verdict.results:
        if (one.evidence.get("metric"), one.evidence.get("reference")) == (metric, reference):
            for row in one.evidence.get("slices") or []:
                if "difference" in row:
                    found.setdefault(str(row.get("name")), (finite(row.get("low")), finite(row.get("high"))))
    return found


def not_judged(verdict: Verdict, evidence: Evidence) -> list[str]:
    """What nobody should take for shown: rules without a figure, those that had nobody to compare with, and slices that
    are too small."""
    told = [
        f"{one.rule}: {one.sentence}"
        for one in verdict.results
        if one.outcome == "inconclusive" and figure_of(one) is None
    ]
    unopposed = [
        one.rule
        for one in verdict.results
        if one.outcome == "pass" and figure_of(one) is None and one.evidence.get("reference") == "champion"
    ]
    if unopposed and verdict.champion is None:
        told.append(f"There was no champion to compare with, so these rules hold: {'; '.join(unopposed)}.")
    small = small_slices(evidence)
    if small:
        listed = ", ".join(f"{name} ({n})" for name, n in small[:4])
        rest = f" and {len(small) - 4} more" if len(small) > 4 else ""
        plural = "slices are" if len(small) > 1 else "slice is"
        told.append(f"{len(small)} {plural} too small, with the rows of each: {listed}{rest}.")
    return told


def small_slices(evidence: Evidence) -> list[tuple[str, int]]:
    """Slices of the test rows that metrics.json leaves out (evaluate.minimum_slice), the largest first."""
    if evidence.measured is None or evidence.measured.frame is None:
        return []
    large = evidence.measured.record.get("slices")
    if large is None:
        return []
    parts = {name: len(part) for name, part in slices_of(evidence.measured.frame).items() if name not in large}
    return sorted(parts.items(), key=lambda part: (-part[1], part[0]))


def read_background(verdict: Verdict, evidence: Evidence, paths: RunPaths | None) -> Background:
    """`paths`: where the questions and the release's own account lie."""
    if paths is None:
        return Background()
    now = since.read_side(paths.release, None)._replace(verdict=verdict)
    folder = folder_of(verdict.champion) if verdict.champion else None
    environment = verdict.binding.environment if verdict.binding else None
    before = (
        since.read_side(folder / "release", verdict_path(folder, environment)) if folder else since.Side(*[None] * 3)
    )
    metric = main_metric(verdict, evidence)
    metrics: Any = (evidence.measured.record.get("metrics") or {}) if evidence.measured else {}
    created = now.manifest.created if now.manifest else ""
    return Background(
        read_provenance(paths, now.manifest),
        read_questions(paths, {flip.id for flip in flips(evidence)}),
        since.differences(now, before),
        [
            *history.published(verdict.release.partition("@")[0], metric, verdict),
            *history.this_one(metric, verdict, metrics.get(metric), created),
        ],
        gate_of(verdict, now.manifest, since.gate_words(verdict, before.verdict)),
        before.manifest is not None,
    )


def gate_of(verdict: Verdict, manifest: Manifest | None, words: str) -> str:
    """The gate file, as the verdict names it, else as the run's config did."""
    named = verdict.binding.gate if verdict.binding else (manifest.config if manifest else {}).get("gate")
    file = str(named or "")
    return f"{file} ({words})" if file and words else file or words


def read_questions(paths: RunPaths, wanted: set[str]) -> dict[str, str]:
    """What was asked, of the wanted test rows; nothing where the rows are no longer there."""
    file = paths.data / "test.parquet"
    if not wanted or not file.exists():
        return {}
    return {str(row["id"]): question_of(row) for row in read_rows(file) if str(row["id"]) in wanted}


def read_provenance(paths: RunPaths, manifest: Manifest | None) -> dict[str, str]:
    """From the release's manifest, and the MLflow run that made it."""
    found = provenance(manifest) if manifest else {}
    try:
        run = json.loads((paths.trained / "training.json").read_text(encoding="utf8")).get("tracking_run_id")
    except (OSError, ValueError):
        run = None
    return found | ({"MLflow run": str(run)} if run else {})


def provenance(manifest: Manifest) -> dict[str, str]:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(manifest.versions.items()))
    base, quantization = (
        ", ".join(f"{name} {value}" for name, value in part.items()) for part in (manifest.base, manifest.quantization)
    )
    facts = {
        "Base": base,
        "Quantization": quantization,
        "Git revision": manifest.git_revision,
        "Made": manifest.created,
        "Versions": versions,
    }
    return {name: value for name, value in facts.items() if value}
