"""Arrays of values, compared by their kind: whatever values came, in any order, with clusters."""

from __future__ import annotations

import math

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.statistics.comparison import TooFewError
from eval.statistics.values import LEAST_UNBOUNDED, TANGO_FROM, compare_values, estimate_values

pytestmark = pytest.mark.unit
REAL = (-math.inf, math.inf)


def test_the_kind_says_the_method_not_the_values_that_came() -> None:
    """Scores that happen to be all 0 and 1 are scores none the less."""
    ones = numpy.repeat([0.0, 1.0], [40, 60])
    assert "Tango" in compare_values(ones, ones, kind="binary").method
    assert "Tango" not in compare_values(ones, ones, kind="bounded").method
    nearly = ones.copy()
    nearly[0] = 1e-9
    assert compare_values(ones, nearly, kind="bounded").method == compare_values(ones, ones, kind="bounded").method
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        compare_values(ones, nearly, kind="binary")


def test_few_outcomes_are_compared_by_the_bound_that_is_held_there() -> None:
    few = numpy.ones(TANGO_FROM - 1)
    assert "Learned-Miller" in compare_values(few, few, kind="binary").method
    two = compare_values(numpy.ones(2), numpy.zeros(2), kind="binary")
    assert (two.gained, two.lost) == (2, 0) and two.low < 0


@settings(max_examples=25)
@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=30), st.randoms(use_true_random=False))
def test_no_order_of_the_rows_changes_a_figure(values: list[float], random: object) -> None:
    mine, theirs = numpy.array(values), numpy.array(values[::-1])
    clusters = numpy.arange(len(values)) // 2
    order = numpy.array(random.sample(range(len(values)), len(values)))  # type: ignore[attr-defined]
    found = compare_values(mine, theirs, clusters, bound=-0.1)
    again = compare_values(mine[order], theirs[order], clusters[order], bound=-0.1)
    assert (again.low, again.high, again.p_value) == pytest.approx((found.low, found.high, found.p_value), abs=1e-9)
    back = compare_values(theirs, mine, clusters, bound=0.1)
    assert (back.low, back.p_above) == pytest.approx((-found.high, found.p_below), abs=1e-6)


@pytest.mark.parametrize("kind", ["binary", "bounded"])
def test_equal_releases_pass_a_margin_of_a_twentieth_at_five_hundred_rows(kind: str) -> None:
    right = numpy.repeat([0.0, 1.0], [50, 450])
    found = compare_values(right, right, kind=kind, bound=-0.05)  # type: ignore[arg-type]
    assert -0.05 < found.low <= 0 <= found.high and found.p_value == 1.0 and found.p_above < 0.025


def test_rows_of_one_document_widen_the_interval_and_each_alone_does_not() -> None:
    random = numpy.random.default_rng(4)
    mine = numpy.repeat(random.random(50) > 0.3, 10).astype(float)
    theirs = numpy.ones(500)
    alone, named = (compare_values(mine, theirs, one, "binary") for one in (None, numpy.arange(500)))
    shared = compare_values(mine, theirs, numpy.repeat(numpy.arange(50), 10), "binary")
    assert named == alone and "50 clusters" in shared.method
    assert shared.high - shared.low > 2.5 * (alone.high - alone.low)
    assert shared.deviation > 2.5 * alone.deviation, "so that power and further examples count documents"


def test_the_range_is_the_metrics_and_never_assumed_to_be_one() -> None:
    values = numpy.full(60, 50.0)
    hundred = compare_values(values, values, value_range=(0.0, 100.0))
    assert hundred.high == pytest.approx(100 * compare_values(values / 100, values / 100).high, rel=1e-3)
    with pytest.raises(ValueError, match="beyond the metric's range"):
        compare_values(values, values)


def test_without_a_range_there_is_an_interval_of_enough_examples_only() -> None:
    losses = numpy.random.default_rng(2).exponential(size=LEAST_UNBOUNDED)
    found = compare_values(losses, losses, kind="unbounded", value_range=(0.0, math.inf))
    assert found.high == pytest.approx(losses.max() * (1 - 0.025 ** (1 / LEAST_UNBOUNDED)), rel=0.03)
    with pytest.raises(TooFewError, match="fewer than 100"):
        estimate_values(losses, kind="unbounded", value_range=(0.0, math.inf))
    for values, word in ((losses[1:], "fewer than 50"), (numpy.ones(200), "all values are alike")):
        with pytest.raises(ValueError, match=word):
            compare_values(values, values, kind="unbounded", value_range=REAL)


@pytest.mark.parametrize(
    ("values", "word"),
    [([], "no examples"), ([0.5, math.nan], "not a finite number in 1"), ([0.5, math.inf], "1 exam")],
)
def test_what_is_no_number_has_no_interval(values: list[float], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        estimate_values(values)
    with pytest.raises(ValueError, match=word):
        compare_values(values, values)


def test_a_mean_has_an_interval_and_a_p_on_either_side() -> None:
    found = estimate_values(numpy.random.default_rng(1).beta(8, 2, 200), bound=0.7)
    assert found.low < found.value < found.high and found.low > 0.7 and found.p_above < 0.025 < found.p_below
    binary = estimate_values(numpy.ones(200), kind="binary", bound=0.99)
    assert binary.method.startswith("Clopper") and binary.low < 0.99 and binary.p_above > 0.025
    assert "20 clusters" in estimate_values(numpy.ones(200), numpy.arange(200) // 10, "binary").method


def test_pairs_are_counted_the_better_first_and_not_where_rows_hang_together() -> None:
    mine, theirs = numpy.repeat([1.0, 0.0, 1.0], [3, 2, 95]), numpy.repeat([0.0, 1.0, 1.0], [3, 2, 95])
    found = compare_values(mine, theirs, kind="binary")
    assert found.pairs(True) == (3, 2) and found.pairs(False) == (2, 3) and found.clusters is None
    shared = compare_values(mine, theirs, numpy.arange(100) // 5, "binary")
    assert shared.pairs(True) is None and (shared.gained, shared.lost, shared.clusters) == (3, 2, 20)


@pytest.mark.parametrize("kind", ["binary", "bounded"])
def test_no_evidence_is_so_strong_that_p_is_0(kind: str) -> None:
    ones, none = numpy.ones(3000), numpy.zeros(3000)
    found = compare_values(ones, none, kind=kind, bound=-0.9)  # type: ignore[arg-type]
    single = estimate_values(ones, kind=kind, bound=0.1)  # type: ignore[arg-type]
    assert 0 < found.p_above < 1e-100 and found.p_below == pytest.approx(1) and 0 < found.p_value < 1e-100
    assert 0 < single.p_above < 1e-100


@pytest.mark.parametrize("n", [100, 300])
def test_a_skewed_loss_is_passed_falsely_no_oftener_than_stated(n: int) -> None:
    """Nine in ten near 0, the tenth thirty times as large: held against a maximum that is its own mean."""
    random = numpy.random.default_rng(n)
    passed = 0
    for _ in range(400):
        losses = numpy.where(random.random(n) < 0.1, random.exponential(3, n), random.exponential(0.1, n))
        passed += estimate_values(losses, None, "unbounded", (0.0, math.inf), bound=0.39).p_below < 0.025
    assert passed <= 0.025 * 400 + 4 * (400 * 0.025 * 0.975) ** 0.5
