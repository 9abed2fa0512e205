"""Answers on disk: kept whatever is torn, asked for within bounds, and never all in memory."""

from __future__ import annotations

import asyncio
import gc
import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.errors import ExternalError, InputError
from configs.release import Manifest
from configs.run.evaluate import Evaluate
from eval.measure import answers as module
from eval.measure.answers import Answers, ask_all, write_line
from eval.measure.predictions import write_predictions
from eval.measure.rows import read_ids, read_rows
from eval.measure.slices import make_slicer
from eval.metrics.aggregate import summarise
from eval.metrics.score import score
from infra.vllm.answer import Answer

pytestmark = pytest.mark.unit
ANSWER = Answer("good", "good", {"bad": 0.25, "good": 0.75}, None, 0.1, 0)
FIELDS: Any = {"name": "m", "task": "sequence-classification", "problem": "single_label"}
MANIFEST = Manifest.model_construct(**FIELDS)


class Server:
    """Says `good`; `most` is how many were in flight at a time, `ahead` how many rows were read and not yet
    answered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails_after: float = float("inf")) -> None:
        self.asked: list[str] = []
        self.flying = self.most = self.read = self.ahead = 0
        self.fails_after = fails_after
        monkeypatch.setattr(module, "ask", self.ask)

    async def ask(
        self, client: Any, url: str, name: str, manifest: Manifest, row: dict[str, Any], **settings: Any
    ) -> Answer:
        if len(self.asked) >= self.fails_after:
            raise ExternalError("killed")
        self.asked.append(row["id"])
        self.flying += 1
        self.most, self.ahead = max(self.most, self.flying), max(self.ahead, self.read - len(self.asked) + self.flying)
        await asyncio.sleep(0)
        self.flying -= 1
        return ANSWER

    def rows(self, count: int) -> Iterator[dict[str, Any]]:
        for number in range(count):
            self.read += 1
            yield {"id": f"r{number}", "text": f"film {number}", "label": "good" if number % 4 else "bad"}


def ids_of(count: int) -> Any:
    return pyarrow.array([f"r{number}" for number in range(count)])


def ask(answers: Answers, rows: Iterator[dict[str, Any]], **settings: Any) -> None:
    ask_all("http://fake", "release", MANIFEST, answers.missing(rows), answers, Evaluate(**settings))


def test_requests_are_bounded_and_rows_are_read_only_when_a_place_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, answers = Server(monkeypatch), Answers.open(tmp_path / "a.jsonl", ids_of(100))
    ask(answers, server.rows(100), concurrency=7)
    assert server.most == 7 and server.ahead <= 7 and answers.count() == 100
    assert sorted(server.asked) == sorted(f"r{number}" for number in range(100))


@pytest.mark.parametrize("killed_after", [0, 1, 13, 39])
def test_what_was_answered_before_a_kill_is_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_after: int
) -> None:
    path, ids = tmp_path / "a.jsonl", ids_of(40)
    first = Server(monkeypatch, killed_after)
    with pytest.raises(ExternalError, match="killed"):
        ask(Answers.open(path, ids), first.rows(40), concurrency=3)
    second, answers = Server(monkeypatch), Answers.open(path, ids)
    kept = answers.count()
    assert killed_after - 3 <= kept <= killed_after, "an answer in flight is lost, no other"
    ask(answers, second.rows(40), concurrency=3)
    assert len(second.asked) == 40 - kept and not {*second.asked} & {*first.asked[: max(0, kept - 3)]}
    assert [answer.label for answer in answers.in_order()] == ["good"] * 40


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 700), st.permutations(range(3)))
def test_a_torn_file_keeps_its_whole_lines_in_whatever_order_they_came(
    tmp_path: Path, cut: int, order: list[int]
) -> None:
    said = {number: replace(ANSWER, text=f"\u2028{number}\n") for number in range(3)}
    lines = [write_line(number, f"é{number}", said[number]) for number in order]
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b"".join(lines)[:cut])
    answers = Answers.open(path, pyarrow.array([f"é{number}" for number in range(3)]))
    whole = [number for place, number in enumerate(order) if cut >= len(b"".join(lines[: place + 1]))]
    assert [number for number in range(3) if answers.offsets[number] >= 0] == sorted(whole)
    assert path.read_bytes() == b"".join(lines[: len(whole)]), (
        "a torn line is not left for the next one to be joined to"
    )
    if len(whole) == 3:
        assert list(answers.in_order()) == list(said.values())


def test_rows_in_another_order_do_not_take_each_others_answers(tmp_path: Path) -> None:
    """The fingerprint of rows does not know their order, so the id is what counts."""
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b"".join(write_line(number, f"r{number}", ANSWER) for number in range(3)) + b"[]\n{}\nnonsense\n")
    assert Answers.open(path, pyarrow.array(["r0", "r2", "r1"])).offsets.tolist()[0] == 0
    assert Answers.open(path, pyarrow.array(["r0", "r2", "r1"])).count() == 1


def test_ids_are_there_and_each_is_ones_own(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tunegate prepare"):
        read_ids(tmp_path / "none.parquet")
    with pytest.raises(InputError, match="tunegate prepare"):
        next(read_rows(tmp_path / "none.parquet"))
    for ids in ([], ["x", "x"]):
        pandas.DataFrame({"id": pandas.Series(ids, dtype=str)}).to_parquet(tmp_path / "rows.parquet")
        with pytest.raises(InputError, match="no rows, or ids that repeat"):
            read_ids(tmp_path / "rows.parquet")


def measure(folder: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """`count` rows are asked, scored, written and summed."""
    folder.mkdir()
    server = Server(monkeypatch)
    server.asked = CountedOnly()
    answers = Answers.open(folder / "a.jsonl", ids_of(count))
    ask(answers, server.rows(count), concurrency=64)
    slicer = make_slicer(Evaluate().slice_definitions, server.rows(count))
    rows = zip(server.rows(count), answers.in_order(), strict=True)
    write_predictions(
        folder, (score(MANIFEST.task, row, answer, Evaluate()) | {"slices": slicer(row)} for row, answer in rows)
    )
    summarise(folder / "predictions.parquet", "label", 20)


def peak_of(folder: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> int:
    """Largest number of bytes, Python's and Arrow's, meanwhile."""
    gc.collect()
    tracemalloc.start()
    measure(folder, monkeypatch, count)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


class CountedOnly(list[str]):
    """Remembers how many, not which."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def append(self, item: str) -> None:
        self.size += 1

    def __len__(self) -> int:
        return self.size


def test_memory_hardly_grows_with_the_number_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row with its answer and its score takes kilobytes as Python objects; figures of columns take tens of bytes."""
    monkeypatch.setattr("eval.measure.predictions.BATCH_ROWS", 128)
    measure(tmp_path / "warm", monkeypatch, 200)  # libraries are imported, untraced
    small, large = (peak_of(tmp_path / str(count), monkeypatch, count) for count in (500, 1_500))
    assert (large - small) / 1_000 < 500, f"{small} bytes for 500 rows, {large} for 1,500"


def test_progress_tells_how_many_of_all_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server, answers = Server(monkeypatch), Answers.open(tmp_path / "a.jsonl", ids_of(5))
    ask(answers, server.rows(5))
    printed = capsys.readouterr()
    assert "evaluate m" in printed.err and "100%" in printed.err and printed.out == ""
    assert json.loads((tmp_path / "a.jsonl").read_text().splitlines()[0]).keys() == {"row", "id", "answer"}
