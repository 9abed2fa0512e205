"""Typed columns become what JSON can hold, and numbers of classes their names."""

from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from datasets import ClassLabel, Sequence, Value

from train.sources.source import Fault
from train.sources.tables import read_arrow, read_parquet

pytestmark = pytest.mark.unit


def through(table: pyarrow.Table, way: str) -> list[Any]:
    sink = io.BytesIO()
    if way == "parquet":
        pyarrow.parquet.write_table(table, sink)
    else:
        new = pyarrow.ipc.new_file if way == "arrow" else pyarrow.ipc.new_stream
        with new(sink, table.schema) as writer:
            writer.write_table(table)
    sink.seek(0)
    return [row for _, row in (read_parquet if way == "parquet" else read_arrow)(sink)]


WAYS = pytest.mark.parametrize("way", ["parquet", "arrow", "stream"])
NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


@WAYS
@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pyarrow.array([date(2026, 1, 2)]), "2026-01-02"),
        (pyarrow.array([NOON]), "2026-01-02T12:00:00+00:00"),
        (pyarrow.array([1_000_000_001], pyarrow.timestamp("ns")), "1970-01-01T00:00:01"),
        (pyarrow.array([timedelta(minutes=1)]), 60.0),
        (pyarrow.array([Decimal("2.00")]), 2),
        (pyarrow.array([Decimal("2.5")]), 2.5),
        (pyarrow.array(["a"]).dictionary_encode(), "a"),
        (pyarrow.array([b"text"]), "text"),
        (pyarrow.array([b"\xff\xd8"]), b"\xff\xd8"),
        (pyarrow.array([1.5], pyarrow.float32()).cast(pyarrow.float16()), 1.5),
        (pyarrow.array([["a", None]]), ["a", None]),
        (pyarrow.array([[{"when": date(2026, 1, 2)}]]), [{"when": "2026-01-02"}]),
        (pyarrow.array([[("k", 1)]], pyarrow.map_(pyarrow.string(), pyarrow.int64())), [["k", 1]]),
        (pyarrow.array([None], pyarrow.date32()), None),
        (pyarrow.array([True]), True),
        (pyarrow.array([3], pyarrow.uint8()), 3),
    ],
)
def test_every_type_becomes_what_json_holds(way: str, column: pyarrow.Array, expected: Any) -> None:
    (row,) = through(pyarrow.table({"x": column}), way)
    assert row == {"x": expected} and type(row["x"]) is type(expected)
    if not isinstance(expected, bytes):
        assert json.loads(json.dumps(row)) == row


@WAYS
def test_classes_have_their_names_in_lists_and_structs_too(way: str) -> None:
    features = datasets.Features(
        {
            "label": ClassLabel(names=["bad", "good"]),
            "tags": Sequence(ClassLabel(names=["O", "B-PER"])),
            "inner": {"kind": ClassLabel(names=["k"]), "n": Value("int64")},
            "many": [{"kind": ClassLabel(names=["k"])}],
        }
    )
    rows = {
        "label": [1, -1, None],
        "tags": [[0, 1], [], None],
        "inner": [{"kind": 0, "n": 0}] * 3,
        "many": [[{"kind": 0}], [], None],
    }
    found = through(datasets.Dataset.from_dict(rows, features=features).with_format("arrow")[:], way)
    assert [row["label"] for row in found] == ["good", None, None], "-1 is no label"
    assert found[0]["tags"] == ["O", "B-PER"] and found[0]["inner"] == {"kind": "k", "n": 0}
    assert found[0]["many"] == [{"kind": "k"}]


@WAYS
def test_columns_of_one_name_and_a_table_without_rows_are_told(way: str) -> None:
    text = pyarrow.array(["a"])
    for table, why in (
        (pyarrow.Table.from_arrays([text, text], ["text", "text"]), "columns of one name: text"),
        (pyarrow.table({"text": pyarrow.array([], pyarrow.string())}), "a table without rows"),
    ):
        (fault,) = through(table, way)
        assert isinstance(fault, Fault) and fault.found == why


@pytest.mark.parametrize("metadata", [{b"huggingface": b"{oops"}, {b"huggingface": b'{"info": 3}'}, {b"pandas": b"{}"}])
def test_other_words_beside_a_schema_are_left_alone(metadata: dict[bytes, bytes]) -> None:
    assert through(pyarrow.table({"x": [1]}).replace_schema_metadata(metadata), "parquet") == [{"x": 1}]
