"""The bound of a mean of bounded values: held at every n, in any order, in clusters; better values never lower it."""

from __future__ import annotations

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.statistics.means import bounds_of_mean, chance_above, chance_of_less, p_of_mean

pytestmark = pytest.mark.unit
VALUES = st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=40)
UNIT = (-1.0, 1.0)


def bounds(values: list[float], confidence: float = 0.95) -> tuple[float, float]:
    return bounds_of_mean(numpy.sort(values), numpy.ones(len(values)), UNIT, confidence)


@pytest.mark.parametrize(("right", "n"), [(1, 2), (2, 2), (3, 5), (18, 20), (1, 100), (250, 300)])
def test_of_right_and_wrong_it_is_clopper_and_pearsons(right: int, n: int) -> None:
    from scipy.stats import binomtest

    exact = binomtest(right, n).proportion_ci(0.95)
    found = bounds_of_mean(numpy.repeat([0.0, 1.0], [n - right, right]), numpy.ones(n), (0.0, 1.0), 0.95)
    assert found == pytest.approx((exact.low, exact.high), abs=0.003)


@pytest.mark.parametrize("weights", [[-1, 0.5, 0.01], [-1, 0.3], [-1, 0.2, 0.2, 0.3, -0.1], [-1] + [0.02] * 60])
def test_the_chance_is_that_of_drawn_exponentials(weights: list[float]) -> None:
    drawn = numpy.random.default_rng(1).standard_exponential((400_000, len(weights))) @ numpy.array(weights)
    assert float(chance_above(numpy.array(weights))) == pytest.approx((drawn > 0).mean(), abs=0.005)


@pytest.mark.parametrize("tiny", [5e-324, 1e-310, 1e-13])
def test_a_value_that_all_but_touches_the_bound_overflows_nothing(tiny: float) -> None:
    with numpy.errstate(over="raise", divide="raise", invalid="raise"):
        found = [float(chance_above(numpy.array(weights))) for weights in ([-1.0, tiny], [1.0, -tiny])]
    assert found == pytest.approx([0.0, 1.0], abs=1e-6)


def test_a_chance_of_none_and_one_of_all() -> None:
    assert chance_above(numpy.array([[-1.0, 0.0], [1.0, 0.0], [-2.0, 2.0]])) == pytest.approx([0.0, 1.0, 0.5])


@settings(max_examples=50)
@given(VALUES, st.floats(0.6, 0.99), st.floats(0.6, 0.99))
def test_the_interval_holds_the_mean_mirrors_and_widens_with_confidence(
    values: list[float], one: float, other: float
) -> None:
    (low, high), (lower, higher) = (bounds(values, confidence) for confidence in sorted([one, other]))
    assert -1 <= lower <= low + 1e-6 and low <= numpy.mean(values) + 1e-9
    assert high <= higher + 1e-6 and higher <= 1 and high >= numpy.mean(values) - 1e-9
    assert bounds([-value for value in values], max(one, other)) == pytest.approx((-higher, -lower), abs=1e-6)


@settings(max_examples=50)
@given(VALUES, st.data())
def test_a_worse_value_never_raises_an_end(values: list[float], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(values) - 1))
    worse = [*values[:place], data.draw(st.floats(-1, values[place])), *values[place + 1 :]]
    assert bounds(worse)[0] <= bounds(values)[0] + 1e-6 and bounds(worse)[1] <= bounds(values)[1] + 1e-6


@pytest.mark.parametrize("n", [2, 3, 20, 60, 500])
def test_nearly_alike_is_never_narrower_than_exactly_alike(n: int) -> None:
    alike = bounds([0.0] * n)
    assert alike[0] == pytest.approx(-(1 - 0.025 ** (1 / n)), rel=0.02), "what nobody saw may weigh as much"
    for change in (-1e-9, -1e-5, -1e-2, -1.0):
        assert bounds([change] + [0.0] * (n - 1))[0] <= alike[0]
    assert bounds([0.01, -0.01] + [0.0] * (n - 2))[0] <= alike[0]


def test_what_all_lies_at_the_end_of_the_range_has_nothing_beyond() -> None:
    assert bounds([-1.0, -1.0, -1.0]) == (-1.0, pytest.approx(2 * (1 - 0.025 ** (1 / 3)) - 1, abs=0.01))
    assert bounds([1.0, 1.0])[1] == 1.0


def test_rows_that_share_a_document_count_as_one() -> None:
    """Ten rows of each of 50 documents, alike within it: as wide as 50 rows."""
    documents = numpy.sort(numpy.random.default_rng(3).uniform(-0.5, 0.5, 50))
    alone = bounds_of_mean(documents, numpy.ones(50), UNIT, 0.95)
    assert bounds_of_mean(10 * documents, numpy.full(50, 10.0), UNIT, 0.95) == pytest.approx(alone)


@given(VALUES, st.floats(-0.99, 0.99))
def test_the_interval_leaves_out_what_p_refuses(values: list[float], bound: float) -> None:
    sums, sizes = numpy.sort(values), numpy.ones(len(values))
    low, high = bounds_of_mean(sums, sizes, UNIT, 0.95)
    below, above = p_of_mean(sums, sizes, UNIT, bound)
    assert (above < 0.025) == (bound < low) or abs(bound - low) < 1e-5
    assert (below < 0.025) == (bound > high) or abs(bound - high) < 1e-5


@pytest.mark.parametrize("n", [2, 3, 5, 12])
@pytest.mark.parametrize("shape", [(0.1, 0.4), (1.0, 5.0), (0.2, 0.05), (5.0, 1.0)])
def test_few_values_of_any_shape_are_passed_falsely_no_oftener_than_stated(n: int, shape: tuple[float, float]) -> None:
    """Beta values, skewed either way: their own mean is refused in 2.5% of 4,000 samples at most."""
    values = numpy.random.default_rng([n, 7]).beta(*shape, size=(4000, n))
    refused = chance_of_less(values, numpy.ones(values.shape), 0.0, shape[0] / sum(shape)) < 0.025
    assert refused.mean() <= 0.025 + 4 * (0.025 * 0.975 / 4000) ** 0.5


def test_a_hundred_thousand_values_take_less_than_a_second_of_a_core() -> None:
    import time

    values, started = numpy.sort(numpy.random.default_rng(1).random(100_000)) - 0.5, time.process_time()
    low, high = bounds_of_mean(values, numpy.ones(100_000), UNIT, 0.95)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 100_000**0.5, rel=0.02)
    assert time.process_time() - started < 2, "one second on an idle machine"
