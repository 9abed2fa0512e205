"""The record on disk: every whole line once, in order, whatever was torn."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.mlflow.outbox import METRIC_LINES_A_BATCH, Line, Outbox

pytestmark = pytest.mark.unit
METRICS = st.fixed_dictionaries({"metrics": st.dictionaries(st.text(max_size=3), st.floats(allow_nan=False)), "step": st.integers(0, 9)})
LINES = st.lists(METRICS | st.fixed_dictionaries({"status": st.just("FINISHED")}) | st.fixed_dictionaries({"artifacts": st.text(max_size=9)}), max_size=130)


def bare(lines: list[Line]) -> list[Any]:
    return [{key: value for key, value in line.items() if key != "time"} for line in lines]


@given(LINES)
def test_batches_are_the_lines_in_order(lines: list[Line]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        outbox = Outbox(Path(folder))
        outbox.append(*lines)
        batches = [batch for batch, _ in outbox.batches()]
    assert bare([line for batch in batches for line in batch]) == lines
    assert all(len(batch) == 1 or (len(batch) <= METRIC_LINES_A_BATCH and all("metrics" in line for line in batch)) for batch in batches)


@given(LINES, st.integers(0, 200))
def test_taking_some_batches_leaves_the_others(lines: list[Line], taken: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        outbox = Outbox(Path(folder))
        outbox.append(*lines)
        done: list[Line] = []
        for count, (batch, end) in enumerate(list(outbox.batches())):
            if count < taken:
                done += batch
                outbox.taken(end, "run")
        assert bare(done + [line for line, _ in Outbox(Path(folder)).left()]) == lines


@given(st.lists(METRICS, min_size=1, max_size=5), st.integers(1, 400))
def test_a_torn_line_costs_only_itself(lines: list[Line], torn: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        outbox = Outbox(Path(folder))
        outbox.append(*lines)
        whole = outbox.record.read_bytes()
        outbox.record.write_bytes(whole[: max(0, len(whole) - torn)])
        kept = outbox.record.read_bytes().count(b"\n")
        outbox.append({"status": "FINISHED"})
        found = bare([line for line, _ in outbox.lines()])
    assert found in ([*lines[:kept], {"status": "FINISHED"}], [*lines[: kept + 1], {"status": "FINISHED"}])


def test_the_far_sides_name_outlives_a_batch_without_one(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.append({"a": 1}, {"b": 2})
    outbox.taken(1, "run-7")
    outbox.taken(2, None)
    assert outbox.run_id == "run-7"


def test_an_empty_folder_has_no_lines_and_no_name(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "not-yet")
    assert (list(outbox.lines()), list(outbox.batches()), outbox.run_id) == ([], [], None)


def test_a_line_being_written_is_left_for_later(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.append({"status": "FINISHED"})
    with outbox.record.open("a") as stream:
        stream.write('{"status": "KILLED"}')
    assert len(list(outbox.left())) == 1
    outbox.taken(list(outbox.left())[-1][1], None)
    with outbox.record.open("a") as stream:
        stream.write("\n")
    assert bare([line for line, _ in outbox.left()]) == [{"status": "KILLED"}]


@pytest.mark.parametrize(("lines", "key"), [("", None), ("m", None), ("sm", "s"), ("smf", None), ("smfm", None), ("smft", "t"), ("st", "t"), ("sr", None)])
def test_the_unfinished_run_is_the_last_without_a_status(tmp_path: Path, lines: str, key: str | None) -> None:
    known: dict[str, Line] = {"m": {"metrics": {}, "step": 1}, "f": {"status": "FINISHED"}, "r": {"resume": "id"}}
    outbox = Outbox(tmp_path)
    outbox.append(*(known.get(letter, {"start": {"key": letter}}) for letter in lines))
    assert outbox.unfinished_key() == key
