"""Answers of another length than the champion's, either way; refusals; and what has no champion."""

from __future__ import annotations

from typing import Any

import numpy
import pandas
import pytest

from configs.metrics import MetricDefinition
from configs.verdict import RuleResult
from tests.support.deciding import MINE, OTHER, judged, measured, samples

pytestmark = pytest.mark.unit
DRIFT = {"rule": "drift", "metric": "answer_tokens", "maximum_ratio": 1.5}
LENGTH: MetricDefinition = {"kind": "bounded", "low": 0, "high": 96, "higher_is_better": None}
THEIRS = numpy.random.default_rng(2).integers(10, 30, 200).astype(float)


def decided(rule: dict[str, Any], mine: Any, theirs: Any, metric: str = "answer_tokens") -> RuleResult:
    one, other = (samples(("test", metric, values)) for values in (mine, theirs))
    definitions = {"answer_tokens": LENGTH}
    sides = [
        measured(name, pandas.DataFrame({"id": []}), samples=found, definitions=definitions)
        for name, found in ((MINE, one), (OTHER, other))
    ]
    return judged(rule, sides[0], champion=OTHER, environment="local", references={"champion": sides[1]})


@pytest.mark.parametrize(
    ("times", "outcome"),
    [(1.0, "pass"), (1.2, "pass"), (0.8, "pass"), (0.5, "fail"), (2.0, "fail"), (1.5, "inconclusive")],
)
def test_half_as_long_and_twice_as_long_are_regressions(times: float, outcome: str) -> None:
    found = decided(DRIFT, THEIRS * times, THEIRS)
    assert found.outcome == outcome and found.evidence["value"] == pytest.approx(times)
    assert found.evidence["bound"] == pytest.approx(1.5 if times > 1 else 1 / 1.5)
    assert found.evidence["direction"] == ("at most" if times > 1 else "at least")
    assert ("more_examples" in found.evidence) == (outcome == "inconclusive" and times != 1.5)
    assert "the ratio of answer_tokens to champion's is" in found.sentence


def test_few_rows_decide_nothing() -> None:
    found = decided(DRIFT, THEIRS[:6] * 1.2, THEIRS[:6])
    assert found.outcome == "inconclusive" and (found.evidence["more_examples"] or 0) > 6


def test_what_cannot_be_paired_never_passes() -> None:
    assert decided(DRIFT, THEIRS, THEIRS[:-1]).outcome == "inconclusive"
    assert decided(DRIFT, [*THEIRS[:-1], float("nan")], THEIRS).outcome == "inconclusive"
    assert decided(DRIFT, THEIRS, 0 * THEIRS).outcome == "inconclusive"
    assert judged(DRIFT, measured(MINE)).outcome == "inconclusive"
    assert judged(DRIFT, measured(MINE), environment="local").outcome == "pass", "it has never served anything"


@pytest.mark.parametrize(("refused", "outcome"), [(0, "pass"), (30, "fail"), (8, "inconclusive")])
def test_more_refusals_than_the_champions_are_a_regression(refused: int, outcome: str) -> None:
    rule = {"rule": "non_inferior_to", "metric": "refusal_rate", "margin": 0.05}
    found = decided(rule, [1.0] * refused + [0.0] * (120 - refused), [0.0] * 120, "refusal_rate")
    assert found.outcome == outcome and found.evidence["direction"] == "at most"
