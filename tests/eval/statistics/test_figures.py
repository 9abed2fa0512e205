"""Figures of the whole set, weighed: equal weights give the metric itself, and no spread is no proof."""

from __future__ import annotations

import math

import numpy
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.run.metrics import METRICS, REPORTED
from eval.metrics.aggregate import figure
from eval.statistics.by_metric import compare, estimate
from eval.statistics.figures import DRAWS, LEAST, quantile, tail_of
from eval.statistics.weighted import weighted
from tests.support.frames import FRAMES, frame_of

pytestmark = pytest.mark.unit
WHOLE = [
    (kind, name)
    for kind in FRAMES
    for name in (*REPORTED[kind], *(("f1:b", "precision:b") if kind in ("label", "labels") else ()))
    if METRICS[name.partition(":")[0]].per_example is None
]


@pytest.mark.parametrize(("kind", "name"), WHOLE)
def test_equal_weights_give_the_figure_and_whole_ones_that_of_repeated_rows(kind: str, name: str) -> None:
    frame = frame_of(kind, 60)
    if name == "expected_calibration_error":
        return
    found = weighted(name, frame)
    assert float(found.weigh(numpy.ones((1, 60)))[0]) == pytest.approx(figure(name, frame))
    times = numpy.random.default_rng(1).multinomial(60, [1 / 60] * 60)
    again = figure(name, frame.loc[frame.index.repeat(times)].reset_index(drop=True))
    assert found.weigh(times[None].astype(float))[0] == pytest.approx(again, rel=1e-6) and numpy.max(found.effect) > 0


@pytest.mark.parametrize(("kind", "name"), WHOLE)
def test_every_figure_has_an_interval_within_its_range_and_of_two_alike_one_around_0(kind: str, name: str) -> None:
    frame, (least, most) = frame_of(kind, 80), METRICS[name.partition(":")[0]].value_range
    found = estimate(name, frame, 0.95, figure(name, frame))
    assert least <= found.low < found.value < found.high <= most or name == "expected_calibration_error"
    assert min(found.p_below, found.p_above) > 0.025
    alike = compare(name, frame, frame, 0.95)
    assert alike.low < 0 < alike.high and alike.difference == 0 and alike.p_value == 1.0


@pytest.mark.parametrize("name", ["macro_f1", "bleu", "roc_auc", "entity_f1"])
def test_one_row_that_differs_is_not_narrower_than_none(name: str) -> None:
    kind = next(kind for kind, one in WHOLE if one == name)
    frame, worse = frame_of(kind, 120), frame_of(kind, 120, spoilt=1)
    assert figure(name, worse) < figure(name, frame)
    assert compare(name, worse, frame, 0.95).low <= compare(name, frame, frame, 0.95).low


def test_equal_releases_pass_a_margin_of_a_twentieth_at_five_hundred_rows() -> None:
    frame = frame_of("label", 500)
    assert compare("macro_f1", frame, frame, 0.95).low > -0.05


