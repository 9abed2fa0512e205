"""Where marks stand on a plot, and what is counted into them."""

from __future__ import annotations

from typing import Any

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.verdict import RuleResult
from eval.metrics.classification import expected_calibration_error
from eval.report.history import Point
from eval.report.plots import Mark, calibration, forest, interval_plot, releases_plot, slices_plot

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
    assert many is not None and len(many.rows) == 8


@given(st.lists(st.tuples(st.floats(0.001, 1), st.sampled_from([0.0, 1.0])), min_size=1, max_size=60))
def test_the_curves_bins_are_those_of_the_calibration_error(rows: list[tuple[float, float]]) -> None:
    frame = pandas.DataFrame(rows, columns=["confidence", "correct"])
    bins = calibration(frame)
    assert sum(one.n for one in bins) == len(rows)
    assert sum(one.n * abs(one.accuracy - one.confidence) for one in bins) / len(rows) == pytest.approx(
        expected_calibration_error(frame), abs=1e-9
    )
    assert all(one.left / 100 <= one.confidence + 1e-9 for one in bins)


def test_nobody_who_gives_no_probabilities_has_a_calibration() -> None:
    frame = pandas.DataFrame({"gold": ["a"], "answer": ["a"], "correct": [1.0]})
    assert calibration(None) == calibration(frame) == calibration(frame.assign(confidence=None)) == []


def test_the_releases_of_a_name_stand_on_one_axis_the_oldest_at_the_top() -> None:
    points = [
        Point(f"a@sha256:{'1' * 64}", "2026-01-02T03:04:05", "pass", 0.8, 0.7, 0.9, False),
        Point(f"a@sha256:{'2' * 64}", "", "fail", 0.6, None, None, True),
    ]
    plot = releases_plot(points, "accuracy")
    assert plot is not None and plot.alt == "accuracy of 2 releases, the oldest first: 0.8, 0.6"
    assert [row.mark.name for row in plot.rows] == ["a@111111111111, 2026-01-02", "a@222222222222"]
    assert [row.mark.note for row in plot.rows] == ["0.8, pass, on other test rows", "0.6, fail"]
    assert plot.rows[0].x and plot.rows[1].x and plot.rows[0].x > plot.rows[1].x and plot.rows[1].low is None
    assert releases_plot(points[:1], "accuracy") is None, "one alone is no trend"


def test_of_a_rule_on_slices_the_one_that_decided_is_drawn() -> None:
    rows = [{"name": "a", "n": 20, "difference": -0.2, "low": -0.3, "high": -0.1}]
    plot = interval_plot(rule("fail", slices=rows, n=20, low=-0.3, high=-0.1, bound=-0.05, direction="at least"))
    assert plot is not None and "difference -0.2 of a, interval -0.3 to -0.1" in plot.alt
