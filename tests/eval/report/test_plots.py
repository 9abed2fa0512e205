"""Where marks stand on a plot, and what is counted into them."""

from __future__ import annotations

from typing import Any

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.verdict import RuleResult
from eval.metrics.classification import expected_calibration_error
from eval.report.plots import MOST_LABELS, Mark, calibration, confusion, forest, interval_plot, slices_plot
from tests.support import judged

pytestmark = pytest.mark.unit
NUMBERS = st.floats(-1e6, 1e6)


def rule(outcome: str = "pass", **evidence: Any) -> RuleResult:
    return RuleResult(rule="accuracy non-inferior", outcome=outcome, sentence="s", evidence=evidence)  # type: ignore[arg-type]


@given(
    st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS).map(sorted), min_size=1, max_size=6),
    NUMBERS,
    st.sampled_from(["at least", "at most"]),
    st.booleans(),
)
def test_marks_stand_on_the_plot_in_the_order_of_their_values(
    triples: list[list[float]], bound: float, direction: str, differences: bool
) -> None:
    plot = forest(
        [Mark("", "", point, low, high) for low, point, high in triples], bound, direction, differences, "alt"
    )
    assert plot is not None and plot.bound is not None and plot.allowed is not None
    places = (
        [(row.mark.low, row.low) for row in plot.rows]
        + [(row.mark.point, row.x) for row in plot.rows]
        + [(bound, plot.bound)]
    )
    places += [(0.0, plot.zero)] if differences else []
    ordered = [place for _, place in sorted(places)]  # type: ignore[type-var]
    assert all(place is not None and 0 <= place <= 100 for place in ordered) and ordered == sorted(ordered)  # type: ignore[type-var]
    left, width = plot.allowed
    assert (
        (left + width == pytest.approx(100) and left == plot.bound)
        if direction == "at least"
        else (left == 0 and width == plot.bound)
    )
    assert all(3 <= at <= 97 for at, _ in plot.ticks)


def test_a_rule_without_a_figure_has_no_plot() -> None:
    assert (
        interval_plot(rule())
        is interval_plot(rule(value=None))
        is interval_plot(rule(value=float("nan"), bound=0.5))
        is None
    )
    assert interval_plot(rule(value=0.9)) is None, "neither an interval nor a bound to see it against"
    assert (
        slices_plot(rule())
        is slices_plot(rule(slices=[]))
        is slices_plot(rule(slices=[{"name": "x", "value": None}]))
        is None
    )


def test_who_cannot_see_the_plot_is_told_its_numbers() -> None:
    plot = interval_plot(rule("fail", difference=-0.1, low=-0.2, high=-0.06, bound=-0.05, direction="at least"))
    assert plot is not None
    assert plot.alt == "accuracy non-inferior: difference -0.1, interval -0.2 to -0.06, allowed at least -0.05: fail"
    assert (
        plot.zero is not None
        and plot.rows[0].high is not None
        and plot.bound is not None
        and plot.rows[0].high < plot.bound < plot.zero
    )
    threshold = interval_plot(rule(value=0.9, bound=0.5, direction="at least"))
    assert threshold is not None and threshold.zero is None and "value 0.9" in threshold.alt


@pytest.mark.parametrize(("direction", "worst"), [("at least", "b"), ("at most", "a")])
def test_the_worst_slice_stands_at_the_top(direction: str, worst: str) -> None:
    plot = slices_plot(
        rule(
            direction=direction,
            bound=0.0,
            slices=[
                {"name": "a", "n": 20, "difference": 0.1},
                {"name": "b", "n": 30, "difference": -0.2, "p_adjusted": 0.01},
            ],
        )
    )
    assert plot is not None and plot.rows[0].mark.name == worst and f"the worst is {worst}" in plot.alt
    assert {row.mark.note for row in plot.rows} == {"+0.1, n 20", "-0.2, n 30, adjusted p 0.01"}
    many = slices_plot(rule(slices=[{"name": str(number), "value": number / 100} for number in range(50)]))
    assert many is not None and len(many.rows) == 20


@given(st.lists(st.tuples(st.floats(0.001, 1), st.sampled_from([0.0, 1.0])), min_size=1, max_size=60))
def test_the_curves_bins_are_those_of_the_calibration_error(rows: list[tuple[float, float]]) -> None:
    frame = pandas.DataFrame(rows, columns=["confidence", "correct"])
    bins = calibration(frame)
    assert sum(one.n for one in bins) == len(rows)
    assert sum(one.n * abs(one.accuracy - one.confidence) for one in bins) / len(rows) == pytest.approx(
        expected_calibration_error(frame), abs=1e-9
    )
    assert all(one.left / 100 <= one.confidence + 1e-9 for one in bins)


def test_nobody_who_gives_no_probabilities_has_a_calibration_or_a_confusion() -> None:
    frame = pandas.DataFrame({"gold": ["a"], "answer": ["a"], "correct": [1.0]})
    assert calibration(None) == calibration(frame) == calibration(frame.assign(confidence=None)) == []
    assert (
        confusion(None)
        is confusion(frame)
        is confusion(frame.assign(confidence=0.9, gold_labels=pandas.Series([["a"]])))
        is None
    )


def test_the_confusion_counts_every_row_once_and_shares_are_of_the_gold_label() -> None:
    frame = judged.predictions(1, 0.8)
    found = confusion(frame)
    assert (
        found is not None
        and found.answers == [*judged.LABELS] == [label for label, _ in found.rows]
        and found.hidden == 0
    )
    assert sum(count for _, counts in found.rows for count, _ in counts) == len(frame)
    for label, counts in found.rows:
        assert (
            sum(share for _, share in counts) == pytest.approx(1)
            and sum(count for count, _ in counts) == (frame["gold"] == label).sum()
        )


def test_of_many_labels_those_that_are_confused_most_are_shown() -> None:
    labels = [f"label-{number:02}" for number in range(40)]
    frame = pandas.DataFrame(
        {"gold": labels * 2, "answer": labels + labels[:-2] + [labels[-1], labels[-2]], "confidence": 0.9}
    )
    found = confusion(frame)
    assert (
        found is not None
        and len(found.answers) == MOST_LABELS
        and found.hidden == 40 - MOST_LABELS
        and {*labels[-2:]} <= {*found.answers}
    )
