"""Means and figures of a whole set: scipy's own intervals, seeded, and never a proof out of no spread."""

from __future__ import annotations

from collections.abc import Callable

import numpy
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.statistics import bootstrap
from eval.statistics.bootstrap import compare_figures, compare_means, estimate_figure, estimate_mean, mean_interval

pytestmark = pytest.mark.unit
VALUES = st.lists(st.floats(0, 1, width=32), min_size=2, max_size=40)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "DRAWS", 499)
    monkeypatch.setattr(bootstrap, "FIGURE_DRAWS", 199)


def test_two_hundred_random_means_have_scipys_interval_and_p() -> None:
    from scipy.stats import bootstrap, permutation_test

    random = numpy.random.default_rng(5)
    for _ in range(200):
        one, other = random.exponential(size=(2, int(random.integers(5, 60))))
        found = compare_means(one, other, 0.9, 0.0, 1.0)
        peer = bootstrap(
            (one - other,), numpy.mean, n_resamples=499, method="BCa", confidence_level=0.9, rng=17
        ).confidence_interval
        assert (found.low, found.high) == pytest.approx((peer.low, peer.high))
        test = permutation_test(
            (one - other,), lambda x, axis: x.mean(axis=axis), permutation_type="samples", n_resamples=499, rng=17
        )
        assert found.p_value == pytest.approx(test.pvalue, abs=0.1)


@settings(max_examples=25)
@given(VALUES, st.data())
def test_a_comparison_is_repeatable_and_turns_round(mine: list[float], data: st.DataObject) -> None:
    theirs = numpy.array(data.draw(st.lists(st.floats(0, 1, width=32), min_size=len(mine), max_size=len(mine))))
    one = numpy.array(mine)
    found, again, back = (
        compare_means(*sides, 0.95, 0.0, 1.0) for sides in ((one, theirs), (one, theirs), (theirs, one))
    )
    assert found == again
    assert back.difference == pytest.approx(-found.difference) and back.deviation == pytest.approx(found.deviation)
    assert found.low <= found.difference + 1e-9 and found.difference <= found.high + 1e-9 and 0 < found.p_value <= 1


@given(st.integers(2, 5000), st.floats(-1, 1))
def test_values_all_alike_keep_a_width_that_shrinks_with_their_number(n: int, value: float) -> None:
    low, high, method = mean_interval(numpy.full(n, value), 0.95, 1.0)
    width = 3.8415 / (n + 3.8415)
    assert (high - value, value - low) == pytest.approx((width, width), abs=1e-4) and "no spread" in method


def test_one_example_has_no_mean_to_speak_of() -> None:
    one = numpy.array([0.5])
    for attempt in (lambda: compare_means(one, one, 0.95, 0.0, 1.0), lambda: estimate_mean(one, 0.95, 0.0, 1.0)):
        with pytest.raises(ValueError, match="one example"):
            attempt()


def test_beyond_the_limit_of_bca_the_interval_is_students() -> None:
    values = numpy.random.default_rng(1).random(bootstrap.BCA_LIMIT + 1)
    low, high, method = mean_interval(values, 0.95, 1.0)
    assert method == "Student's t interval" and low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / len(values) ** 0.5, rel=0.01)


def largest(frame: pandas.DataFrame) -> float:
    return float(frame["x"].quantile(0.75))


def test_a_figure_of_the_whole_set_is_resampled_on_both_sides_together() -> None:
    random = numpy.random.default_rng(2)
    theirs = pandas.DataFrame({"x": random.random(200) * 10})
    shifted = compare_figures(largest, theirs + 0.5, theirs, 0.95, 0.0, 1.0)
    assert shifted.low == pytest.approx(0.5, abs=0.06) and shifted.high == pytest.approx(0.5, abs=0.06), (
        "the same rows are drawn on both sides"
    )
    assert shifted.p_value <= 0.02 and shifted.p_below == 1.0 and shifted.p_above <= 0.01
    assert (
        estimate_figure(largest, theirs, 0.95, 0.0, 1.0).high - estimate_figure(largest, theirs, 0.95, 0.0, 1.0).low
        > 0.5
    )


@pytest.mark.parametrize(
    "figure", [lambda frame: float("nan"), lambda frame: float("nan") if frame["x"].nunique() < 20 else 1.0]
)
def test_a_figure_that_is_often_undefined_is_refused(figure: Callable[[pandas.DataFrame], float]) -> None:
    frame = pandas.DataFrame({"x": range(20)})
    with pytest.raises(ValueError, match="undefined"):
        compare_figures(figure, frame, frame, 0.95, 0.0, 1.0)
