"""Whom a release is compared with: the champion only where there can be none, the parent only where it is its own."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.deciding import MINE, OTHER, frame, judged, measured

pytestmark = pytest.mark.unit
SIZE = {"rule": "size", "relative_to": "champion", "maximum_ratio": 1.1}
NON_INFERIOR = {"rule": "non_inferior_to", "metric": "accuracy", "margin": 0.05}
SLICES = {"rule": "slice_minimum", "metric": "accuracy", "reference": "champion", "margin": 0.05}


@pytest.mark.parametrize("rule", [SIZE, NON_INFERIOR, SLICES])
def test_no_champion_passes_only_where_the_environment_has_never_served(rule: dict[str, Any]) -> None:
    mine = measured(MINE, frame([1.0] * 60, slices=[["all"]] * 60), size_bytes=10)
    first = judged(rule, mine, environment="production")
    assert first.outcome == "pass" and "difference" not in first.evidence
    assert first.sentence.startswith("No champion: production has never served anything")
    nowhere = judged(rule, mine)
    assert nowhere.outcome == "inconclusive" and "--production ENV" in nowhere.sentence


def test_the_parent_must_be_the_one_that_was_quantized() -> None:
    rule, known = {**NON_INFERIOR, "reference": "parent"}, {"parent": measured(OTHER, frame([0.0] * 60))}
    mine = measured(MINE, frame([1.0] * 60))
    assert judged(rule, mine, references=known, parent=OTHER.partition("@")[2]).outcome == "pass"
    other = judged(rule, mine, references=known, parent="sha256:" + "c" * 64)
    assert other.outcome == "fail" and OTHER in other.sentence


def test_what_was_measured_through_another_vllm_is_compared_with_nothing() -> None:
    conditions = [{"rows": "d", "settings": "s", "versions": {"vllm": version}} for version in "12"]
    sides = [
        measured(name, frame([1.0] * 200), conditions=one) for name, one in zip((MINE, OTHER), conditions, strict=True)
    ]
    found = judged(NON_INFERIOR, sides[0], champion=OTHER, references={"champion": sides[1]}, environment="x")
    assert found.outcome == "inconclusive" and "measured with vllm 2, the release with 1" in found.sentence
