"""What one pass over the rows remembers, and what it takes for a group and a time."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from configs.rows.data import Data
from train.data import ingest
from train.data.findings import record_findings
from train.data.ingest import Ingest, ingest_rows
from train.data.splits import order_of, seconds_of
from train.data.table import RowTable
from train.sources.source import Batch, Fault
from train.tokens.encode import Rules

pytestmark = pytest.mark.unit


def settings(**changes: Any) -> Data:
    return Data.model_validate({"source": "files", "files": ["x.jsonl"]} | changes)


def look(tmp_path: Path, rows: list[Any], data: Data, parts: str = "") -> tuple[RowTable, list[dict[str, Any]]]:
    folder = tmp_path / "letters"
    folder.mkdir(exist_ok=True)
    vocabulary = {letter: index for index, letter in enumerate("[]abcdefghijklmnopqrstuvwxyz")}
    letters = Tokenizer(models.WordLevel(vocabulary, unk_token="["))
    letters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    letters.save(str(folder / "tokenizer.json"))
    with record_findings(data.lint, tmp_path / "lint.jsonl") as findings:
        ingest = Ingest(data, "sequence-classification", "single_label", findings)
        batches = [Batch("x.jsonl", parts, list(range(1, len(rows) + 1)), rows, "x")]
        found = ingest_rows(
            batches,
            ingest,
            tmp_path / "rows.parquet",
            lambda shape: Rules(folder, shape, data.train_on, data.long, data.max_tokens),
        )
    return found, pyarrow.parquet.read_table(tmp_path / "rows.parquet").to_pylist() if len(found.kept) else []


@pytest.mark.parametrize("window", [1, 2, 100])
def test_arrays_and_parquet_hold_the_readable_rows_in_the_same_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr(ingest, "WINDOW", window)
    rows = [
        {"text": "a", "label": "x"},
        {"text": "bb"},
        {"text": "ccc", "label": "y", "id": 7},
        Fault("unreadable", "", ""),
        {"text": "dddd", "label": "x"},
    ]
    found, written = look(tmp_path, rows, settings(lint={"missing_field": "drop", "unreadable": "drop"}), "test")
    assert [row["text"] for row in written] == ["a", "ccc", "dddd"] and [row["id"] for row in written] == [
        "x-1",
        "7",
        "x-5",
    ]
    assert (found.number.tolist(), found.length.tolist(), found.part.tolist()) == ([1, 3, 5], [1, 3, 4], [3, 3, 3])
    assert (
        found.location(1) == "x.jsonl:3"
        and found.left_out == {"missing_field": 1, "unreadable": 1}
        and found.unread == 2
    )


def test_rows_of_which_none_can_be_read_leave_empty_arrays(tmp_path: Path) -> None:
    found, written = look(tmp_path, [{"other": 1}], settings(lint={"missing_field": "drop"}))
    assert written == [] and len(found.kept) == 0


def test_mojibake_that_is_kept_is_kept_and_that_is_dropped_is_counted(tmp_path: Path) -> None:
    rows = [{"text": "cafÃ©", "label": "x"}, {"text": "café", "label": "x"}]
    for action, kept in (("keep", 2), ("drop", 1)):
        found, written = look(tmp_path, rows, settings(lint={"mojibake": action}))
        assert len(written) == kept and found.left_out.total() == 2 - kept


def test_a_row_is_counted_by_the_first_reason_for_which_it_goes(tmp_path: Path) -> None:
    found, _ = look(tmp_path, [{"text": "a", "label": "x"}, {"text": "b", "label": "x"}], settings())
    found.leave_out(found.rows_where(found.length == 1), "too_long")
    found.leave_out(found.rows_where(found.number == 1), "duplicate")
    assert found.left_out == {"too_long": 2, "duplicate": 0} and not found.kept.any()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (5, 5),
        ("5.5", 5.5),
        ("1970-01-02", 86400),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:01Z", 1),
        (datetime(1970, 1, 1, 0, 1, tzinfo=UTC), 60),
    ],
)
def test_a_time_is_a_number_or_iso_8601(value: Any, seconds: float) -> None:
    assert seconds_of(value) == seconds


@pytest.mark.parametrize("value", [None, "yesterday", "nan", [], {}, math.inf])
def test_what_is_no_time_is_a_fault_of_its_row(value: Any) -> None:
    data = settings(split={"method": "temporal", "by": "when"})
    assert isinstance(order_of({"when": value}, data), Fault)


@given(st.integers() | st.text(), st.integers() | st.text())
def test_groups_are_told_apart_by_what_they_say(one: Any, other: Any) -> None:
    data = settings(split={"method": "grouped", "by": "who"})
    assert (order_of({"who": one}, data) == order_of({"who": other}, data)) == (str(one) == str(other))
    assert isinstance(order_of({}, data), Fault)
