"""The simulation judges as the gate does, and sees an interval that is too narrow."""

from __future__ import annotations

from collections.abc import Callable

import numpy
import pandas
import pytest

from benchmarks.eval import whole_sets
from benchmarks.eval.cells import Cell, Layout, cell, cells, table
from eval.statistics.by_metric import compare

pytestmark = pytest.mark.unit
MAKERS: dict[str, Callable[[numpy.random.Generator, float], pandas.DataFrame]] = {
    "macro_f1": whole_sets.one_label,
    "bleu": whole_sets.bleu,
    "perplexity": whole_sets.likelihoods,
}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(("clusters", "size"), [(60, 1), (40, 3)])
def test_the_simulations_p_is_the_gates_own(name: str, clusters: int, size: int) -> None:
    """But for the draws, which are 999 there and 1,999 here."""
    make, rows = MAKERS[name], whole_sets.ROWS
    frame = pandas.concat([make(numpy.random.default_rng(whole_sets.SEED), share) for share in (0.85, 0.4)])
    mine, theirs = numpy.arange(2 * rows), numpy.concatenate([numpy.arange(rows), numpy.arange(rows)])
    places = numpy.random.default_rng(4).integers(0, 2 * rows, (1, clusters, size))
    number, cluster = numpy.arange(clusters * size), numpy.repeat(numpy.arange(clusters), size)
    one, other = (frame.iloc[side[places.reshape(-1)]].assign(id=number, cluster=cluster) for side in (mine, theirs))
    plain = compare(name, one, other, 0.95)
    sign = -1 if name == "perplexity" else 1
    # A bound in the interval's lower half, so that p is neither 0 nor 1.
    margin = -sign * (plain.difference + (plain.low if sign > 0 else plain.high)) / 2
    found = compare(name, one, other, 0.95, margin)
    above, _ = whole_sets.judge(whole_sets.FIGURES[name](), mine, theirs, -margin, places, size)
    assert float(above[0]) == pytest.approx(found.p_above if sign > 0 else found.p_below, abs=0.04)


def test_few_rows_of_each_kind_hold_in_a_short_simulation() -> None:
    for kind in ("binary", "bounded"):
        found = list(cells(kind, 300, (2, 20)))
        assert len(found) == 12 and all(one.holds for one in found) and {one.draws for one in found} == {300}
    assert cell("macro_f1", Layout(10, 1), 0.4, 0.75, 50).too_small == 1


def test_a_cell_that_passes_too_much_or_holds_too_little_is_a_miss() -> None:
    held = Cell("k", "20", 0.05, 0.04, 0.025, 0.95, 0.0, 10_000)
    missed = [held._replace(false_passes=0.031), held._replace(coverage=0.93)]
    assert held.holds and not any(one.holds for one in missed)
    words = table({"k": [held, *missed]})
    assert "1 of 3 cells hold." in words and "**3.1 / 95.0**" in words[-1] and "**2.5 / 93.0**" in words[-1]
