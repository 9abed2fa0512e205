"""What a comparison could have seen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.eval.statistics import advice_decides
from eval.statistics.power import (
    LIMIT,
    POWER,
    chance_of_outcomes,
    chance_to_clear,
    discordance,
    effect_of_means,
    effect_of_outcomes,
    more_examples,
    power_of_outcomes,
    power_to_pass,
)

pytestmark = pytest.mark.unit
SHARE, SIZE = st.floats(0.02, 1.0), st.integers(30, 3000)


@given(SHARE, SIZE, st.floats(0.6, 0.99))
def test_the_printed_effect_has_the_stated_power_and_a_larger_one_more(
    discordant: float, n: int, confidence: float
) -> None:
    effect = effect_of_outcomes(discordant, n, confidence)
    if effect is None:
        assert power_of_outcomes(discordant, discordant, n, confidence) < POWER
        return
    assert 0 < effect <= discordant
    assert power_of_outcomes(effect, discordant, n, confidence) == pytest.approx(POWER, abs=0.005)
    assert power_of_outcomes(effect / 2, discordant, n, confidence) < POWER


@given(st.floats(0.01, 10), st.integers(3, 5000))
def test_the_effect_of_a_mean_is_that_of_statsmodels_in_its_unit(deviation: float, n: int) -> None:
    from statsmodels.stats.power import TTestPower

    effect = effect_of_means(deviation, n, 0.95)
    assert effect is not None and TTestPower().power(effect / deviation, n, 0.05) == pytest.approx(POWER, abs=1e-3)


@given(st.floats(0.005, 0.5), st.floats(0.05, 1.0), st.integers(2, 5000))
def test_the_further_examples_asked_for_bring_the_power(distance: float, deviation: float, n: int) -> None:
    more = more_examples(distance, deviation, n, 0.95)
    assert more is not None and more >= 1
    power = power_to_pass(distance, deviation, n + more, 0.95)
    assert power is not None and power >= POWER - 1e-6
    assert more == 1 or (power_to_pass(distance, deviation, n + more - 2, 0.95) or 0) < POWER


def test_sixty_equal_rows_do_not_need_one_more_for_a_margin_of_a_twentieth() -> None:
    """At 60 no outcome passes; 73 alike would, and some would differ."""
    assert chance_of_outcomes(0.0, 0.0, 60, -0.05, 0.95) == 0 < chance_of_outcomes(0.0, 0.0, 73, -0.05, 0.95)
    more = more_examples(0.05, 0.127, 60, 0.95, pairs=(0, 0))
    assert more is not None and 40 < more < 100
    by_scale = more_examples(0.05, 0.127, 60, 0.95, scale=1.0)
    assert by_scale is not None and 13 < by_scale < 100
    assert more_examples(5.0, 12.7, 60, 0.95, scale=100.0) == by_scale, "in any unit"
    power = power_to_pass(0.05, 0.127, 60, 0.95, pairs=(0, 0))
    assert power is not None and power < 0.5


def test_what_was_advised_decides_in_four_cases_of_five() -> None:
    found = advice_decides(2000)
    assert found["lowest"] >= 0.74 and found["highest"] <= 0.9 and len(found["settings"]) >= 5


@given(st.floats(0.0, 0.3), st.floats(0.0, 0.3), st.integers(50, 400), st.floats(0.01, 0.2))
def test_the_chance_of_outcomes_falls_with_what_is_lost(gained: float, lost: float, n: int, margin: float) -> None:
    chance = chance_of_outcomes(gained, lost, n, -margin, 0.95)
    assert 0 <= chance <= 1 + 1e-9
    if n * (gained + lost + 0.1) < 60:
        assert chance_of_outcomes(gained, lost + 0.1, n, -margin, 0.95) <= chance + 1e-9


@given(st.floats(0.01, 0.3), st.integers(20, 4000))
def test_where_nothing_differs_the_width_of_nothing_seen_is_to_be_cleared(distance: float, n: int) -> None:
    alike = 3.8415 / (n + 3.8415)
    assert (chance_to_clear(distance, 1e-6, n, 0.95, 1.0) > 0.5) == (distance > alike) or abs(distance - alike) < 1e-5


def test_where_nothing_would_decide_nothing_is_promised() -> None:
    assert more_examples(0.0, 0.5, 100, 0.95) is None and more_examples(1e-7, 0.5, 100, 0.95) is None and LIMIT > 1e6
    assert effect_of_means(0.0, 100, 0.95) is None and power_to_pass(0.1, 0.0, 10, 0.95) is None
    assert discordance(0, 0, 98) == 0.01 and effect_of_outcomes(discordance(0, 0, 8), 8, 0.95) is None
