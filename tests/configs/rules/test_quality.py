"""Gate files: what may be asked of a release, and what is refused before anything runs."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from configs.rules.gate import GateConfig
from eval.rules.explain import EXPLANATIONS

pytestmark = pytest.mark.unit
NAMED, SHORT = "run@sha256:" + "a" * 64, "run@" + "a" * 12


def rule(**settings: Any) -> Any:
    return GateConfig.model_validate({"rules": [settings]}).rules[0]


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (
            {"rule": "threshold", "metric": "judge_score", "minimum": 0.5, "confident": True},
            "judge_score >= 0.5",
        ),
        (
            {"rule": "threshold", "metric": "judge_score", "minimum": 0.5, "confident": False},
            "judge_score >= 0.5 (point figure)",
        ),
        (
            {"rule": "threshold", "metric": "harness_any_task_acc", "maximum": 2, "minimum": 1},
            "harness_any_task_acc >= 1 and <= 2",
        ),
        (
            {"rule": "non_inferior_to", "metric": "harness:gsm8k:exact_match", "margin": 0.02, "reference": "base"},
            "harness:gsm8k:exact_match non-inferior to base by 0.02",
        ),
        (
            {"rule": "drift", "metric": "answer_tokens", "maximum_ratio": 1.5, "reference": NAMED},
            f"answer_tokens within 1.5 times {SHORT}'s, either way",
        ),
        ({"rule": "threshold", "metric": "custom:polite", "minimum": 0.9}, "custom:polite >= 0.9"),
        (
            {"rule": "threshold", "metric": "size_ratio", "maximum": 0.5, "point": True},
            "size_ratio <= 0.5 (point figure)",
        ),
        (
            {"rule": "non_inferior_to", "metric": "mean_absolute_error", "margin": 2, "reference": NAMED},
            f"mean_absolute_error non-inferior to {SHORT} by 2",
        ),
        ({"rule": "superior_to", "metric": "f1:positive", "reference": "base"}, "f1:positive superior to base"),
        ({"rule": "slice_minimum", "metric": "accuracy", "minimum": 0.5}, "accuracy of every slice >= 0.5"),
        ({"rule": "slice_minimum", "metric": "log_loss", "minimum": 2}, "log_loss of every slice <= 2"),
        (
            {
                "rule": "slice_minimum",
                "metric": "accuracy",
                "slices": ["label=*", "x"],
                "reference": "champion",
                "margin": 0.1,
            },
            "accuracy of slices label=*, x non-inferior to champion by 0.1",
        ),
        ({"rule": "calibration", "maximum": 0.1}, "expected_calibration_error <= 0.1"),
        (
            {"rule": "robustness", "maximum_drop": 0.1, "maximum_flip_rate": 0.2},
            "robust (all tests): drop <= 0.1, flip rate <= 0.2",
        ),
        ({"rule": "fairness", "test": "names", "maximum_gap": 0.05}, "fair (names): gap <= 0.05"),
        (
            {"rule": "fairness", "maximum_flip_rate": 0.05, "point": True},
            "fair (all tests): flip rate <= 0.05 (point figure)",
        ),
        (
            {"rule": "quantization", "minimum_agreement": 0.9, "metric": "accuracy", "maximum_drop": 0.01},
            "quantization: agreement >= 0.9, accuracy drop <= 0.01",
        ),
        ({"rule": "size", "maximum_bytes": 40_000_000}, "size <= 40,000,000 bytes"),
        ({"rule": "size", "relative_to": "parent", "maximum_ratio": 0.5}, "size <= 0.5 x parent"),
        (
            {"rule": "latency", "metric": "latency_p95_ms", "maximum": 40, "relative_to": "blue", "maximum_ratio": 1.2},
            "latency_p95_ms <= 40 and <= 1.2 x blue",
        ),
        ({"rule": "goodput", "minimum": 5, "maximum_error_rate": 0}, "requests_per_second >= 5, error_rate <= 0"),
        ({"rule": "parity"}, "served answers match the trainer's own"),
    ],
)
def test_a_rule_names_itself_by_what_it_asks(settings: dict[str, Any], name: str) -> None:
    assert rule(**settings).name == name and settings["rule"] in EXPLANATIONS


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"rule": "threshold", "metric": "accuracy"}, "minimum or maximum"),
        ({"rule": "threshold", "metric": "a_task", "minimum": 0}, "a metric of single examples"),
        ({"rule": "threshold", "metric": "acuracy", "minimum": 0}, "a metric of single examples, accuracy"),
        ({"rule": "threshold", "metric": "f1", "minimum": 0}, "f1:LABEL"),
        ({"rule": "threshold", "metric": "accuracy:good", "minimum": 0}, "accuracy without a label"),
        ({"rule": "fairness"}, "maximum_gap or maximum_flip_rate"),
        ({"rule": "non_inferior_to", "metric": "acuracy", "margin": 0}, "accuracy"),
        ({"rule": "non_inferior_to", "metric": "accuracy", "margin": 1.5}, "a margin of at most 1"),
        ({"rule": "non_inferior_to", "metric": "accuracy", "margin": -0.1}, "greater than or equal to 0"),
        ({"rule": "non_inferior_to", "metric": "accuracy", "margin": 0, "reference": "someone"}, "champion"),
        ({"rule": "superior_to", "metric": "accuracy", "confidence": 1}, "less than 1"),
        ({"rule": "slice_minimum", "metric": "accuracy"}, "minimum, or reference with margin"),
        ({"rule": "slice_minimum", "metric": "accuracy", "reference": "base"}, "minimum, or reference with margin"),
        (
            {"rule": "slice_minimum", "metric": "accuracy", "minimum": 0.5, "reference": "base", "margin": 0.1},
            "minimum, or reference with margin",
        ),
        ({"rule": "calibration", "metric": "accuracy", "maximum": 1}, "brier"),
        ({"rule": "robustness"}, "maximum_drop or maximum_flip_rate"),
        ({"rule": "quantization"}, "minimum_agreement, maximum_kl_divergence"),
        ({"rule": "quantization", "metric": "accuracy"}, "metric exactly with maximum_drop"),
        ({"rule": "size"}, "maximum_bytes, or relative_to with maximum_ratio"),
        ({"rule": "size", "relative_to": "parent"}, "relative_to exactly with maximum_ratio"),
        ({"rule": "latency", "metric": "latency_p95_ms"}, "maximum, or relative_to with maximum_ratio"),
        ({"rule": "goodput", "minimum_ratio": 1}, "relative_to exactly with minimum_ratio"),
        ({"rule": "goodput"}, "minimum, maximum_error_rate"),
        ({"rule": "load", "metric": "error_rate", "maximum": 0}, "goodput"),
        ({"rule": "non_inferior_to", "metric": "answer_tokens", "margin": 5}, "`rule: drift`"),
        ({"rule": "slice_minimum", "metric": "prompt_tokens", "minimum": 5}, "`rule: drift`"),
        ({"rule": "drift", "metric": "macro_f1", "maximum_ratio": 2}, "never below 0"),
        ({"rule": "drift", "metric": "preference_margin", "maximum_ratio": 2}, "never below 0"),
        ({"rule": "drift", "metric": "answer_tokens", "maximum_ratio": 1}, "greater than 1"),
        ({"rule": "fairness", "metric": "equalized_odds_difference", "maximum_difference": 0.1}, "label and maximum_d"),
        (
            {
                "rule": "fairness",
                "metric": "equalized_odds_difference",
                "column": "c",
                "label": "l",
                "maximum_difference": 0.1,
                "maximum_gap": 0.1,
            },
            "without a test",
        ),
    ],
)
def test_what_asks_nothing_or_too_much_is_refused(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        rule(**settings)


def test_every_kind_of_rule_is_explained() -> None:
    kinds = GateConfig.model_json_schema()["properties"]["rules"]["items"]["discriminator"]["mapping"]
    assert {*kinds} == {*EXPLANATIONS}
