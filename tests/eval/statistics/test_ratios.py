"""The ratio of two means: turned round it is its own inverse, it hangs on no order, and it errs no oftener than it
says."""

from __future__ import annotations

import math
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.statistics.comparison import TooFewError
from eval.statistics.ratios import estimate_ratio

pytestmark = pytest.mark.unit
MOST = 96.0
PAIRS = st.lists(st.tuples(st.integers(1, 96), st.integers(1, 96)), min_size=8, max_size=30)


def ratio(mine: Any, theirs: Any, clusters: Any = None, confidence: float = 0.95) -> Any:
    return estimate_ratio(mine, theirs, clusters, "bounded", (0, MOST), confidence)


@given(PAIRS)
@settings(max_examples=15, deadline=None)
def test_turned_round_the_interval_is_the_inverse(pairs: list[tuple[int, int]]) -> None:
    mine, theirs = zip(*pairs, strict=True)
    found, turned = ratio(mine, theirs), ratio(theirs, mine)
    assert found.low <= found.value <= found.high and found.value == pytest.approx(sum(mine) / sum(theirs))
    assert turned.value == pytest.approx(1 / found.value)
    if found.low > 1e-3 and math.isfinite(found.high):
        assert (turned.low, turned.high) == pytest.approx((1 / found.high, 1 / found.low), rel=1e-2)
    again = ratio(mine[::-1], theirs[::-1])
    assert (again.low, again.high) == pytest.approx((found.low, found.high))


def test_no_difference_is_no_proof_and_more_rows_are_a_better_one() -> None:
    few, many = ([20.0] * n for n in (8, 400))
    assert ratio(few, few).low < 0.7 < 1.4 < ratio(few, few).high
    assert 0.9 < ratio(many, many).low < 1 < ratio(many, many).high < 1.1


def test_rows_that_share_something_tell_less() -> None:
    random = numpy.random.default_rng(3)
    theirs = random.uniform(10, 40, 20).repeat(5)
    mine, of_document = theirs * random.uniform(0.7, 1.3, 20).repeat(5), numpy.arange(20).repeat(5)
    alone, together = ratio(mine, theirs), ratio(mine, theirs, of_document)
    assert together.value == pytest.approx(alone.value)
    assert together.low < alone.low < alone.high < together.high


@pytest.mark.parametrize("shape", ["alike", "skewed", "rare"])
def test_a_ratio_of_exactly_the_bound_is_seldom_held_to_lie_within(shape: str) -> None:
    """True ratio 1.5, 12 rows: 150 draws, of which 2.5% may pass (8 of 150 is the 98th percentile of that)."""
    random, passed, n = numpy.random.default_rng(11), 0, 12
    for _ in range(150):
        theirs = random.uniform(10, 30, n)
        times = {
            "alike": lambda: random.uniform(1.3, 1.7, n),
            "skewed": lambda: 1 + random.exponential(0.5, n).clip(max=2.2),
            "rare": lambda: numpy.where(random.random(n) < 0.25, 3.0, 1.0),
        }[shape]()
        if shape == "skewed":  # what the clip takes away is given back
            times += 0.5 - 0.5 * (1 - math.exp(-4.4))
        passed += ratio(theirs * times, theirs).high <= 1.5
    assert passed <= 8


def test_what_has_no_ratio_says_so() -> None:
    with pytest.raises(ValueError, match="a mean of 0 or less"):
        ratio([1.0] * 8, [0.0] * 8)
    with pytest.raises(TooFewError, match="49 examples or clusters"):
        estimate_ratio([1.0] * 48 + [3.0], [1.0, 2.0] * 24 + [1.0])
    with pytest.raises(ValueError, match="2 examples beside 1"):
        ratio([1.0, 2.0], [1.0])
    nothing = ratio([0.0] * 8, [20.0] * 8)
    assert nothing.value == nothing.low == 0 < nothing.high
