"""The decision as a pure function: what passes, what fails, and that nothing unproven ever passes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import ConfigError
from configs.metrics import Metrics
from configs.rules.gate import GateConfig
from configs.verdict import EXIT_CODES
from eval.gate import read_rules
from eval.rules.decide import decide, decide_load
from eval.rules.evidence import Evidence, Measured
from eval.rules.interval import percent

pytestmark = pytest.mark.unit
MINE, OTHER = "a@sha256:" + "a" * 64, "b@sha256:" + "b" * 64
RANK = {"fail": 0, "inconclusive": 1, "pass": 2}
ABSENT = object()
NO_FIGURE = st.sampled_from([ABSENT, None, math.nan, math.inf, -math.inf, True, "0.9", [], {}])
FIGURE = st.floats(allow_nan=False, allow_infinity=False)
OUTCOMES = st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=60)
PARITY = {"agreement": 1.0, "difference": 0.0, "prompts": 8, "passed": True}


def frame_of(outcomes: list[float], column: str = "correct", first: int = 0) -> pandas.DataFrame:
    return pandas.DataFrame({"id": [str(first + i) for i in range(len(outcomes))], column: outcomes})


def rules(*more: dict[str, Any], **rule: Any) -> GateConfig:
    return GateConfig.model_validate({"rules": [*more, *([rule] if rule else [])]})


def measured(reference: str, right: int, n: int = 80, dataset: str = "d", **metrics: Any) -> Measured:
    record: Metrics = {"release": reference, "dataset": dataset, "metrics": metrics, "parity": None}
    return Measured(record, frame_of([float(i < right) for i in range(n)]))


def paired(mine: list[float], theirs: list[float], reference: str = "champion") -> Evidence:
    def one(release: str, outcomes: list[float]) -> Measured:
        return Measured({"release": release, "dataset": "d"}, frame_of(outcomes))

    return Evidence(MINE, one(MINE, mine), OTHER, {reference: one(OTHER, theirs)})


def non_inferior(**rule: Any) -> GateConfig:
    return rules(**({"rule": "non_inferior_to", "metric": "exact_match", "margin": 0.02} | rule))


def without(found: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    kept = {name: one for name, one in found.items() if name != key}
    return kept if value is ABSENT else kept | {key: value}


@pytest.mark.parametrize(
    ("bounds", "outcome"),
    [
        ({"minimum": 0.5}, "pass"),
        ({"maximum": 0.5}, "pass"),
        ({"minimum": 0.4, "maximum": 0.6}, "pass"),
        ({"minimum": 0.51}, "fail"),
        ({"maximum": 0.49}, "fail"),
        ({"minimum": 0.4, "maximum": 0.45}, "fail"),
        ({"minimum": 0.55, "maximum": 0.6}, "fail"),
    ],
)
def test_a_threshold_includes_its_bounds(bounds: dict[str, float], outcome: str) -> None:
    verdict = decide(
        rules(rule="threshold", metric="exact_match", point=True, **bounds),
        Evidence(MINE, measured(MINE, 40, exact_match=0.5)),
    )
    assert verdict.outcome == outcome and verdict.results[0].evidence["value"] == 0.5 and verdict.dataset == "d"


@given(NO_FIGURE, FIGURE, st.sampled_from(["minimum", "maximum"]))
def test_no_bound_is_met_by_what_is_no_finite_number(value: Any, bound: float, side: str) -> None:
    metrics = without({"other": 1.0}, "exact_match", value)
    verdict = decide(
        rules(rule="threshold", metric="exact_match", **{side: bound}), Evidence(MINE, measured(MINE, 40, **metrics))
    )
    assert verdict.outcome == "inconclusive" and "tunegate evaluate" in verdict.results[0].sentence


@given(
    st.tuples(st.sampled_from(["agreement", "difference"]), NO_FIGURE)
    | st.tuples(st.just("prompts"), st.sampled_from([ABSENT, None, 0]))
    | st.tuples(st.just("passed"), st.sampled_from([ABSENT, None, 1, "yes"]))
)
def test_parity_is_not_shown_by_half_a_measurement(change: tuple[str, Any]) -> None:
    def judged(parity: Any) -> str:
        return decide(rules(rule="parity"), Evidence(MINE, Measured({"release": MINE, "parity": parity}))).outcome

    assert judged(PARITY) == "pass" and judged(PARITY | {"passed": False}) == "fail"
    assert judged(without(PARITY, *change)) == judged(None) == judged({}) == "inconclusive"


@pytest.mark.parametrize(
    "rule",
    [
        "threshold",
        "non_inferior_to",
        "superior_to",
        "slice_minimum",
        "calibration",
        "robustness",
        "fairness",
        "parity",
        "quantization",
        "size",
        "latency",
    ],
)
def test_an_evaluation_that_is_missing_or_of_another_release_passes_no_rule(rule: str) -> None:
    paired_metric = {"metric": "exact_match", "margin": 1}
    settings: dict[str, dict[str, Any]] = {
        "threshold": {"metric": "exact_match", "minimum": 0},
        "non_inferior_to": paired_metric,
        "superior_to": paired_metric,
        "calibration": {"maximum": 1},
        "slice_minimum": {"metric": "exact_match", "minimum": 0},
        "robustness": {"maximum_drop": 1},
        "fairness": {"maximum_gap": 1},
        "quantization": {"minimum_agreement": 0},
        "size": {"maximum_bytes": 9},
        "latency": {"metric": "latency_p50_ms", "maximum": 9},
        "parity": {},
    }
    gate = rules(rule=rule, **settings[rule])
    for champion in (None, OTHER):
        assert decide(gate, Evidence(MINE, None, champion, {"champion": measured(OTHER, 1)})).outcome == "inconclusive"
    of_another = Evidence(MINE, replace(measured(OTHER, 80, exact_match=1), frame=None), load=None)
    assert decide(gate, of_another).outcome == ("inconclusive" if rule == "latency" else "fail")


@pytest.mark.parametrize(("right", "outcome"), [(60, "pass"), (40, "inconclusive"), (5, "fail")])
def test_non_inferior_to_the_champion(right: int, outcome: str) -> None:
    evidence = Evidence(MINE, measured(MINE, right), OTHER, {"champion": measured(OTHER, 40)})
    verdict = decide(non_inferior(), evidence)
    assert verdict.outcome == outcome and verdict.champion == OTHER and verdict.results[0].evidence["n"] == 80
    unknown = decide(non_inferior(), replace(evidence, references={}))
    assert unknown.outcome == "inconclusive" and f"tunegate releases fetch {OTHER}" in unknown.results[0].sentence
    assert (
        decide(non_inferior(), replace(evidence, references={"champion": measured(OTHER, 40, dataset="x")})).outcome
        == "inconclusive"
    )
    assert decide(non_inferior(), replace(evidence, references={"champion": measured(MINE, 40)})).outcome == "fail"


@pytest.mark.parametrize(
    "theirs",
    [
        Measured({"release": OTHER, "dataset": "d"}),
        Measured({"release": OTHER, "dataset": "d"}, frame_of([])),
        Measured({"release": OTHER, "dataset": "d"}, frame_of([0.0] * 80, "valid_json")),
        Measured({"release": OTHER, "dataset": "d"}, frame_of([0.0] * 79)),
        Measured({"release": OTHER, "dataset": "d"}, frame_of([0.0] * 80, first=80)),
        Measured({"release": OTHER, "dataset": "d"}, frame_of([math.nan] * 80)),
        Measured({"release": OTHER}, frame_of([0.0] * 80)),
    ],
)
@pytest.mark.parametrize("reference", ["champion", "base", "parent"])
def test_examples_that_cannot_be_paired_prove_nothing(theirs: Measured, reference: str) -> None:
    for mine in (measured(MINE, 80), replace(measured(MINE, 80), record={"release": MINE})):
        evidence = Evidence(MINE, mine, OTHER, {reference: theirs})
        assert decide(non_inferior(reference=reference, margin=1), evidence).outcome == "inconclusive"
        assert (
            decide(non_inferior(reference=reference, margin=1, metric="macro_f1"), evidence).outcome == "inconclusive"
        )


@given(OUTCOMES, st.data(), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_margin_never_judges_harder(mine: list[float], data: st.DataObject, one: float, other: float) -> None:
    theirs = data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=len(mine), max_size=len(mine)))
    strict, loose = (
        decide(non_inferior(margin=margin), paired(mine, theirs)).outcome for margin in sorted([one, other])
    )
    assert RANK[strict] <= RANK[loose]


@given(OUTCOMES, st.data(), st.floats(0, 1), st.floats(0.51, 0.99))
def test_the_outcome_is_where_the_interval_lies(
    mine: list[float], data: st.DataObject, margin: float, confidence: float
) -> None:
    theirs = data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=len(mine), max_size=len(mine)))
    (result,) = decide(non_inferior(margin=margin, confidence=confidence), paired(mine, theirs)).results
    low, high = result.evidence["low"], result.evidence["high"]
    assert {"pass": low >= -margin, "fail": high < -margin, "inconclusive": low < -margin <= high}[result.outcome]
    assert (
        f"{percent(confidence)} interval [{low:+.3f}, {high:+.3f}]" in result.sentence
        and f"on {len(mine)} examples" in result.sentence
    )


@given(OUTCOMES)
def test_being_alike_is_no_proof_of_being_no_worse_at_all(outcomes: list[float]) -> None:
    assert decide(non_inferior(margin=0), paired(outcomes, outcomes)).outcome == "inconclusive"


def test_the_base_must_be_the_one_that_was_tuned() -> None:
    evidence = replace(paired([1.0] * 50, [0.0] * 50, "base"), champion=None)
    gate = non_inferior(reference="base", margin=0)
    assert decide(gate, replace(evidence, base="sha256:" + "b" * 64)).outcome == "pass"
    other = decide(gate, replace(evidence, base="sha256:" + "c" * 64))
    assert other.outcome == "fail" and OTHER in other.results[0].sentence


@pytest.mark.parametrize(
    ("reference", "command"), [("base", "evaluate.baseline: true"), ("parent", "quantize.compare_parent: true")]
)
def test_base_and_parent_are_compared_where_measured_and_asked_for_where_not(reference: str, command: str) -> None:
    """With nothing pinned too: only the champion may be absent."""
    evidence = replace(paired([0.0] * 50, [1.0] * 50, reference), champion=None)
    gate = non_inferior(reference=reference)
    assert decide(gate, evidence).outcome == "fail"
    missing = decide(gate, replace(evidence, references={"champion": measured(OTHER, 50, 50)}))
    assert missing.outcome == "inconclusive" and command in missing.results[0].sentence


@given(st.lists(st.sampled_from(["pass", "fail", "inconclusive"]), min_size=1, max_size=6))
def test_one_failure_fails_and_one_doubt_is_enough_not_to_pass(outcomes: list[str]) -> None:
    bounds = {
        "pass": {"metric": "exact_match", "minimum": 0},
        "fail": {"metric": "exact_match", "maximum": 0},
        "inconclusive": {"metric": "valid_json", "minimum": 0},
    }
    verdict = decide(
        rules(*({"rule": "threshold"} | bounds[one] for one in outcomes)),
        Evidence(MINE, measured(MINE, 80, exact_match=1)),
    )
    assert [result.outcome for result in verdict.results] == outcomes
    assert verdict.outcome == min(outcomes, key=RANK.__getitem__)
    assert EXIT_CODES[verdict.outcome] == {"pass": 0, "fail": 1, "inconclusive": 4}[verdict.outcome]


def test_a_deployment_is_judged_by_its_load_rules_alone() -> None:
    gate = read_rules(Path("configs/gates/load.yaml"))
    assert decide_load(gate, MINE, {"time_to_first_token_p95_ms": 5, "error_rate": 0}).outcome == "pass"
    assert decide_load(gate, MINE, {"time_to_first_token_p95_ms": 9e9, "error_rate": 0}).outcome == "fail"
    assert decide_load(gate, MINE, {"time_to_first_token_p95_ms": 5}).outcome == "inconclusive"
    assert decide_load(gate, MINE, {"time_to_first_token_p95_ms": 5, "error_rate": 0.1}).outcome == "fail"
    assert decide_load(rules({"rule": "parity"}), MINE, {"error_rate": 0}).outcome == "inconclusive", (
        "no load rule proves nothing"
    )


def test_shipped_gates_load() -> None:
    assert len([read_rules(path) for path in Path("configs/gates").glob("*.yaml")]) >= 4


def test_a_gate_file_that_cannot_be_read_names_every_problem(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(
        "rules:\n"
        "  - {rule: threshold, metric: accuracy}\n"
        "  - {rule: non_inferior_to, metric: accuracy, margin: 2}\n"
        "  - {rule: typo}\n"
    )
    with pytest.raises(ConfigError) as caught:
        read_rules(path)
    assert [problem.line for problem in caught.value.problems] == [2, 3, 4]
    path.write_text("rules: []")
    with pytest.raises(ConfigError, match=r"gate\.yaml"):
        read_rules(path)
    with pytest.raises(ConfigError, match="no such file"):
        read_rules(tmp_path / "nowhere.yaml")
