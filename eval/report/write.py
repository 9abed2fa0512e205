"""One verdict, five forms: verdict.json, junit.xml and metrics.txt for a CI server, report.md and report.html for a reviewer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs.paths import RunPaths
from configs.verdict import RuleResult, Verdict
from eval.report import summary
from eval.report.markdown import printable, write_markdown
from eval.report.page import write_page
from eval.rules.evidence import Evidence

HELP = {
    "tunegate_metric": "a figure of the evaluation, of the release or of what it is compared with",
    "tunegate_slice": "the same of a slice of the test rows",
    "tunegate_slice_rows": "test rows in the slice",
    "tunegate_behaviour": "a figure of a behaviour test",
    "tunegate_cost": "what the answers cost",
    "tunegate_rule": "what a rule measured",
    "tunegate_rules": "rules by outcome",
    "tunegate_looks": "releases judged at these test rows",
}
NUMBERS = ("value", "difference", "low", "high", "n", "p_value", "bound", "reference_value", "minimum_detectable_effect", "power", "more_examples")


def write_reports(verdict: Verdict, folder: Path, evidence: Evidence, paths: RunPaths | None = None) -> None:
    """verdict.json last: it is what says that the others are whole. `paths`: where the questions and the release's own account lie."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "verdict.json").unlink(missing_ok=True)
    flips = summary.flips(evidence)
    questions = summary.read_questions(paths, {flip.id for flip in flips}) if paths else {}
    facts = summary.read_provenance(paths) if paths else {}
    write_junit(verdict, folder / "junit.xml")
    (folder / "metrics.txt").write_text(open_metrics(verdict, evidence), encoding="utf8")
    (folder / "report.html").write_text(write_page(verdict, evidence, facts, questions), encoding="utf8")
    (folder / "report.md").write_text(write_markdown(verdict, evidence, facts, links_of(folder, os.environ)), encoding="utf8")
    verdict.write(folder / "verdict.json")


def links_of(folder: Path, environment: os._Environ[str] | dict[str, str]) -> dict[str, str]:
    """To the page among the job's artifacts, where GitLab says which job this is (CI_JOB_URL)."""
    job = environment.get("CI_JOB_URL")
    return {"the whole page, with the flipped examples": f"{job}/artifacts/file/{folder.as_posix()}/report.html"} if job and not folder.is_absolute() else {}


def write_junit(verdict: Verdict, path: Path) -> None:
    """The sentence is the failure's message, the numbers its text: GitLab's test tab shows both."""
    from junitparser import Failure, JUnitXml, TestCase, TestSuite

    suite = TestSuite("tunegate gate")
    for one in verdict.results:
        case = TestCase(printable(one.rule), classname=verdict.release)
        numbers = "\n".join(numbers_of(one))
        if one.outcome != "pass":
            failure = Failure(printable(one.sentence), "inconclusive" if one.outcome == "inconclusive" else "failure")
            failure.text = "\n".join([printable(one.sentence), numbers]).rstrip()
            case.result = [failure]
        case.system_out = printable("\n".join([one.sentence, numbers]).rstrip())
        suite.add_testcase(case)
    xml = JUnitXml()
    xml.add_testsuite(suite)
    xml.write(str(path))


def numbers_of(one: RuleResult) -> Iterator[str]:
    for name in (*NUMBERS, "confidence", "direction", "method", "reference"):
        if one.evidence.get(name) is not None:
            yield f"{name}: {printable(one.evidence[name])}"


def open_metrics(verdict: Verdict, evidence: Evidence) -> str:
    """OpenMetrics 1.0 text for GitLab's metrics report, which compares series by name and labels: no digest is among them. No figure, no line."""
    families: dict[str, dict[str, float]] = {}  # family, then labels: a series has one value
    for name, labels, number in samples(verdict, evidence):
        value = summary.finite(number)
        if value is not None:
            written = ",".join(f'{label}="{escape(text)}"' for label, text in labels.items())
            families.setdefault(name, {}).setdefault(f"{{{written}}}" if written else "", value)
    lines = []
    for name, found in families.items():
        lines += [f"# TYPE {name} gauge", f"# HELP {name} {HELP[name]}", *(f"{name}{labels} {value!r}" for labels, value in found.items())]
    return "\n".join([*lines, "# EOF"]) + "\n"


def escape(text: object) -> str:
    """OpenMetrics 1.0, escaped-string: backslash, quote and line feed."""
    return printable(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def samples(verdict: Verdict, evidence: Evidence) -> Iterator[tuple[str, dict[str, str], Any]]:
    """(family, labels, value), a family's together."""
    sides = {"release": evidence.measured} | {name: evidence.references[name] for name in summary.REFERENCES if name in evidence.references}
    records = {side: measured.record for side, measured in sides.items() if measured}
    mine = records.get("release", {})
    for side, record in records.items():
        yield from (("tunegate_metric", {"metric": name, "of": side}, value) for name, value in (record.get("metrics") or {}).items())
    for name, figures in (mine.get("slices") or {}).items():
        yield from (("tunegate_slice", {"slice": name, "metric": metric}, value) for metric, value in figures.items() if metric != "n")
    yield from (("tunegate_slice_rows", {"slice": name}, figures.get("n")) for name, figures in (mine.get("slices") or {}).items())
    for name, figures in (mine.get("behaviour") or {}).items():
        yield from (("tunegate_behaviour", {"test": name, "figure": figure}, value) for figure, value in figures.items())
    yield from (("tunegate_cost", {"figure": name}, value) for name, value in (mine.get("cost") or {}).items())
    for number, one in enumerate(verdict.results, 1):
        yield from (("tunegate_rule", {"number": str(number), "rule": one.rule, "figure": name}, one.evidence.get(name)) for name in NUMBERS)
    for outcome in summary.OUTCOMES:
        yield "tunegate_rules", {"outcome": outcome}, sum(one.outcome == outcome for one in verdict.results)
    yield "tunegate_looks", {}, verdict.looks
