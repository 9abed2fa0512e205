"""The verdict for machines: JUnit and OpenMetrics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from configs.verdict import RuleResult, Verdict
from eval.report.compared import REFERENCES
from eval.report.headline import OUTCOMES
from eval.report.markdown import printable
from eval.rules.evidence import Evidence
from eval.rules.result import finite

HELP = {
    "tunegate_metric": "a figure of the evaluation, of the release or of what it is compared with",
    "tunegate_slice": "the same of a slice of the test rows",
    "tunegate_slice_rows": "test rows in the slice",
    "tunegate_behaviour": "a figure of a behaviour test",
    "tunegate_cost": "what the answers cost",
    "tunegate_rule": "what a rule measured",
    "tunegate_rules": "rules by outcome",
    "tunegate_holdout_uses": "releases judged at these test rows",
}


NUMBERS = (
    "value",
    "difference",
    "low",
    "high",
    "n",
    "p_value",
    "bound",
    "reference_value",
    "minimum_detectable_effect",
    "power",
    "more_examples",
)


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
        value = one.evidence.get(name)
        if value is not None:
            yield f"{name}: {printable(value)}"


def open_metrics(verdict: Verdict, evidence: Evidence) -> str:
    """OpenMetrics 1.0 text for GitLab's metrics report, which compares series by name and labels: no digest is among
    them. No figure, no line."""
    families: dict[str, dict[str, float]] = {}  # family, then labels: a series has one value
    for name, labels, number in samples(verdict, evidence):
        value = finite(number)
        if value is not None:
            written = ",".join(f'{label}="{escape(text)}"' for label, text in labels.items())
            families.setdefault(name, {}).setdefault(f"{{{written}}}" if written else "", value)
    lines = []
    for name, found in families.items():
        lines += [
            f"# TYPE {name} gauge",
            f"# HELP {name} {HELP[name]}",
            *(f"{name}{labels} {value!r}" for labels, value in found.items()),
        ]
    return "\n".join([*lines, "# EOF"]) + "\n"


def escape(text: object) -> str:
    """OpenMetrics 1.0, escaped-string: backslash, quote and line feed."""
    return printable(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def samples(verdict: Verdict, evidence: Evidence) -> Iterator[tuple[str, dict[str, str], object]]:
    """(family, labels, value), a family's together."""
    sides = {"release": evidence.measured} | {
        name: evidence.references[name] for name in REFERENCES if name in evidence.references
    }
    records = {side: measured.record for side, measured in sides.items() if measured}
    mine = records.get("release", {})
    for side, record in records.items():
        yield from (
            ("tunegate_metric", {"metric": name, "of": side}, value)
            for name, value in (record.get("metrics") or {}).items()
        )
    for name, figures in (mine.get("slices") or {}).items():
        yield from (
            ("tunegate_slice", {"slice": name, "metric": metric}, value)
            for metric, value in figures.items()
            if metric != "n"
        )
    yield from (
        ("tunegate_slice_rows", {"slice": name}, figures.get("n"))
        for name, figures in (mine.get("slices") or {}).items()
    )
    for name, test in (mine.get("behaviour") or {}).items():
        yield from (("tunegate_behaviour", {"test": name, "figure": figure}, value) for figure, value in test.items())
    yield from (("tunegate_cost", {"figure": name}, value) for name, value in (mine.get("cost") or {}).items())
    for number, one in enumerate(verdict.results, 1):
        yield from (
            ("tunegate_rule", {"number": str(number), "rule": one.rule, "figure": name}, one.evidence.get(name))
            for name in NUMBERS
        )
    for outcome in OUTCOMES:
        yield "tunegate_rules", {"outcome": outcome}, sum(one.outcome == outcome for one in verdict.results)
    yield "tunegate_holdout_uses", {}, verdict.holdout_uses
