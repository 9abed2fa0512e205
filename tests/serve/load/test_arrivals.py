"""Plans of open loops: the same seed gives the same arrivals, a trace keeps its own times, and what is no trace is
refused with its row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.environment.load_test import LoadTest
from configs.errors import InputError
from serve.load.arrivals import plan_load, poisson, replay, write_plan
from serve.load.samples import read_trace, write_parquet

pytestmark = pytest.mark.unit
ROWS: Any = [
    {
        "at": 10.0 + number,
        "path": "/v1/chat/completions",
        "body": {"messages": [], "n": number},
        "answer": {"text": str(number)},
    }
    for number in range(4)
]


@given(st.floats(0.1, 50), st.floats(0.1, 30), st.integers(0, 2**32))
def test_arrivals_lie_in_order_inside_the_run_and_hang_on_the_seed_alone(
    rate: float, seconds: float, seed: int
) -> None:
    arrivals = poisson(rate, seconds, numpy.random.default_rng(seed))
    assert arrivals == sorted(arrivals) == poisson(rate, seconds, numpy.random.default_rng(seed))
    assert all(0 <= at < seconds for at in arrivals)


def test_gaps_are_exponential_as_of_independent_users() -> None:
    """Kolmogorov and Smirnov on 20,000 gaps; a fixed pace, which hides queues, is refused by far."""
    from scipy.stats import kstest

    gaps = numpy.diff(poisson(50, 400, numpy.random.default_rng(3)))
    assert kstest(gaps, "expon", args=(0, 1 / 50)).pvalue > 0.01
    assert kstest(numpy.full(len(gaps), 1 / 50), "expon", args=(0, 1 / 50)).pvalue < 1e-6


def test_a_ramp_has_its_rates_one_after_another() -> None:
    plan = plan_load(LoadTest(ramp=[2, 20], seconds=20))
    assert plan == sorted(plan, key=lambda row: row["at"]) == plan_load(LoadTest(ramp=[2, 20], seconds=20))
    assert all((row["at"] < 10) == (row["step"] == 0) and row["rate"] == [2, 20][row["step"]] for row in plan)
    assert 8 <= sum(row["step"] == 0 for row in plan) <= 35 and 150 <= sum(row["step"] == 1 for row in plan) <= 250
    assert plan_load(LoadTest(users=9)) == [] and plan_load(LoadTest(rate=5, seed=1)) != plan_load(
        LoadTest(rate=5, seed=2)
    )


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=30), st.floats(0.1, 10), st.floats(0.1, 500))
def test_a_trace_keeps_its_gaps_by_its_speed(times: list[float], speed: float, seconds: float) -> None:
    rows = replay([{"at": at, "path": "/p", "body": {}} for at in times], speed, seconds)
    assert rows[0]["at"] == 0 and all(0 <= row["at"] < seconds for row in rows)
    whole = [(at - min(times)) / speed for at in sorted(times)]
    assert [row["at"] for row in rows] == pytest.approx([at for at in whole if at < seconds])


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_both_kinds_of_file_hold_the_same_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"trace.{suffix}"
    write_parquet(ROWS, path) if suffix == "parquet" else write_plan(ROWS, path)
    assert read_trace(path) == ROWS


def test_a_folder_of_samples_is_one_trace(tmp_path: Path) -> None:
    write_plan(ROWS[:1], tmp_path / "blue-2.jsonl")
    write_plan(ROWS[1:], tmp_path / "blue-1.jsonl")
    (tmp_path / "blue.counts.json").write_text("{}")
    assert sorted(read_trace(tmp_path), key=lambda row: float(row["at"])) == ROWS


def test_the_plan_of_a_trace_has_nothing_of_the_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_plan(ROWS, Path("t.jsonl"))
    plan = plan_load(LoadTest(trace="t.jsonl", trace_speed=2, seconds=1))
    assert plan == [
        {"at": at, "path": ROWS[0]["path"], "body": ROWS[number]["body"]} for number, at in enumerate((0.0, 0.5))
    ]


def test_a_last_line_that_a_kill_cut_is_left_out_and_any_other_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS) + '{"at": 9, "pa')
    assert read_trace(path) == ROWS
    path.write_text('{"at"\n' + json.dumps(ROWS[0]) + "\n")
    with pytest.raises(InputError, match=r"trace\.jsonl:1: found"):
        read_trace(path)


@pytest.mark.parametrize(
    "row",
    [{"path": "/p", "body": {}}, {"at": "now", "path": "/p", "body": {}}, {"at": 1, "path": "/p", "body": "text"}, [1]],
)
def test_a_row_that_is_no_request_is_named(tmp_path: Path, row: Any) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(InputError, match=r"row 2 is .*expected at"):
        read_trace(path)


def test_nothing_and_rubbish_are_no_trace(tmp_path: Path) -> None:
    for name in ("empty.jsonl", "rubbish.parquet"):
        (tmp_path / name).write_text("" if name.startswith("empty") else "rubbish")
        with pytest.raises(InputError, match=name):
            read_trace(tmp_path / name)
