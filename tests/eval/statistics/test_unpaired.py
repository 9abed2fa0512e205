"""Unpaired intervals: they hold the truth as often as they say, for rare failures and few requests above all."""

from __future__ import annotations

import numpy
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eval.statistics.unpaired import clopper_pearson, mean_difference, share_difference

pytestmark = pytest.mark.unit
CONFIDENCE = st.floats(0.5, 0.9999)


@given(st.integers(1, 300), st.integers(1, 300), st.data(), CONFIDENCE)
def test_a_difference_lies_in_its_interval_and_swaps_its_sign(
    n: int, other_n: int, data: st.DataObject, confidence: float
) -> None:
    count, other = data.draw(st.integers(0, n)), data.draw(st.integers(0, other_n))
    low, high = share_difference(count, n, other, other_n, confidence)
    assert -1 <= low <= count / n - other / other_n <= high <= 1
    assert share_difference(other, other_n, count, n, confidence) == pytest.approx((-high, -low))


@pytest.mark.parametrize(
    ("count", "n", "low", "high"),
    [(0, 10, 0.0, 0.308), (1, 10, 0.0025, 0.445), (10, 10, 0.692, 1.0), (8, 100, 0.035, 0.152)],
)
def test_exact_bounds_are_those_of_clopper_and_pearson(count: int, n: int, low: float, high: float) -> None:
    assert clopper_pearson(count, n, 0.95) == pytest.approx((low, high), abs=0.001)


@pytest.mark.parametrize(("share", "n", "other_n"), [(0.01, 20, 1000), (0.02, 50, 50), (0.2, 30, 200)])
def test_two_alike_are_called_different_no_oftener_than_stated(share: float, n: int, other_n: int) -> None:
    """One-sided 1% of 3,000 draws; a normal score test goes far beyond that with 20 requests."""
    generator = numpy.random.default_rng(5)
    pairs = list(
        zip(generator.binomial(n, share, 3000).tolist(), generator.binomial(other_n, share, 3000).tolist(), strict=True)
    )
    called = {pair: share_difference(pair[0], n, pair[1], other_n, 0.98)[0] > 0 for pair in set(pairs)}
    assert sum(called[pair] for pair in pairs) / 3000 <= 0.01


def test_a_mean_interval_is_welchs_own() -> None:
    from scipy.stats import ttest_ind

    generator = numpy.random.default_rng(2)
    one, other = generator.normal(5, 2, 30), generator.normal(4, 1, 70)
    expected = ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    found = mean_difference(one.mean(), one.var(ddof=1), 30, other.mean(), other.var(ddof=1), 70, 1.0, 0.95)
    assert found == pytest.approx((expected.low, expected.high))


@given(st.floats(0.1, 10), st.floats(0.1, 10), st.floats(0, 5), st.floats(0, 5), st.floats(1, 3), CONFIDENCE)
@example(1.0, 1.0, 1e-170, 0.0, 1.0, 0.95)
def test_a_ratio_scales_the_other_side_and_no_spread_is_a_point(
    one: float, other: float, spread: float, other_spread: float, ratio: float, conf: float
) -> None:
    low, high = mean_difference(one, spread, 25, other, other_spread, 40, ratio, conf)
    assert low <= one - ratio * other <= high
    assert (low, high) == pytest.approx(
        mean_difference(one, spread, 25, ratio * other, ratio**2 * other_spread, 40, 1.0, conf)
    )
    assert mean_difference(one, 0, 9, other, 0, 9, ratio, conf) == (one - ratio * other, one - ratio * other)
