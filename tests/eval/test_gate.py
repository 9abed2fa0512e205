from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from configs.gates import GateConfig
from eval.evidence import Evidence, Measured
from eval.gate import decide, decide_load, read_rules
from eval.report import write_reports

pytestmark = pytest.mark.unit
MINE, OTHER = "a@sha256:" + "a" * 64, "b@sha256:" + "b" * 64


def rules(**rule: Any) -> GateConfig:
    return GateConfig.model_validate({"rules": [rule]})


def measured(reference: str, right: int, n: int = 80, dataset: str = "d", **metrics: float) -> Measured:
    record = {"release": reference, "dataset": dataset, "metrics": metrics, "parity": None}
    return Measured(record, {"correct": {str(i): float(i < right) for i in range(n)}})


@pytest.mark.parametrize(("value", "outcome"), [(0.5, "pass"), (0.05, "fail"), (float("nan"), "inconclusive"), (float("inf"), "inconclusive")])
def test_threshold(value: float, outcome: str) -> None:
    evidence = Evidence(MINE, measured(MINE, 40, exact_match=value))
    assert decide(rules(rule="threshold", metric="exact_match", minimum=0.1), evidence).outcome == outcome


def test_missing_metric_or_evaluation_never_passes() -> None:
    rule = rules(rule="threshold", metric="exact_match", minimum=0.1)
    assert decide(rule, Evidence(MINE, measured(MINE, 40))).outcome == "inconclusive"
    assert decide(rule, Evidence(MINE, None)).outcome == "inconclusive"
    assert decide(rule, Evidence(MINE, measured(OTHER, 40, exact_match=1))).outcome == "fail"


@pytest.mark.parametrize(("right", "outcome"), [(60, "pass"), (40, "inconclusive"), (5, "fail")])
def test_non_inferior(right: int, outcome: str) -> None:
    rule = rules(rule="non_inferior_to", metric="exact_match", margin=0.02)
    evidence = Evidence(MINE, measured(MINE, right), OTHER, {"champion": measured(OTHER, 40)})
    assert decide(rule, evidence).outcome == outcome
    assert decide(rule, replace(evidence, references={})).outcome == "inconclusive"
    assert decide(rule, replace(evidence, references={"champion": measured(OTHER, 40, dataset="x")})).outcome == "inconclusive"
    assert decide(rule, replace(evidence, references={"champion": measured(MINE, 40)})).outcome == "fail"
    first = decide(rule, replace(evidence, champion=None, references={}))
    assert first.outcome == "pass" and first.results[0].evidence == {"champion": None}


def test_load_and_reports(tmp_path: Path) -> None:
    rule = read_rules(Path("configs/gates/load.yaml"))
    assert decide_load(rule, MINE, {"time_to_first_token_p95_ms": 5, "error_rate": 0}).outcome == "pass"
    assert decide_load(rule, MINE, {"time_to_first_token_p95_ms": 9e9, "error_rate": 0}).outcome == "fail"
    verdict = decide_load(rule, MINE, {})
    assert verdict.outcome == "inconclusive"
    write_reports(verdict, tmp_path, {"lost": [{"id": "1", "gold": "g|", "reference": "r", "release": "x"}]})
    assert "inconclusive" in (tmp_path / "junit.xml").read_text() and "g\\|" in (tmp_path / "report.md").read_text()


def test_shipped_gates_load() -> None:
    assert len([read_rules(path) for path in Path("configs/gates").glob("*.yaml")]) >= 4