def test_too_few_rows_or_clusters_have_no_interval() -> None:
    frame = frame_of("label", LEAST - 1)
    with pytest.raises(ValueError, match=f"19 examples, fewer than {LEAST}"):
        estimate("macro_f1", frame, 0.95)
    frame = frame_of("label", 100)
    with pytest.raises(ValueError, match="10 clusters"):
        compare("macro_f1", frame.assign(cluster=numpy.arange(100) // 10), frame, 0.95)


def test_what_no_row_could_change_is_no_evidence() -> None:
    """BLEU of answers shorter than four words is 0 whatever they say."""
    rows = pandas.DataFrame({"id": range(60), "bleu_statistics": [[2, 2, 1, 0, 0, 0, 2, 1, 0, 0]] * 60})
    with pytest.raises(ValueError, match="no example could change it"):
        compare("bleu", rows, rows, 0.95)


def test_a_mean_over_labels_is_not_judged_by_rows_that_lack_one_of_them() -> None:
    """Found: a label of 3% of the rows, half of it lost, passed at 50 rows in 22% of draws: those without it."""
    frame = frame_of("label", 300)
    without = frame[(frame["gold"] != "c") & (frame["answer"] != "c")]
    for rows, most in ((frame, 0.1), (without.assign(probabilities=None), 0.1)):
        found = compare("macro_f1", rows, rows, 0.95)
        assert found.high - found.low < most
    assert compare("macro_f1", without, without, 0.95).low < -0.8
    assert estimate("macro_f1", without, 0.95).value == pytest.approx(figure("macro_f1", without))


def test_clusters_widen_the_interval_of_a_figure() -> None:
    frame = frame_of("label", 50)
    rows = frame.loc[frame.index.repeat(10)].assign(id=range(500)).reset_index(drop=True)
    alone, shared = (
        estimate("macro_f1", one, 0.95) for one in (rows, rows.assign(cluster=numpy.repeat(range(50), 10)))
    )
    assert shared.high - shared.low > 2.5 * (alone.high - alone.low)


@settings(max_examples=20)
@given(st.integers(0, 59), st.integers(0, 59))
def test_micro_f1_of_rows_of_one_label_says_what_accuracy_says(one: int, other: int) -> None:
    mine, theirs = frame_of("label", 60, spoilt=one), frame_of("label", 60, spoilt=other)
    for name in ("micro_f1", "micro_precision", "micro_recall"):
        assert compare(name, mine, theirs, 0.95, 0.05) == compare("accuracy", mine, theirs, 0.95, 0.05)
        assert estimate(name, mine, 0.95, 0.5) == estimate("accuracy", mine, 0.95, 0.5)


@pytest.mark.parametrize("kind", ["label", "labels"])
def test_the_recall_of_a_label_is_a_share_of_its_rows(kind: str) -> None:
    mine, theirs = frame_of(kind, 300), frame_of(kind, 300, spoilt=20)
    found, single = compare("recall:b", theirs, mine, 0.95), estimate("recall:b", mine, 0.95, 0.5)
    assert found.difference == pytest.approx(figure("recall:b", theirs) - figure("recall:b", mine))
    assert "Tango" in found.method and found.n < 300 and single.value == pytest.approx(figure("recall:b", mine))
    with pytest.raises(ValueError, match="no example has the label z"):
        estimate("recall:z", mine, 0.95)


def test_a_true_calibration_error_of_0_lies_in_the_interval() -> None:
    """Outcomes drawn by the stated confidence: the plain error is above 0 in every set."""
    held = 0
    for number in range(40):
        random = numpy.random.default_rng(number)
        sure = random.uniform(0.5, 1, 300)
        frame = pandas.DataFrame(
            {"id": range(300), "confidence": sure, "correct": (random.random(300) < sure).astype(float)}
        )
        found = estimate("expected_calibration_error", frame, 0.95, 0.2)
        assert found.value > 0.01 and found.high < 0.2 and found.p_below < 0.025
        held += found.low == 0
        if not number:
            alike = compare("expected_calibration_error", frame, frame, 0.95)
            assert -0.03 < alike.low < 0 < alike.high < 0.03
    assert held >= 38


@given(st.integers(0, 10_000), st.floats(0.00001, 0.2))
def test_a_tail_beyond_the_draws_goes_on_as_the_normal_does(seed: int, tail: float) -> None:
    drawn = numpy.random.default_rng(seed).normal(size=DRAWS)
    end = quantile(drawn, tail)
    assert tail_of(drawn, end) == pytest.approx(tail, rel=0.1, abs=1.1 / DRAWS) and 0 < tail_of(drawn, -50) < 1e-9
    assert quantile(drawn, tail / 2) < end


def test_an_undefined_figure_is_refused() -> None:
    frame = frame_of("label", 60).assign(gold="a")
    with pytest.raises(ValueError, match="undefined"):
        estimate("roc_auc", frame, 0.95)
    assert math.isnan(figure("roc_auc", frame))
