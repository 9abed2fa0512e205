"""Where the marks of a plot stand, in per cent of its width or height: SVG draws them at any width, in the page's own
colours and font."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from configs.release import short
from configs.verdict import RuleResult, SliceEvidence
from eval.metrics.classification import BINS
from eval.report.headline import figure_of, is_difference
from eval.report.history import Point
from eval.rules.result import finite

if TYPE_CHECKING:
    from pandas import DataFrame

MARGIN = 0.08  # of the range, left free on both sides


class Mark(NamedTuple):
    """One figure to draw: a point, perhaps with an interval; `note` stands beside its name."""

    name: str
    note: str
    point: float | None
    low: float | None
    high: float | None
    outcome: str = ""


class Placed(NamedTuple):
    """A mark in per cent; None where there is nothing to draw."""

    mark: Mark
    x: float | None
    low: float | None
    high: float | None


class Forest(NamedTuple):
    """Rows on one axis. `allowed`: left edge and width of what a rule allows; `zero`: where no difference is, None for
    plain values."""

    rows: list[Placed]
    ticks: list[tuple[float, str]]
    bound: float | None
    allowed: tuple[float, float] | None
    zero: float | None
    alt: str


class Bin(NamedTuple):
    """Rows whose confidence lies in one of the bins: mean confidence, share that is right, how many."""

    confidence: float
    accuracy: float
    n: int
    left: float


def forest(
    marks: Sequence[Mark], bound: float | None, direction: str | None, differences: bool, alt: str
) -> Forest | None:
    """None where there is no figure to draw. `direction`: "at least" or "at most" the bound."""
    from matplotlib.ticker import MaxNLocator

    numbers = [number for mark in marks for number in (mark.point, mark.low, mark.high) if number is not None]
    if not numbers:
        return None
    numbers += [number for number in (bound, 0.0 if differences else None) if number is not None]
    span = (max(numbers) - min(numbers)) or max(abs(numbers[0]) * 0.2, 1e-3)
    left, right = min(numbers) - MARGIN * span, max(numbers) + MARGIN * span

    def place(number: float | None) -> float | None:
        return None if number is None else round(100 * (number - left) / (right - left), 3)

    rows = [Placed(mark, place(mark.point), place(mark.low), place(mark.high)) for mark in marks]
    ticks = [
        (at, f"{tick:{'+' if differences and abs(tick) > 1e-12 else ''}.6g}")
        for tick in MaxNLocator(4).tick_values(left, right)
        if left < tick < right and (at := place(float(tick))) is not None and 3 <= at <= 97
    ]
    at = place(bound)
    allowed = None if at is None or direction is None else (at, 100 - at) if direction == "at least" else (0.0, at)
    return Forest(rows, ticks, at, allowed, place(0.0) if differences else None, alt)


def interval_plot(one: RuleResult) -> Forest | None:
    """A rule's figure against what it allows."""
    evidence, found, bound = one.evidence, figure_of(one), finite(one.evidence.get("bound"))
    if found is None or (bound is None and found.low is None):
        return None
    low, high = found.low, found.high
    spread = f", interval {low:.4g} to {high:.4g}" if low is not None and high is not None else ""
    limit = f", allowed {evidence.get('direction', '')} {bound:.4g}" if bound is not None else ""
    what = f"{'difference' if found.is_difference else 'value'} {found.value:.4g}"
    alt = f"{one.rule}: {what}{f' of {found.place}' if found.place else ''}{spread}{limit}: {one.outcome}"
    mark = Mark("", "", found.value, low, high, one.outcome)
    return forest([mark], bound, evidence.get("direction"), found.is_difference, alt)


def slices_plot(one: RuleResult, most: int = 8) -> Forest | None:
    """A rule's slices on one axis, the worst first."""
    found = [row for row in one.evidence.get("slices") or [] if isinstance(row, dict)]
    differences = any(is_difference(row) for row in found)
    direction = one.evidence.get("direction")
    sign = -1 if direction == "at most" else 1
    figures = [
        (value, row)
        for row in found
        if (value := finite(row.get("difference" if differences else "value"))) is not None
    ]
    shown = sorted(figures, key=lambda pair: (sign * pair[0], str(pair[1]["name"])))[:most]
    marks = [
        Mark(
            str(row["name"]),
            note_of(value, row, differences),
            value,
            finite(row.get("low")),
            finite(row.get("high")),
            str(row.get("outcome") or ""),
        )
        for value, row in shown
    ]
    alt = f"{one.rule}: {len(marks)} slices, the worst is {marks[0].name}" if marks else ""
    return forest(marks, finite(one.evidence.get("bound")), direction, differences, alt)


def note_of(value: float, row: SliceEvidence, is_difference: bool) -> str:
    n, p = finite(row.get("n")), finite(row.get("p_adjusted"))
    parts = [
        f"{value:+.3g}" if is_difference else f"{value:.3g}",
        f"n {n:.0f}" if n else "",
        f"adjusted p {p:.3g}" if p is not None else "",
    ]
    return ", ".join(filter(None, parts))


def releases_plot(releases: Sequence[Point], metric: str) -> Forest | None:
    """The releases of a name on one axis, the oldest at the top; nothing where there is but one."""
    if len(releases) < 2:
        return None
    marks = [
        Mark(
            f"{short(one.reference)}{f', {one.created[:10]}' if one.created else ''}",
            f"{one.value:.4g}, {one.outcome}{', on other test rows' if one.same_rows is False else ''}",
            one.value,
            one.low,
            one.high,
            one.outcome,
        )
        for one in releases
    ]
    alt = f"{metric} of {len(marks)} releases, the oldest first: {', '.join(f'{one.value:.4g}' for one in releases)}"
    return forest(marks, None, None, False, alt)


def calibration(frame: DataFrame | None) -> list[Bin]:
    """Guo et al. 2017 (arXiv:1706.04599): 15 bins of equal width, as expected_calibration_error has them. Empty where
    no confidence is known."""
    import numpy

    if frame is None or not {"confidence", "correct"} <= {*frame}:
        return []
    known = frame[["confidence", "correct"]].dropna().astype(float)
    place = numpy.clip(numpy.ceil(known["confidence"] * BINS).astype(int) - 1, 0, BINS - 1)
    return [
        Bin(part["confidence"].mean(), part["correct"].mean(), len(part), 100 * int(number) / BINS)
        for number, part in known.groupby(place)
    ]
