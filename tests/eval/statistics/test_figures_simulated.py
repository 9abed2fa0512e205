"""The simulation judges as the gate does, and sees an interval that is too narrow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy
import pandas
import pytest

from benchmarks.eval import cell_table, cells, whole_sets
from benchmarks.eval.cell_table import table
from benchmarks.eval.cells import DISCORDANCE, Cell, Layout, cell, places
from eval.statistics.by_metric import compare

pytestmark = pytest.mark.unit
MAKERS: dict[str, Callable[[numpy.random.Generator, float], pandas.DataFrame]] = {
    "macro_f1": whole_sets.one_label,
    "bleu": whole_sets.bleu,
    "entity_f1": whole_sets.sentences,
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
        found = [cell(kind, *place, 300) for place in places((2, 20))]
        assert len(found) == 12 and all(one.holds for one in found) and {one.draws for one in found} == {300}
    assert cell("macro_f1", Layout(10, 1), 0.4, 50).too_small == 1


def test_a_cell_that_passes_too_much_or_holds_too_little_is_a_miss() -> None:
    held = Cell("k", "20", 0.05, 0.04, 0.025, 0.95, 0.0, 10_000)
    missed = [held._replace(false_passes=0.031), held._replace(coverage=0.93)]
    assert held.holds and not any(one.holds for one in missed)
    words = table({"k": [held, *missed]})
    assert "1 of 3 cells hold." in words and "**3.1 / 95.0**" in words[-1] and "**2.5 / 93.0**" in words[-1]


def test_a_kept_cell_is_not_simulated_again_but_by_other_code_or_for_more_draws(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cell_table, "FOLDER", tmp_path)
    monkeypatch.setattr(cell_table, "DOCUMENT", tmp_path / "benchmarks.md")
    monkeypatch.setattr(cell_table, "DRAWS", 40)
    monkeypatch.setattr(cell_table, "MAKERS", {"binary": cells.MAKERS["binary"]})
    (tmp_path / "benchmarks.md").write_text("# Benchmarks\n", encoding="utf8")
    made = []

    def counted(kind: str, layout: Layout, discordance: float, draws: int) -> Cell:
        made.append((layout.name, discordance))
        if len(made) == 5:
            raise KeyboardInterrupt
        return Cell(kind, layout.name, discordance, 0.1, 0.0, 1.0, 0.0, draws)

    monkeypatch.setattr(cell_table, "cell", counted)
    with pytest.raises(KeyboardInterrupt):
        cell_table.show("binary", 40)
    assert len(cell_table.kept("binary")) == 4
    cell_table.show("binary", 20)
    every = len(cells.SIZES) * len(DISCORDANCE) + len(cells.CLUSTERED) * len(DISCORDANCE)
    assert len(made) == 1 + every and "written" not in (tmp_path / "benchmarks.md").read_text(encoding="utf8")
    cell_table.show("all", 40)
    assert len(made) == 1 + 2 * every - 4
    assert f"{every} of {every} cells hold." in (tmp_path / "benchmarks.md").read_text(encoding="utf8")
    cell_table.show("all", 40)
    assert len(made) == 1 + 2 * every - 4
    cell_table.code.cache_clear()
    monkeypatch.setattr(cell_table, "CONSTANTS", (1,))
    assert cell_table.kept("binary") == []
    cell_table.code.cache_clear()


def test_a_draw_that_its_first_weighings_decide_is_judged_as_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [("micro_f1", Layout(400, 1), 0.4, 200), ("expected_calibration_error", Layout(60, 1), 0.4, 100)]
    early = [cell(*one) for one in asked]
    monkeypatch.setattr(whole_sets, "FIRST", whole_sets.WEIGHINGS)
    assert early == [cell(*one) for one in asked]
    assert early[0].coverage < 1  # some draw was not decided early
