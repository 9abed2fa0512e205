"""Each rule's own decision: what passes, what fails, what is open, and that absence is never a pass."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.rules.gate import GateConfig
from eval.rules.decide import changes, decide_load
from eval.rules.evidence import Evidence
from tests.support.deciding import MINE, NAMED, OTHER, frame, judged, measured

pytestmark = pytest.mark.unit
NO_FIGURE: st.SearchStrategy[Any] = st.sampled_from([None, math.nan, math.inf, -math.inf, True, "0.9", [], {}])


@pytest.mark.parametrize(("right", "outcome"), [(190, "pass"), (164, "inconclusive"), (100, "fail")])
def test_a_confident_threshold_is_met_by_the_whole_interval(right: int, outcome: str) -> None:
    mine = measured(MINE, frame([i < right for i in range(200)]), metrics={"exact_match": right / 200})
    plain, sure = (
        {"rule": "threshold", "metric": "exact_match", "minimum": 0.8, "confident": confident}
        for confident in (False, True)
    )
    found = judged(sure, mine)
    assert found.outcome == outcome and judged(plain, mine).outcome == ("fail" if right < 160 else "pass")
    assert found.evidence["low"] < right / 200 < found.evidence["high"] and ("more_examples" in found.evidence) == (
        outcome == "inconclusive"
    )
    assert judged(sure, measured(MINE, metrics={"exact_match": right / 200})).outcome == "inconclusive", (
        "without examples there is no interval"
    )


BEHAVIOUR = {
    "typos": {"kind": "robustness", "n": 40, "drop": 0.1, "flip_rate": 0.2, "gap": None},
    "negation": {"kind": "directional", "n": 40, "drop": 0.05, "flip_rate": 0.9, "gap": None},
    "unsure": {"kind": "abstention", "n": 40, "drop": 0.0, "flip_rate": None, "gap": None},
    "names": {"kind": "invariance", "n": 40, "drop": 0.9, "flip_rate": 0.01, "gap": 0.03},
}


@pytest.mark.parametrize(
    ("rule", "outcome"),
    [
        ({"rule": "robustness", "maximum_drop": 0.1}, "pass"),
        ({"rule": "robustness", "maximum_drop": 0.09}, "fail"),
        ({"rule": "robustness", "maximum_drop": 0.1, "maximum_flip_rate": 0.2}, "pass"),
        ({"rule": "robustness", "maximum_flip_rate": 0.1}, "fail"),
        ({"rule": "robustness", "test": "negation", "maximum_drop": 0.05}, "pass"),
        ({"rule": "robustness", "test": "unsure", "maximum_flip_rate": 1}, "inconclusive"),
        ({"rule": "robustness", "test": "typo", "maximum_drop": 1}, "inconclusive"),
        ({"rule": "fairness", "maximum_gap": 0.03}, "pass"),
        ({"rule": "fairness", "maximum_gap": 0.02}, "fail"),
        ({"rule": "fairness", "test": "typos", "maximum_gap": 1}, "inconclusive"),
    ],
)
def test_behaviour_is_held_to_its_limits(rule: dict[str, Any], outcome: str) -> None:
    assert judged(rule, measured(MINE, behaviour=BEHAVIOUR)).outcome == outcome
    assert judged(rule, measured(MINE, behaviour={})).outcome == judged(rule, measured(MINE)).outcome == "inconclusive"
    empty = {name: test | {"n": 0} for name, test in BEHAVIOUR.items()}
    assert judged(rule, measured(MINE, behaviour=empty)).outcome == "inconclusive"


@pytest.mark.parametrize(
    ("rule", "outcome"),
    [
        ({"minimum_agreement": 0.9}, "pass"),
        ({"minimum_agreement": 0.95}, "fail"),
        ({"maximum_kl_divergence": 0.02}, "pass"),
        ({"maximum_kl_divergence": 0.01}, "fail"),
        ({"metric": "accuracy", "maximum_drop": 0.02}, "pass"),
        ({"metric": "accuracy", "maximum_drop": 0.01}, "fail"),
        ({"metric": "log_loss", "maximum_drop": 0.05}, "fail"),
        ({"minimum_agreement": 0.5, "metric": "macro_f1", "maximum_drop": 1}, "inconclusive"),
    ],
)
def test_quantization_is_held_against_the_parent(rule: dict[str, Any], outcome: str) -> None:
    metrics = {
        "parent_agreement": 0.93,
        "parent_kl_divergence": 0.02,
        "accuracy_change": -0.015,
        "log_loss_change": 0.1,
    }
    found = judged({"rule": "quantization"} | rule, measured(MINE, metrics=metrics))
    assert found.outcome == outcome
    missing = judged({"rule": "quantization"} | rule, measured(MINE))
    assert missing.outcome == "inconclusive" and "compare_parent: true" in missing.sentence


def test_size_is_bytes_or_a_ratio() -> None:
    mine, theirs = measured(MINE, size_bytes=300), measured(OTHER, size_bytes=1000)
    assert [judged({"rule": "size", "maximum_bytes": most}, mine).outcome for most in (300, 299)] == ["pass", "fail"]
    for reference in ("parent", "champion"):
        rules = [{"rule": "size", "relative_to": reference, "maximum_ratio": ratio} for ratio in (0.3, 0.2)]
        known: dict[str, Any] = {"champion": OTHER, "references": {reference: theirs}}
        assert [judged(rule, mine, **known).outcome for rule in rules] == ["pass", "fail"]
        assert (
            judged(rules[0], mine, champion=OTHER).outcome
            == judged(rules[0], measured(MINE), **known).outcome
            == "inconclusive"
        )
    stranger = {"champion": measured(NAMED, size_bytes=1000)}
    assert (
        judged(
            {"rule": "size", "relative_to": "champion", "maximum_ratio": 9}, mine, champion=OTHER, references=stranger
        ).outcome
        == "inconclusive"
    )


def loaded(rule: dict[str, Any], **figures: Any) -> str:
    return decide_load(GateConfig.model_validate({"rules": [rule]}), MINE, figures).outcome


@pytest.mark.parametrize(("green", "outcome"), [(100, "pass"), (120, "pass"), (121, "fail")])
def test_latency_and_goodput_may_be_held_against_blue(green: float, outcome: str) -> None:
    latency = {"rule": "latency", "metric": "latency_p95_ms", "relative_to": "blue", "maximum_ratio": 1.2}
    assert loaded(latency, latency_p95_ms=green, blue_latency_p95_ms=100) == outcome
    goodput = {"rule": "goodput", "relative_to": "blue", "minimum_ratio": 0.5, "maximum_error_rate": 0.01}
    assert loaded(goodput, requests_per_second=60 / green * 100, blue_requests_per_second=100, error_rate=0) == (
        "pass" if green <= 120 else "fail"
    )
    assert (
        loaded(latency, latency_p95_ms=green) == loaded(goodput, requests_per_second=60, error_rate=0) == "inconclusive"
    ), "blue was not measured"
    assert (
        loaded(latency, latency_p95_ms=green, blue_absent=1) == loaded(goodput, error_rate=0, blue_absent=1) == "pass"
    ), "a first release has no blue"
    assert (
        loaded(goodput, error_rate=0.02, blue_absent=1) == "fail"
        and loaded(latency | {"maximum": 1}, latency_p95_ms=green, blue_absent=1) == "fail"
    )
    assert loaded(goodput, blue_absent=1) == loaded(latency | {"maximum": 9}, blue_absent=1) == "inconclusive", (
        "an absolute limit is asked for all the same"
    )
    assert loaded(latency, latency_p95_ms=green, blue_latency_p95_ms=0) == "inconclusive"
    assert loaded(goodput, requests_per_second=60, blue_requests_per_second=100, error_rate=0.02) == "fail"


@given(NO_FIGURE)
def test_no_figure_never_passes(value: Any) -> None:
    tests = {
        "typos": {"kind": "robustness", "n": 9, "drop": value, "flip_rate": value},
        "names": {"kind": "invariance", "n": 9, "gap": value},
    }
    mine = measured(
        MINE,
        metrics={"expected_calibration_error": value, "parent_agreement": value},
        behaviour=tests,
        size_bytes=value,
    )
    rules = [
        {"rule": "calibration", "maximum": 1},
        {"rule": "quantization", "minimum_agreement": 0},
        {"rule": "robustness", "maximum_drop": 9},
        {"rule": "robustness", "maximum_flip_rate": 1},
        {"rule": "fairness", "maximum_gap": 9},
        {"rule": "size", "maximum_bytes": 9},
    ]
    assert {judged(rule, mine).outcome for rule in rules} == {"inconclusive"}
    assert loaded({"rule": "latency", "metric": "latency_p50_ms", "maximum": 9}, latency_p50_ms=value) == "inconclusive"
    assert (
        loaded({"rule": "goodput", "minimum": 0}, requests_per_second=value)
        == loaded({"rule": "goodput", "maximum_error_rate": 1})
        == "inconclusive"
    )


def test_changes_are_each_metric_beside_the_references_on_the_same_rows() -> None:
    sides = {
        "champion": measured(OTHER, metrics={"accuracy": 0.5, "only_theirs": 1}),
        "base": measured(NAMED, dataset="other rows", metrics={"accuracy": 0.1}),
    }
    mine = measured(MINE, metrics={"accuracy": 0.75, "size_ratio": 0.3, "broken": math.nan}, compared=["size_ratio"])
    assert changes(Evidence(MINE, mine, OTHER, sides)) == {"accuracy": {"release": 0.75, "champion": 0.5}}
    assert changes(Evidence(OTHER, mine)) == changes(Evidence(MINE, None)) == {}
