"""Outcomes of 0 and 1 on the same examples: the score interval, McNemar's p and the exact interval, against references
and simulated truth."""

from __future__ import annotations

import math

import numpy
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from benchmarks.eval.statistics import coverage, false_pass_rate, power_matches, references
from eval.statistics.proportions import compare_outcomes, estimate_proportion, mcnemar_p
from eval.statistics.tango import score, tango_interval

pytestmark = pytest.mark.unit
COUNTS = st.integers(0, 60)
TABLES = st.tuples(COUNTS, COUNTS, COUNTS).filter(any)  # gained, lost, alike
CONFIDENCE = st.floats(0.51, 0.999)


def interval(table: tuple[int, int, int], confidence: float = 0.95) -> tuple[float, float]:
    low, high = tango_interval(table[0], table[1], sum(table), confidence)
    return float(low), float(high)


def arrays(table: tuple[int, int, int]) -> tuple[numpy.ndarray, numpy.ndarray]:
    gained, lost, alike = table
    return numpy.array([1.0] * gained + [0.0] * lost + [1.0] * alike), numpy.array(
        [0.0] * gained + [1.0] * lost + [1.0] * alike
    )


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ((12, 2, 36), (0.0569, 0.3404)),
        ((14, 0, 36), (0.1528, 0.4167)),
        ((97, 1, 2), (0.8721, 0.9854)),
        ((0, 0, 54), (-0.0664, 0.0664)),
    ],
)
def test_the_interval_lies_near_newcombes_published_ones(
    table: tuple[int, int, int], expected: tuple[float, float]
) -> None:
    """Newcombe 1998, table III, method 10: another method for the same tables, so within 0.025 of it and no nearer."""
    assert interval(table) == pytest.approx(expected, abs=0.025)


def test_no_pair_that_differs_leaves_the_width_of_the_score_interval() -> None:
    """z^2 / (n + z^2): Tango 1998, closed form for a table without discordant pairs."""
    z2 = 1.959964**2
    assert interval((0, 0, 100)) == pytest.approx((-z2 / (100 + z2), z2 / (100 + z2)), abs=1e-6)


@given(TABLES, CONFIDENCE)
def test_the_score_is_critical_at_both_ends(table: tuple[int, int, int], confidence: float) -> None:
    from scipy.stats import norm

    gained, lost, n = table[0], table[1], sum(table)
    critical = norm.ppf((1 + confidence) / 2)
    for end in interval(table, confidence):
        if abs(end) < 1 - 1e-6:
            assert abs(float(score(gained, lost, n, end))) == pytest.approx(critical, rel=1e-3)


@given(TABLES)
def test_without_a_difference_the_score_is_mcnemars(table: tuple[int, int, int]) -> None:
    gained, lost, _ = table
    if gained + lost:
        assert float(score(gained, lost, sum(table), 0.0)) == pytest.approx((gained - lost) / math.sqrt(gained + lost))


@given(TABLES, CONFIDENCE, CONFIDENCE)
def test_the_interval_holds_the_difference_mirrors_and_widens_with_confidence(
    table: tuple[int, int, int], one: float, other: float
) -> None:
    (low, high), (lower, higher) = (interval(table, confidence) for confidence in sorted([one, other]))
    difference = (table[0] - table[1]) / sum(table)
    assert -1 <= lower <= low + 1e-9 and low - 1e-9 <= difference <= high + 1e-9 and high <= higher + 1e-9 <= 1 + 2e-9
    assert high - low > 1e-5
    assert interval((table[1], table[0], table[2]), max(one, other)) == pytest.approx((-higher, -lower), abs=1e-9)


@given(TABLES.filter(lambda table: table[1] > 0))
def test_winning_a_lost_pair_never_lowers_either_end(table: tuple[int, int, int]) -> None:
    low, high = interval(table)
    better_low, better_high = interval((table[0] + 1, table[1] - 1, table[2]))
    assert better_low >= low - 1e-9 and better_high >= high - 1e-9


@given(COUNTS, COUNTS)
def test_mcnemar_is_the_exact_binomial_test(gained: int, lost: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(gained, gained + lost, 0.5).pvalue if gained + lost else 1.0
    assert mcnemar_p(gained, lost) == pytest.approx(expected) and 0 < mcnemar_p(gained, lost) <= 1


@given(TABLES)
@example((0, 0, 1))
def test_a_comparison_turned_round_is_the_same_with_other_signs(table: tuple[int, int, int]) -> None:
    mine, theirs = arrays(table)
    found, back = compare_outcomes(mine, theirs, 0.95, 0.0), compare_outcomes(theirs, mine, 0.95, 0.0)
    assert (found.gained, found.lost, found.n) == (*table[:2], sum(table)) == (back.lost, back.gained, back.n)
    assert (
        back.difference == -found.difference
        and back.p_value == found.p_value
        and found.p_below == pytest.approx(back.p_above)
    )
    assert found.minimum_detectable_effect == back.minimum_detectable_effect


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=80), st.floats(0.01, 0.99))
def test_a_share_has_the_exact_interval_and_the_binomial_p(outcomes: list[float], bound: float) -> None:
    from scipy.stats import binomtest

    found = estimate_proportion(numpy.array(outcomes), 0.95, bound)
    exact = binomtest(int(sum(outcomes)), len(outcomes)).proportion_ci(0.95, method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-9)
    for p_value, side in ((found.p_below, "less"), (found.p_above, "greater")):
        assert p_value == pytest.approx(
            binomtest(int(sum(outcomes)), len(outcomes), bound, alternative=side).pvalue  # type: ignore[arg-type]
        )
    assert (found.p_above < 0.025) == (found.low > bound) and (found.p_below < 0.025) == (found.high < bound)


@pytest.mark.parametrize("n", [2, 5, 20, 100])
def test_no_true_share_is_passed_oftener_than_stated(n: int) -> None:
    """By enumeration, at thresholds of every size."""
    from scipy.stats import binom

    lows = numpy.array([estimate_proportion(numpy.repeat([1.0, 0.0], [k, n - k]), 0.95, 0.5).low for k in range(n + 1)])
    for bound in (0.01, 0.1, 0.342, 0.5, 0.8, 0.95, 0.99):
        assert binom.pmf(numpy.arange(n + 1), n, bound)[lows > bound].sum() <= 0.025 + 1e-12


def test_two_hundred_random_cases_equal_the_libraries() -> None:
    found = references(200)
    assert found["cases"] == 200 and found["worst"] < 1e-9


def test_simulated_truth_lies_where_it_is_said_to() -> None:
    """Fewer draws than `make prove-eval`, so a wider allowance: 4 standard errors of 4,000 draws."""
    covered, passed, seen = coverage(4000), false_pass_rate(4000), power_matches(4000)
    assert covered["lowest"] >= 0.93 and covered["highest"] <= 0.97
    assert passed["highest"] <= 0.025 + 4 * math.sqrt(0.025 * 0.975 / 4000) and len(passed["settings"]) > 20
    assert seen["lowest"] >= 0.77 and seen["highest"] <= 0.83
