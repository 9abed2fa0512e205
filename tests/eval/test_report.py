"""One verdict in three forms that say the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.verdict import Outcome, RuleResult, Verdict, conjunction
from eval.report import FLIPS_SHOWN, write_reports

pytestmark = pytest.mark.unit
RELEASE = "run@sha256:" + "a" * 64
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn", "Zl", "Zp"]) | st.sampled_from("|`\n<>&\"'"), min_size=1, max_size=20)
FIGURES = st.sampled_from([{}, {"value": 0.5}, {"value": None}, {"difference": -0.25, "low": -0.5, "high": 0.125, "n": 8, "p_value": 0.0625}])
OUTCOMES: st.SearchStrategy[Outcome] = st.sampled_from(["pass", "fail", "inconclusive"])
RESULTS = st.builds(
    lambda rule, outcome, sentence, evidence: RuleResult(rule=rule, outcome=outcome, sentence=sentence, evidence=evidence), TEXT, OUTCOMES, TEXT, FIGURES
)


def verdict_of(results: list[RuleResult], **fields: Any) -> Verdict:
    return Verdict(release=RELEASE, outcome=conjunction(results), results=results, **fields)


def table_of(report: str) -> list[str]:
    return [line for line in report.splitlines() if line.startswith("| ") and not line.startswith("| rule")]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(RESULTS, min_size=1, max_size=5))
def test_the_three_forms_agree_whatever_the_words(tmp_path: Path, results: list[RuleResult]) -> None:
    verdict = verdict_of(results)
    write_reports(verdict, tmp_path)
    assert Verdict.read(tmp_path / "verdict.json") == verdict
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot().find("testsuite")
    assert suite is not None and suite.get("failures") == str(sum(one.outcome != "pass" for one in results))
    for case, one in zip(suite.findall("testcase"), results, strict=True):
        failure = case.find("failure")
        assert case.get("name") == one.rule and case.get("classname") == RELEASE
        assert failure is None if one.outcome == "pass" else failure is not None and failure.get("message") == one.sentence
    report = (tmp_path / "report.md").read_text(encoding="utf8")
    assert report.startswith(f"# Gate: {verdict.outcome}\n") and RELEASE in report
    rows = table_of(report)
    assert len(rows) == len(results)
    for row, one in zip(rows, results, strict=True):
        assert row.replace("\\|", "").count("|") == 8 and f"**{one.outcome}**" in row


def test_an_inconclusive_rule_and_a_failed_one_are_told_apart(tmp_path: Path) -> None:
    results = [RuleResult(rule=outcome, outcome=outcome, sentence="why") for outcome in ("pass", "fail", "inconclusive")]  # type: ignore[arg-type]
    write_reports(verdict_of(results), tmp_path)
    kinds = {case.get("name"): [one.get("type") for one in case] for case in ElementTree.parse(tmp_path / "junit.xml").iter("testcase")}
    assert kinds == {"pass": [], "fail": ["failure"], "inconclusive": ["inconclusive"]}


def test_the_numbers_behind_a_rule_stand_in_its_row(tmp_path: Path) -> None:
    evidence = {"difference": -0.0251, "low": -0.05, "high": 0.1, "n": 80, "p_value": 0.03125}
    results = [RuleResult(rule="r", outcome="fail", sentence="s", evidence=evidence), RuleResult(rule="t", outcome="pass", sentence="u", evidence={"value": 1})]
    write_reports(verdict_of(results, champion="old@sha256:" + "b" * 64, dataset="sha256:rows"), tmp_path, {"Lost (0)": []})
    report = (tmp_path / "report.md").read_text(encoding="utf8")
    assert table_of(report) == ["| r | **fail** | -0.0251 | [-0.05, 0.1] | 80 | 0.03125 | s |", "| t | **pass** | 1 |  |  |  | u |"]
    assert "champion `old@sha256:" in report and "test rows `sha256:rows`" in report and "## Lost (0)" in report


def test_the_first_flips_are_shown_and_cannot_break_the_page(tmp_path: Path) -> None:
    rows = [{"id": f"id{i}", "gold": "g|\n# x", "reference": "`r`", "release": "x"} for i in range(FLIPS_SHOWN + 3)]
    write_reports(verdict_of([]), tmp_path, {f"Lost ({len(rows)})": rows})
    report = (tmp_path / "report.md").read_text(encoding="utf8")
    shown = [line for line in report.splitlines() if line.startswith("- ")]
    assert shown == [f"- `id{i}` gold `g\\| # x`, reference `'r'`, release `x`" for i in range(FLIPS_SHOWN)]
    assert "champion none" in report and "test rows `none`" in report
    assert json.loads((tmp_path / "verdict.json").read_text())["outcome"] == "inconclusive", "no rule at all proves nothing"
