"""Non-inferiority and superiority: what is shown, what is open, and against whom."""

from __future__ import annotations

import numpy
import pytest

from configs.rules.gate import GateConfig
from eval.gate import named_in
from tests.support.deciding import MINE, NAMED, NOISE, OTHER, against, frame, judged, measured

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("shift", "outcome"), [(-0.3, "pass"), (0.0, "pass"), (0.05, "inconclusive"), (0.3, "fail")])
def test_where_lower_is_better_an_increase_is_the_loss(shift: float, outcome: str) -> None:
    rule = {"rule": "non_inferior_to", "metric": "mean_absolute_error", "margin": 0.05}
    found = against(rule, NOISE + shift + numpy.random.default_rng(4).normal(0, 0.05, 200), NOISE, "absolute_error")
    assert found.outcome == outcome and found.evidence["bound"] == 0.05 and found.evidence["direction"] == "at most"
    assert found.evidence["difference"] == pytest.approx(shift, abs=0.02) and found.evidence["reference"] == "champion"


@pytest.mark.parametrize(("right", "outcome"), [(90, "pass"), (64, "inconclusive"), (20, "fail")])
def test_superiority_must_be_shown(right: int, outcome: str) -> None:
    found = against(
        {"rule": "superior_to", "metric": "exact_match"},
        [i < right for i in range(100)],
        [i % 5 < 3 for i in range(100)],
    )
    assert found.outcome == outcome and "power" not in found.evidence and found.evidence["bound"] == 0.0
    assert (found.evidence["value"], found.evidence["reference_value"]) == (right / 100, 0.6)


def test_nobody_is_superior_to_himself() -> None:
    assert against({"rule": "superior_to", "metric": "exact_match"}, [1] * 50, [1] * 50).outcome == "inconclusive"
    assert against({"rule": "superior_to", "metric": "token_f1"}, NOISE, NOISE, "token_f1").outcome == "inconclusive"


def test_the_same_answers_are_shown_to_be_no_worse_in_any_metric() -> None:
    for metric, column in (
        ("exact_match", "correct"),
        ("token_f1", "token_f1"),
        ("mean_absolute_error", "absolute_error"),
    ):
        values = numpy.round(NOISE) if column == "correct" else NOISE
        assert (
            against({"rule": "non_inferior_to", "metric": metric, "margin": 0.05}, values, values, column).outcome
            == "pass"
        )


def test_an_open_comparison_says_how_many_more_examples_would_decide() -> None:
    found = against(
        {"rule": "non_inferior_to", "metric": "exact_match", "margin": 0.05},
        [i % 10 < 7 for i in range(80)],
        [(i + 1) % 10 < 7 for i in range(80)],
    )
    more = found.evidence["more_examples"]
    assert found.outcome == "inconclusive" and more is not None and more > 0
    assert f"about {more:,} more examples would decide" in found.sentence
    assert 0 < (found.evidence["power"] or 0) < 1
    assert f"{found.evidence['minimum_detectable_effect']:.3f} would be seen" in found.sentence
    assert {
        "kind",
        "metric",
        "low",
        "high",
        "confidence",
        "n",
        "method",
        "p_value",
        "gained",
        "lost",
    } <= found.evidence.keys()


def test_any_release_may_be_the_reference_and_only_itself() -> None:
    rule = {"rule": "non_inferior_to", "metric": "exact_match", "margin": 0.1, "reference": NAMED}
    values = frame([1.0] * 100)
    assert named_in(GateConfig.model_validate({"rules": [rule, {"rule": "parity"}]})) == [NAMED]
    assert judged(rule, measured(MINE, values), references={NAMED: measured(NAMED, values)}).outcome == "pass"
    assert judged(rule, measured(MINE, values), references={NAMED: measured(OTHER, values)}).outcome == "fail"
    assert (
        judged(rule, measured(MINE, values), references={NAMED: measured(NAMED, values, "other rows")}).outcome
        == "inconclusive"
    )
    assert judged(rule, measured(MINE, values)).outcome == "inconclusive"
