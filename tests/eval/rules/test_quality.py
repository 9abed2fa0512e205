"""Each rule's own decision: what passes, what fails, what is open, and that absence is never a pass."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.rules.gate import GateConfig
from eval.rules.decide import changes, decide_load
from eval.rules.evidence import Evidence
from tests.support.deciding import MINE, NAMED, NOISE, OTHER, frame, judged, measured, samples

pytestmark = pytest.mark.unit
NO_FIGURE: st.SearchStrategy[Any] = st.sampled_from([None, math.nan, math.inf, -math.inf, True, "0.9", [], {}])


@pytest.mark.parametrize(("right", "outcome"), [(190, "pass"), (164, "inconclusive"), (100, "fail")])
def test_a_threshold_is_met_by_the_whole_interval_or_where_asked_by_the_figure(right: int, outcome: str) -> None:
    mine = measured(MINE, frame([i < right for i in range(200)]), metrics={"exact_match": right / 200})
    sure = {"rule": "threshold", "metric": "exact_match", "minimum": 0.8}
    found, point = judged(sure, mine), judged(sure | {"point": True}, mine)
    assert found.outcome == outcome and point.outcome == ("fail" if right < 160 else "pass")
    assert "point figure" in point.sentence and "point figure" in point.rule and point.evidence["point"] is True
    assert "point figure" not in found.sentence + found.rule and "point" not in found.evidence
    assert found.evidence["low"] < right / 200 < found.evidence["high"] and ("more_examples" in found.evidence) == (
        outcome == "inconclusive"
    )
    bare = judged(sure, measured(MINE, metrics={"exact_match": right / 200}))
    assert bare.outcome == "inconclusive" and "no interval can be made" in bare.sentence


def test_the_old_key_says_what_it_said() -> None:
    mine = measured(MINE, frame([i < 164 for i in range(200)]), metrics={"exact_match": 0.82})
    rule = {"rule": "threshold", "metric": "exact_match", "minimum": 0.8}
    assert [judged(rule | {"confident": one}, mine).outcome for one in (True, False)] == ["inconclusive", "pass"]


@pytest.mark.parametrize(("right", "outcome"), [(95, "pass"), (75, "inconclusive"), (20, "fail")])
def test_a_label_of_its_own_is_held_to_a_bound(right: int, outcome: str) -> None:
    """recall:toxic is in no list of metrics.json's, but in its rows."""
    rows = 100
    predictions = pandas.DataFrame(
        {
            "id": [str(i) for i in range(2 * rows)],
            "gold": ["toxic"] * rows + ["fine"] * rows,
            "answer": ["toxic" if i < right else "fine" for i in range(rows)] + ["fine"] * rows,
            "probabilities": "{}",
        }
    )
    predictions["correct"] = (predictions["gold"] == predictions["answer"]).astype(float)
    found = judged(
        {"rule": "threshold", "metric": "recall:toxic", "minimum": 0.75}, measured(MINE, predictions, metrics={})
    )
    assert found.outcome == outcome and found.evidence["value"] == right / rows
    assert judged(
        {"rule": "threshold", "metric": "recall:none", "minimum": 0}, measured(MINE, predictions)
    ).outcome == ("inconclusive")


