"""What folds add to an interval: nothing where they agree, the corrected resampled t where they differ."""

from __future__ import annotations

import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from eval.statistics.comparison import LEAST_HELD_OUT as LEAST
from eval.statistics.comparison import Comparison, Estimate, TooFewError, widen_by_folds
from eval.statistics.values import compare_values, estimate_values

pytestmark = pytest.mark.unit
FIGURES = st.lists(st.floats(0, 1), min_size=2, max_size=10)


def share(right: int, n: int = 100, bound: float = 0.75) -> Estimate:
    return estimate_values([i < right for i in range(n)], None, "binary", bound=bound)


def difference(lost: int, n: int = 100) -> Comparison:
    return compare_values([i >= lost for i in range(n)], [True] * n, None, "binary", bound=-0.1)


@given(FIGURES)
def test_no_end_is_ever_nearer_and_no_p_smaller(figures: list[float]) -> None:
    alone = difference(4)
    found = widen_by_folds(alone, figures, (-1, 1), -0.1)
    assert -1 <= found.low <= alone.low and alone.high <= found.high <= 1
    assert found.p_below >= alone.p_below and found.p_above >= alone.p_above and found.p_value >= alone.p_value
    assert found.p_value <= 1 and found.deviation >= alone.deviation and found.difference == alone.difference


def test_folds_that_agree_leave_the_rows_own_interval() -> None:
    alone = share(80)
    found = widen_by_folds(alone, [0.8] * 5, (0, 1), 0.75)
    assert (found.low, found.high, found.p_above) == (alone.low, alone.high, alone.p_above)
    assert found.method.startswith(alone.method) and "5 folds" in found.method


def test_folds_that_differ_make_it_that_of_nadeau_and_bengio() -> None:
    figures = [0.6, 0.7, 0.8, 0.9, 1.0]
    found = widen_by_folds(share(80), figures, (0, 1), 0.75)
    error = math.sqrt(1 / 5 + 1 / 4) * numpy.std(figures, ddof=1)
    assert found.low == pytest.approx(0.8 - t.ppf(0.975, 4) * error) and found.high == 1, "no share lies above 1"
    assert found.p_above == pytest.approx(t.sf(0.05 / error, 4))
    compared = widen_by_folds(difference(20), [-one for one in figures], (-1, 1), -0.1)
    assert compared.pairs(True) is None, "pairs of rows are not independent: power goes by the deviation"


def test_an_end_on_the_bound_has_the_p_that_belongs_to_it() -> None:
    figures = [0.6, 0.7, 0.8, 0.9, 1.0]
    low = widen_by_folds(share(80), figures, (0, 1)).low
    assert widen_by_folds(share(80, bound=low), figures, (0, 1), low).p_above == pytest.approx(0.025)


def test_a_fold_without_a_figure_is_left_out_and_one_alone_says_nothing() -> None:
    kept = widen_by_folds(share(80), [0.7, math.nan, 0.9], (0, 1))
    assert kept.low == widen_by_folds(share(80), [0.7, 0.9], (0, 1)).low
    with pytest.raises(TooFewError, match="1 folds with a figure, fewer than 2"):
        widen_by_folds(share(80), [0.8, math.nan], (0, 1))
    with pytest.raises(TooFewError, match=f"{LEAST - 1} rows held out by folds, fewer than {LEAST}"):
        widen_by_folds(share(40, LEAST - 1), [0.8, 0.8], (0, 1))
