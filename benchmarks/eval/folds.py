"""Intervals of cross-validation (evaluate.folds) held against what the release, trained on all rows, truly does.

.venv/bin/python -m benchmarks.eval.folds 2000   # draws a cell

A draw: n rows of two classes, normal in p dimensions; K models, each trained on the rows of the other folds; their
held-out answers pooled. The release: the same learner on all n rows; its true share of right answers is counted on
fresh rows, and so is that of a fixed champion. `missed low`: the share of draws in which the truth lies below the
lower end, which is how often a rule would pass falsely at a bound of exactly the truth (2.5% is promised); `missed
high`: above the upper end, a false fail. Learners from the steadiest (ridge) to one that moves with single rows
(the nearest row's label).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy

from eval.statistics.comparison import widen_by_folds
from eval.statistics.values import compare_values, estimate_values

FRESH = 4000
SHIFT = 1.2  # distance of the two means: the best rule is right in 73% of rows, whatever the dimensions
Learner = Callable[[Any, Any, Any], Any]  # rows (n, p) and classes (n,) of training, rows to answer (m, p): right class


class Cell(NamedTuple):
    learner: str
    n: int
    dimensions: int
    folds: int


class Found(NamedTuple):
    """Shares of the draws: the truth beyond the lower and the upper end, by rows alone and by rows and folds."""

    rows_low: float
    rows_high: float
    low: float
    high: float
    width: float


def ridge(rows: Any, classes: Any, asked: Any) -> Any:
    """Least squares on -1 and 1, penalty 1."""
    x = numpy.column_stack([rows, numpy.ones(len(rows))])
    weights = numpy.linalg.solve(x.T @ x + numpy.eye(x.shape[1]), x.T @ (2 * classes - 1))
    return (numpy.column_stack([asked, numpy.ones(len(asked))]) @ weights > 0).astype(int)


def nearest(rows: Any, classes: Any, asked: Any) -> Any:
    distances = (rows**2).sum(axis=1)[None, :] - 2 * asked @ rows.T
    return classes[distances.argmin(axis=1)]


def stump(rows: Any, classes: Any, asked: Any) -> Any:
    """The one column and threshold that part the training rows best: it jumps from column to column."""
    best = (-1.0, 0, 0.0, True)
    for column in range(rows.shape[1]):
        order = rows[:, column].argsort()
        ones = classes[order].cumsum()
        right = (numpy.arange(1, len(rows) + 1) - ones) + (ones[-1] - ones)
        for score, up in ((right, True), (len(rows) - right, False)):
            place = int(score.argmax())
            if score[place] > best[0]:
                best = (float(score[place]), column, float(rows[order[place], column]), up)
    _, column, threshold, up = best
    return ((asked[:, column] > threshold) == up).astype(int)


LEARNERS: dict[str, Learner] = {"ridge": ridge, "nearest": nearest, "stump": stump}


def draw_rows(generator: Any, n: int, dimensions: int) -> tuple[Any, Any]:
    classes = generator.integers(0, 2, n)
    rows = generator.standard_normal((n, dimensions))
    rows[:, 0] += SHIFT * (classes - 0.5)
    return rows, classes


def champion(asked: Any) -> Any:
    """A fixed rule that is not the best one."""
    return (asked[:, 0] + 0.7 * asked[:, -1] > 0.2).astype(int)


def simulate(cell: Cell, draws: int) -> dict[str, Found]:
    """Of the release's share of right answers, and of its difference from the champion's."""
    learner, generator = LEARNERS[cell.learner], numpy.random.default_rng(17)
    fresh, answers = draw_rows(generator, FRESH, cell.dimensions)
    theirs_truth = float((champion(fresh) == answers).mean())
    told = {"share": numpy.zeros(5), "difference": numpy.zeros(5)}
    for _ in range(draws):
        rows, classes = draw_rows(generator, cell.n, cell.dimensions)
        fold = numpy.empty(cell.n, dtype=int)
        fold[numpy.argsort(classes, kind="stable")] = numpy.arange(cell.n) % cell.folds
        right = numpy.empty(cell.n)
        for one in range(cell.folds):
            held = fold == one
            right[held] = learner(rows[~held], classes[~held], rows[held]) == classes[held]
        truth = float((learner(rows, classes, fresh) == answers).mean())
        theirs = (champion(rows) == classes).astype(float)
        ways: dict[str, tuple[Any, Any, tuple[float, float], float]] = {
            "share": (right, estimate_values(right, None, "binary"), (0.0, 1.0), truth),
            "difference": (
                right - theirs,
                compare_values(right, theirs, None, "binary"),
                (-1.0, 1.0),
                truth - theirs_truth,
            ),
        }
        for name, (values, alone, limits, true) in ways.items():
            by_fold = [float(values[fold == one].mean()) for one in range(cell.folds)]
            found = widen_by_folds(alone, by_fold, limits)
            missed = [true < alone.low, true > alone.high, true < found.low, true > found.high]
            told[name] += [*missed, found.high - found.low]
    return {name: Found(*(sums / draws).tolist()) for name, sums in told.items()}


def cells() -> Iterator[Cell]:
    for name in LEARNERS:
        for n in (50, 100, 200):
            for dimensions in (2, 20):
                yield Cell(name, n, dimensions, 5)
        yield Cell(name, 100, 20, 10)
        yield Cell(name, 100, 20, 2)


def main(draws: int) -> None:
    print("| learner | n | dimensions | folds | of | rows: missed low | high | rows and folds: low | high | width |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for cell in cells():
        for name, found in simulate(cell, draws).items():
            shown = " | ".join(f"{one:.2%}" for one in found[:4])
            head = f"| {cell.learner} | {cell.n} | {cell.dimensions} | {cell.folds} | {name}"
            print(f"{head} | {shown} | {found.width:.3f} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
