"""What further looks at the same test set cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.eval.statistics import looks
from eval.statistics.looks import confidence_at, confidence_of_each, share_of_alpha

pytestmark = pytest.mark.unit


def test_all_looks_together_spend_no_more_than_alpha() -> None:
    shares = [share_of_alpha(look) for look in range(1, 2000)]
    assert 0.999 < sum(shares) < 1 and shares == sorted(shares, reverse=True)


@given(st.floats(0.51, 0.999), st.integers(1, 100))
def test_each_look_is_harder_than_the_last_and_the_first_costs_a_fifth(confidence: float, look: int) -> None:
    assert confidence < confidence_at(confidence, look) < confidence_at(confidence, look + 1) < 1
    assert 1 - confidence_at(confidence, 1) == pytest.approx(0.8 * (1 - confidence))


def test_a_look_before_the_first_is_refused() -> None:
    with pytest.raises(ValueError, match="look 0"):
        confidence_at(0.95, 0)


def test_slices_share_what_may_err() -> None:
    assert confidence_of_each(0.95, 50) == pytest.approx(0.999) and confidence_of_each(0.95, 0) == 0.95


def test_six_looks_with_added_rows_pass_a_loss_of_the_margin_no_oftener_than_one() -> None:
    assert looks(4000) <= 0.025 < looks(4000, spent=False)
