"""What the evaluation room promises, measured: the checks of `make prove-eval` (benchmarks/prove.py)."""

from __future__ import annotations

from pathlib import Path

from benchmarks.eval import cell_table, cells, gate_power, statistics
from benchmarks.eval.regressions import FAULTS, HARMLESS, judge_all, table
from benchmarks.eval.speed import speed
from benchmarks.prove import Check, Row, tested, write_section


def gate_arithmetic() -> list[Row]:
    """The gate's arithmetic against the libraries' own, and its promises by simulation
    (benchmarks/eval/statistics.py)."""
    same, held, false = statistics.references(), statistics.coverage(), statistics.false_pass_rate()
    seen, means, advised = statistics.power_matches(), statistics.mean_power(), statistics.advice_decides()
    looked, uncounted = statistics.looks(), statistics.looks(spent=False)
    return [
        Row(
            f"p-values and intervals on {same['cases']} random cases, largest distance from scipy's and statsmodels'",
            float(f"{same['worst']:.1e}"),
            "below 1e-9",
            same["worst"] < 1e-9,
        ),
        within("coverage of 95% intervals, 10,000 draws a setting", held, 0.93, 0.97),
        Row(
            "false passes at a loss of exactly the margin, the highest of all settings",
            false["highest"],
            f"at most {false['allowed']:.4f}",
            false["highest"] <= false["allowed"],
        ),
        within("power at the printed minimum detectable effect, right or wrong", seen, 0.77, 0.83),
        within("power at the printed minimum detectable effect, means", means, 0.77, 0.83),
        within('decided after the "N more examples would decide" that was advised', advised, 0.75, 0.87),
        Row(
            f"false passes over six looks with added rows, alpha spent over them ({uncounted:.4f} were it not)",
            looked,
            "at most 0.025",
            looked <= 0.025,
        ),
    ]


def simulated() -> list[Row]:
    """Every kind of metric by size, share of rows that differ and clusters; each cell is in docs/benchmarks.md."""
    cell_table.show("all", cells.DRAWS)
    every = [one for name in cells.MAKERS for one in cell_table.kept(name)]
    judged = [one for one in every if one.too_small < 1]
    rows = [one for one in every if one.holds]
    return [
        Row(
            f"cells in which false passes stay at 2.5% and 94% of the intervals hold the truth "
            f"({max(one.false_passes for one in judged):.4f}, {min(one.coverage for one in judged):.4f}; "
            f"{len(every) - len(judged)} without an interval)",
            f"{len(rows)} of {len(every)}",
            "all",
            len(rows) == len(every),
        )
    ]


def within(name: str, found: statistics.Shares, low: float, high: float) -> Row:
    return Row(
        name,
        f"{found['lowest']:.3f} to {found['highest']:.3f}",
        f"{low:.2f} to {high:.2f}",
        low <= found["lowest"] and found["highest"] <= high,
    )


def regressions() -> list[Row]:
    """Every planted fault refused, every harmless change not, by the gates that ship; the table goes to
    docs/gate.md."""
    found = judge_all([*FAULTS, *HARMLESS])
    write_section(Path("docs/gate.md"), "regressions", table(found))
    write_section(Path("docs/gate.md"), "gate-power", gate_power.table())
    faults, harmless = found[: len(FAULTS)], found[len(FAULTS) :]
    caught = [(case, judged) for case, judged in faults if judged.outcome != "pass"]
    named = [case for case, judged in caught if {*case.hoped} & {*judged.kinds}]
    refused, open_ = (
        [case.title for case, judged in harmless if judged.outcome == wanted] for wanted in ("fail", "inconclusive")
    )
    all_, unproven = len(FAULTS), [case.title for case, judged in caught if judged.outcome == "inconclusive"]
    return [
        Row(
            f"planted regressions refused (inconclusive, which lets nothing in: {'; '.join(unproven) or 'none'})",
            f"{len(caught)} of {all_}",
            "all, 31 at least",
            len(caught) == all_ >= 31,
        ),
        Row("of these refused by the rule one would hope for", f"{len(named)} of {all_}", "all", len(named) == all_),
        Row(
            f"harmless changes refused ({'; '.join(refused) or 'none'}; inconclusive: {'; '.join(open_) or 'none'})",
            f"{len(refused)} of {len(HARMLESS)}",
            f"none of {len(HARMLESS)}",
            not refused and len(HARMLESS) >= 10,
        ),
    ]


CHECKS: dict[str, Check] = {
    "statistics": gate_arithmetic,
    "cells": simulated,
    "regressions": regressions,
    "speed": speed,
    "page": lambda: tested(
        "the page of a failing gate in a headless browser", "tests/eval/report/test_page_in_browser.py"
    ),
    "served": lambda: tested(
        "behaviour, judge and harness through vLLM",
        "tests/eval/behaviour/test_run_served.py",
        "tests/eval/test_evaluate_served.py",
    ),
}
