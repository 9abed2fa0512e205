"""What a verdict's pages show, as values: the headline, what changed, the slices, the flipped examples, and where it
all comes from."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from configs.paths import RunPaths
from configs.release import Manifest, read_manifest
from configs.run.metrics import METRICS
from configs.verdict import RuleResult, Verdict
from eval.measure.rows import question_of, read_rows
from eval.rules.evidence import Evidence, Measured
from eval.rules.result import finite

if TYPE_CHECKING:
    from pandas import DataFrame

REFERENCES = ("champion", "base", "parent")  # whom a reviewer compares with first
COMPARING = ("non_inferior_to", "superior_to")
OUTCOMES = ("fail", "inconclusive", "pass")


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


class Change(NamedTuple):
    """One metric beside a reference; `low` and `high` where a rule compared the two."""

    metric: str
    reference: str
    release: float
    before: float
    low: float | None
    high: float | None

    @property
    def better(self) -> bool | None:
        """None where it did not move, or where it is unknown which way is better."""
        known = METRICS.get(self.metric.partition(":")[0])
        return (
            None
            if known is None or self.release == self.before
            else (self.release > self.before) == known.higher_is_better
        )

    @property
    def arrow(self) -> str:
        return "▲" if self.release > self.before else "▼" if self.release < self.before else "="


class SliceRow(NamedTuple):
    name: str
    n: int
    release: float
    reference: float | None


def headline(verdict: Verdict) -> str:
    """The verdict in one sentence."""
    failed, open_ = ([one for one in verdict.results if one.outcome == outcome] for outcome in ("fail", "inconclusive"))
    total = f"{len(verdict.results)} rule{'s' if len(verdict.results) != 1 else ''}"
    if verdict.outcome == "pass":
        return f"Pass: all of {total} hold."
    if failed:
        return f"Fail: {len(failed)} of {total} broken, first: {failed[0].rule}."
    if not open_:
        return "Inconclusive: there was no rule to judge by."
    wanted = [int(more) for one in open_ if (more := finite(one.evidence.get("more_examples"))) is not None]
    advice = f" About {max(wanted):,} more examples would decide." if wanted else ""
    return f"Inconclusive: nothing failed, but {len(open_)} of {total} not shown, first: {open_[0].rule}.{advice}"


def by_severity(results: Iterable[RuleResult]) -> list[RuleResult]:
    """What failed first, then what is open; the gate file's order within."""
    return sorted(results, key=lambda one: OUTCOMES.index(one.outcome))


def changes(verdict: Verdict) -> list[Change]:
    """Every metric that both sides have, those that a rule names first."""
    paired = [one.evidence for one in verdict.results if one.evidence.get("kind") in COMPARING]
    compared = {(rule.get("metric"), rule.get("reference")): rule for rule in reversed(paired)}
    named = [one.evidence.get("metric") for one in verdict.results]
    found = []
    for metric in sorted(verdict.changes, key=lambda name: (name not in named, list(verdict.changes).index(name))):
        values = {side: finite(value) for side, value in verdict.changes[metric].items()}
        release = values.get("release")
        for name in REFERENCES:
            before = values.get(name)
            if release is not None and before is not None:
                rule = compared.get((metric, name), {})
                found.append(Change(metric, name, release, before, finite(rule.get("low")), finite(rule.get("high"))))
    return found


def reference_of(evidence: Evidence) -> str | None:
    """Whom the flips and the slices are held against: the champion, else the base, else the parent, of those measured
    on the same rows."""
    rows = evidence.measured.record.get("dataset") if evidence.measured else None
    return next(
        (
            name
            for name in REFERENCES
            if name in evidence.references and evidence.references[name].record.get("dataset") == rows
        ),
        None,
    )


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


def frames(evidence: Evidence) -> tuple[DataFrame | None, DataFrame | None]:
    """The release's predictions and those of its first reference, by id."""
    name = reference_of(evidence)
    return frame_of(evidence.measured), frame_of(evidence.references[name]) if name else None


def frame_of(measured: Measured | None) -> DataFrame | None:
    frame = measured.frame if measured else None
    return frame.set_index("id") if frame is not None and "id" in frame else frame


def main_metric(verdict: Verdict, evidence: Evidence) -> str | None:
    """The first that a rule compares, else the first that a rule names, else the first measured."""
    known = (evidence.measured.record.get("metrics") or {}) if evidence.measured else {}
    named = [
        one.evidence.get("metric") for one in sorted(verdict.results, key=lambda one: "difference" not in one.evidence)
    ]
    return next((name for name in [*named, *known] if name in known), None)


def slices(evidence: Evidence, metric: str | None) -> list[SliceRow]:
    """Those of metrics.json, the worst first: by what was lost against the reference, else by the value."""
    if metric is None:
        return []
    name = reference_of(evidence)
    mine, theirs = (
        (one.record.get("slices") or {}) if one else {}
        for one in (evidence.measured, evidence.references[name] if name else None)
    )
    found = []
    for slice_name, figures in mine.items():
        value = finite(figures.get(metric))
        if value is not None:
            found.append(SliceRow(slice_name, int(figures["n"]), value, finite(theirs.get(slice_name, {}).get(metric))))
    sign = 1 if metric not in METRICS or METRICS[metric].higher_is_better else -1
    return sorted(found, key=lambda row: (sign * (row.release - (row.reference or 0.0)), row.name))


def read_questions(paths: RunPaths, wanted: set[str]) -> dict[str, str]:
    """What was asked, of the wanted test rows; nothing where the rows are no longer there."""
    file = paths.data / "test.parquet"
    if not wanted or not file.exists():
        return {}
    return {str(row["id"]): question_of(row) for row in read_rows(file) if str(row["id"]) in wanted}


def read_provenance(paths: RunPaths) -> dict[str, str]:
    """From the release's manifest, and the MLflow run that made it."""
    found = provenance(read_manifest(paths.release)) if paths.release.exists() else {}
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
