"""What a comparison could have seen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.statistics.power import LIMIT, POWER, discordance, effect_of_means, effect_of_outcomes, more_examples, power_of_outcomes, power_to_pass

pytestmark = pytest.mark.unit
SHARE, SIZE = st.floats(0.02, 1.0), st.integers(30, 3000)


@given(SHARE, SIZE, st.floats(0.6, 0.99))
def test_the_printed_effect_has_the_stated_power_and_a_larger_one_more(discordant: float, n: int, confidence: float) -> None:
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


def test_where_nothing_would_decide_nothing_is_promised() -> None:
    assert more_examples(0.0, 0.5, 100, 0.95) is None and more_examples(1e-7, 0.5, 100, 0.95) is None and LIMIT > 1e6
    assert effect_of_means(0.0, 100, 0.95) is None and power_to_pass(0.1, 0.0, 10, 0.95) is None
    assert discordance(0, 0, 98) == 0.01 and effect_of_outcomes(discordance(0, 0, 8), 8, 0.95) is None