BEHAVIOUR = {
    "typos": {"kind": "robustness", "n": 1000, "metric": "accuracy"},
    "negation": {"kind": "directional", "n": 500, "metric": "probability:good"},
    "unsure": {"kind": "abstention", "n": 500, "metric": "abstained"},
    "names": {"kind": "invariance", "n": 1000, "metric": "probability:good"},
}
N = 500
ROBUST = samples(
    ("behaviour:typos:case", "original", [1] * N),
    ("behaviour:typos:case", "changed", [1] * N),
    ("behaviour:typos:case", "flipped", [0] * N),
    ("behaviour:typos:typos", "original", [1] * N),
    ("behaviour:typos:typos", "changed", [i >= N // 4 for i in range(N)]),
    ("behaviour:typos:typos", "flipped", [i < N // 4 for i in range(N)]),
    ("behaviour:negation:append", "moved", [i % 20 > 0 for i in range(N)]),
    ("behaviour:unsure:prompt", "abstained", [1] * N),
    ("behaviour:unsure:ordinary", "abstained", [0] * N),
    ("behaviour:names:men", "gap", [0.3] * N),
    ("behaviour:names:men", "flipped", [1] * N),
    ("behaviour:names:both", "gap", [0.01] * N),
    ("behaviour:names:both", "flipped", [0] * N),
)


@pytest.mark.parametrize(
    ("rule", "outcome", "decides"),
    [
        ({"rule": "robustness", "maximum_drop": 0.35}, "pass", "typos typos"),
        ({"rule": "robustness", "maximum_drop": 0.26}, "inconclusive", "typos typos"),
        ({"rule": "robustness", "maximum_drop": 0.26, "point": True}, "pass", "typos typos"),
        # Over both perturbations the mean is 0.125: it would hide the one that breaks.
        ({"rule": "robustness", "maximum_drop": 0.15}, "fail", "typos typos"),
        ({"rule": "robustness", "maximum_flip_rate": 0.35}, "pass", "typos typos"),
        ({"rule": "robustness", "maximum_flip_rate": 0.15}, "fail", "typos typos"),
        ({"rule": "robustness", "test": "negation", "maximum_drop": 0.1}, "pass", "negation append"),
        ({"rule": "robustness", "test": "negation", "maximum_drop": 0.02}, "fail", "negation append"),
        ({"rule": "robustness", "test": "unsure", "maximum_drop": 0.02}, "pass", "unsure prompt"),
        ({"rule": "robustness", "test": "unsure", "maximum_flip_rate": 1}, "inconclusive", "unsure prompt"),
        ({"rule": "robustness", "test": "names", "maximum_drop": 1}, "inconclusive", ""),
        ({"rule": "fairness", "maximum_gap": 0.4}, "pass", "names men"),
        ({"rule": "fairness", "maximum_gap": 0.2}, "fail", "names men"),
        ({"rule": "fairness", "maximum_gap": 0.4, "maximum_flip_rate": 0.5}, "fail", "names men flip rate"),
        ({"rule": "fairness", "test": "typos", "maximum_gap": 1}, "inconclusive", ""),
    ],
)
def test_each_perturbation_and_group_is_held_to_its_limits(rule: dict[str, Any], outcome: str, decides: str) -> None:
    found = judged(rule, measured(MINE, behaviour=BEHAVIOUR, samples=ROBUST))
    assert found.outcome == outcome and found.evidence.get("metric", "").startswith(decides)
    unknown: tuple[dict[str, Any], ...] = ({"behaviour": {}}, {}, {"behaviour": BEHAVIOUR})
    for known in unknown:
        assert judged(rule, measured(MINE, **known)).outcome == "inconclusive"


def test_opposite_biases_do_not_cancel() -> None:
    """One half of the pairs goes up by 0.4, the other down: group means are alike, and every answer is another."""
    pairs = samples(("behaviour:names:b", "gap", [0.4] * N), ("behaviour:names:b", "flipped", [1] * N))
    found = judged({"rule": "fairness", "maximum_gap": 0.1}, measured(MINE, behaviour=BEHAVIOUR, samples=pairs))
    assert found.outcome == "fail" and found.evidence["value"] == pytest.approx(0.4)


def quantized(alike: int, change: int) -> dict[str, Any]:
    """Of 400 rows so many answered as the parent did, and so many wrong that it had right."""
    mine = frame([i >= change for i in range(400)]).assign(answer=["a" if i < alike else "b" for i in range(400)])
    theirs = frame([1] * 400).assign(answer="a")
    nats = samples(
        (f"divergence:{MINE}", "kl_divergence", 0.02 + NOISE / 100), ("divergence:other", "kl_divergence", [9])
    )
    metrics = {"parent_agreement": alike / 400, "parent_kl_divergence": 0.025, "exact_match_change": -change / 400}
    return {
        "mine": measured(MINE, mine, metrics=metrics),
        "references": {"parent": measured(OTHER, theirs, samples=nats)},
    }


@pytest.mark.parametrize(
    ("rule", "outcome"),
    [
        ({"minimum_agreement": 0.9}, "pass"),
        ({"minimum_agreement": 0.94}, "inconclusive"),
        ({"minimum_agreement": 0.94, "point": True}, "pass"),
        ({"minimum_agreement": 0.99}, "fail"),
        ({"maximum_kl_divergence": 0.03}, "pass"),
        ({"maximum_kl_divergence": 0.01}, "fail"),
        ({"metric": "exact_match", "maximum_drop": 0.05}, "pass"),
        ({"metric": "exact_match", "maximum_drop": 0.001}, "fail"),
        ({"minimum_agreement": 0.5, "metric": "macro_f1", "maximum_drop": 1}, "inconclusive"),
    ],
)
def test_quantization_is_held_against_the_parent(rule: dict[str, Any], outcome: str) -> None:
    known = quantized(380, 8)
    found = judged({"rule": "quantization"} | rule, **known)
    assert found.outcome == outcome
    missing = judged({"rule": "quantization"} | rule, measured(MINE))
    assert missing.outcome == "inconclusive" and "compare_parent: true" in missing.sentence
    known["references"]["parent"].record["release"] = NAMED
    other = judged({"rule": "quantization"} | rule, replace(known["mine"], record={"release": OTHER}), **{})
    assert other.outcome == "fail", "an evaluation of another release"


@pytest.mark.parametrize(("rows", "more"), [(64, 36), (99, 1), (100, None)])
def test_of_too_few_rows_for_an_interval_it_says_how_many_more_make_one(rows: int, more: int | None) -> None:
    """KL has no largest value: an interval of it needs 100 rows."""
    mine = measured(MINE, metrics={"parent_kl_divergence": 0.02})
    nats = samples((f"divergence:{MINE}", "kl_divergence", 0.02 + NOISE[:rows] / 100))
    parent = {"parent": measured(OTHER, samples=nats)}
    rule = {"rule": "quantization", "maximum_kl_divergence": 0.2}
    found = judged(rule, mine, references=parent)
    assert found.outcome == ("pass" if more is None else "inconclusive") and found.evidence.get("more_examples") == more
    assert (f"{more} more make one" in found.sentence and f"{rows} examples" in found.sentence) == (more is not None)
    assert judged(rule | {"point": True}, mine, references=parent).outcome == "pass"


@pytest.mark.parametrize("rows", [19, 20])
def test_a_comparison_of_too_few_rows_says_it_too(rows: int) -> None:
    predictions = frame([1] * rows).assign(gold=["a", "b"] * (rows // 2) + ["a"] * (rows % 2))
    predictions["answer"] = predictions["gold"]
    rule = {"rule": "non_inferior_to", "reference": "champion", "metric": "macro_f1", "margin": 0.1}
    sides: Any = {"champion": OTHER, "references": {"champion": measured(OTHER, predictions)}}
    found = judged(rule, measured(MINE, predictions), **sides)
    assert found.outcome == "inconclusive"
    assert ("1 more make one" in found.sentence) == (found.evidence.get("more_examples") == 1) == (rows == 19)


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


def test_a_release_that_a_rule_names_is_compared_with_in_full() -> None:
    mine, theirs = (measured(one, metrics={"accuracy": value}) for one, value in ((MINE, 0.75), (NAMED, 0.5)))
    assert changes(Evidence(MINE, mine, None, {NAMED: theirs})) == {"accuracy": {"release": 0.75, NAMED: 0.5}}


def test_changes_are_each_metric_beside_the_references_on_the_same_rows() -> None:
    sides = {
        "champion": measured(OTHER, metrics={"accuracy": 0.5, "only_theirs": 1}),
        "base": measured(NAMED, dataset="other rows", metrics={"accuracy": 0.1}),
    }
    mine = measured(MINE, metrics={"accuracy": 0.75, "size_ratio": 0.3, "broken": math.nan}, compared=["size_ratio"])
    assert changes(Evidence(MINE, mine, OTHER, sides)) == {"accuracy": {"release": 0.75, "champion": 0.5}}
    assert changes(Evidence(OTHER, mine)) == changes(Evidence(MINE, None)) == {}
