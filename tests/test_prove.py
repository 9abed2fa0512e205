"""`make prove-ROOM`: a broken check is a missed goal, and a run that was stopped is gone on with, never begun anew with
what it had not liked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import benchmarks.prove
from benchmarks.prove import Row, main

pytestmark = pytest.mark.unit
Prove = Callable[..., int]


@pytest.fixture
def prove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prove:
    """prove(revision, *chosen, name=check, ...) runs these checks as a room's."""
    monkeypatch.chdir(tmp_path)
    Path("docs").mkdir()
    Path("docs/benchmarks.md").write_text("# Benchmarks\n")

    def run(revision: str, *chosen: str, **checks: Callable[[], list[Row]]) -> int:
        monkeypatch.setattr(benchmarks.prove, "head_revision", lambda: revision)
        monkeypatch.setattr(benchmarks.prove, "import_module", lambda name: SimpleNamespace(CHECKS=checks))
        monkeypatch.setattr("sys.argv", ["prove", "room", *chosen])
        return main()

    return run


def stop() -> list[Row]:
    raise KeyboardInterrupt


def counting(rows: list[Row]) -> tuple[Callable[[], list[Row]], list[int]]:
    runs: list[int] = []
    return lambda: (runs.append(1), rows)[1], runs


def test_a_check_that_breaks_is_a_missed_goal_and_those_after_it_run(prove: Prove) -> None:
    assert prove("a1", bad=lambda: [][1], good=lambda: [Row("good", 1, "1", True)]) == 1
    found = json.loads(Path("build/prove/room.json").read_text())
    assert [(row["name"], row["holds"]) for row in found] == [("bad", False), ("good", True)] and "IndexError" in found[
        0
    ]["value"]
    assert (
        "| bad | IndexError: list index out of range | no error | **missed** |"
        in Path("docs/benchmarks.md").read_text()
    )


def test_the_page_says_how_long_each_check_took(prove: Prove) -> None:
    assert prove("a1", quick=lambda: [Row("good", 1, "1", True)]) == 0
    assert "in 0 minutes (quick 0)" in Path("docs/benchmarks.md").read_text()


def test_a_stopped_run_goes_on_with_what_it_had_seen_good_or_bad(prove: Prove) -> None:
    missed, runs = counting([Row("missed", 1, "2", False)])
    with pytest.raises(KeyboardInterrupt):
        prove("a1", missed=missed, second=stop)
    assert not Path("build/prove/room.json").exists()
    assert prove("a1", missed=missed, second=lambda: [Row("second", 2, "2", True)]) == 1 and len(runs) == 1
    assert [row["value"] for row in json.loads(Path("build/prove/room.json").read_text())] == [1, 2]
    assert prove("a1", missed=missed) == 1 and len(runs) == 2  # a whole run is over; the next is a new one


@pytest.mark.parametrize("revision", ["b2", "a1-dirty", "unknown"])
def test_what_another_commit_or_an_unknown_one_had_seen_counts_for_nothing(prove: Prove, revision: str) -> None:
    check, runs = counting([Row("seen", 1, "1", True)])
    with pytest.raises(KeyboardInterrupt):
        prove(revision if revision != "b2" else "a1", check=check, second=stop)
    assert prove(revision, check=check) == 0 and len(runs) == 2


def test_chosen_checks_write_no_file(prove: Prove) -> None:
    assert prove("a1", "good", good=lambda: [Row("good", 1, "1", True)], other=stop) == 0
    assert list(Path("build/prove").iterdir()) == [] and Path("docs/benchmarks.md").read_text() == "# Benchmarks\n"
