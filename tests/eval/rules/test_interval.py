"""The one decision: where an interval lies to a bound."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.rules.interval import Limit, decide_interval, percent, shown
from eval.statistics.comparison import Estimate

pytestmark = pytest.mark.unit
FIGURE = st.floats(-1e6, 1e6)
RANK = {"fail": 0, "inconclusive": 1, "pass": 2}


@pytest.mark.parametrize(
    ("low", "high", "bound", "higher", "outcome"),
    [
        (0.7, 0.9, 0.6, True, "pass"),
        (0.7, 0.9, 0.7, True, "pass"),
        (0.7, 0.9, 0.8, True, "inconclusive"),
        (0.7, 0.9, 0.9, True, "inconclusive"),
        (0.7, 0.9, 0.95, True, "fail"),
        (0.7, 0.9, 0.6, False, "fail"),
        (0.7, 0.9, 0.8, False, "inconclusive"),
        (0.7, 0.9, 0.9, False, "pass"),
    ],
)
def test_an_interval_decides_only_where_all_of_it_lies_on_one_side(
    low: float, high: float, bound: float, higher: bool, outcome: str
) -> None:
    assert decide_interval(low, high, bound, higher) == outcome


@given(FIGURE, FIGURE, FIGURE)
def test_turning_the_metric_round_turns_nothing_of_the_decision(one: float, other: float, bound: float) -> None:
    low, high = sorted([one, other])
    assert decide_interval(low, high, bound, True) == decide_interval(-high, -low, -bound, False)


@given(FIGURE, st.floats(0, 1e3), FIGURE, st.floats(0, 1e3), st.booleans())
def test_a_softer_bound_or_a_narrower_interval_never_turns_a_pass(
    centre: float, width: float, bound: float, softer: float, higher: bool
) -> None:
    def decided(width: float, bound: float) -> str:
        return decide_interval(centre - width, centre + width, bound, higher)

    soft = bound - softer if higher else bound + softer
    assert RANK[decided(width, bound)] <= RANK[decided(width, soft)]
    if decided(width, bound) != "inconclusive":
        assert decided(width / 2, bound) == decided(width, bound)


@given(st.sampled_from([0, 1, 2]), FIGURE, FIGURE, st.booleans())
def test_what_is_no_number_decides_nothing(place: int, one: float, other: float, higher: bool) -> None:
    low, high = sorted([one, other])
    low, high, bound = (math.nan if index == place else value for index, value in enumerate((low, high, one)))
    assert decide_interval(low, high, bound, higher) == "inconclusive"


def test_a_point_decides_only_where_the_rule_asks_for_it_and_says_so() -> None:
    found = Estimate(0.7, 0.6, 0.8, 0.95, 50, "any")
    sure, point = (Limit("accuracy", 0.7, 0.65, True, found, point=one) for one in (False, True))
    assert (sure.outcome, point.outcome) == ("inconclusive", "pass")
    assert "point figure" in point.words("") and "point figure" not in sure.words("")
    assert point.evidence()["point"] is True and "point" not in sure.evidence()
    assert sure.more_examples is not None and point.more_examples is None
    bare = Limit("speed_ratio", 2.0, 1.0, True)
    assert bare.outcome == "inconclusive" and "no interval" in bare.words("tunegate evaluate CONFIG")
    assert Limit("accuracy", None, 0.5, True, found, point=True).outcome == "inconclusive"


def test_a_confidence_is_said_as_it_is() -> None:
    assert [percent(one) for one in (0.95, 0.9, 0.9747, 0.999)] == ["95%", "90%", "97.47%", "99.9%"]


@given(FIGURE, FIGURE, st.booleans())
def test_a_difference_is_shown_only_by_an_interval_that_leaves_0_out(one: float, other: float, higher: bool) -> None:
    low, high = sorted([one, other])
    found = shown(low, high, higher)
    assert (found == "unclear") == (low <= 0 <= high)
    assert shown(low, high, None) == ("unclear" if found == "unclear" else "different")
    assert found == "unclear" or (found == "better") == ((low > 0) == higher)
