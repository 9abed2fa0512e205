"""Every format and place that rows may come from, and what is said of those that cannot be read."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import ExternalError, InputError
from train.sources import files
from train.sources.files import find_files, identify, parse_line, read_csv, read_files
from train.sources.source import Fault

pytestmark = pytest.mark.unit
ROWS = [{"text": f"a film, no {number}\nof many", "label": "good"} for number in range(5)]


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return sink.getvalue()


def arrow(rows: list[dict[str, Any]], new: Callable[..., Any] = pyarrow.ipc.new_file) -> bytes:
    sink, table = io.BytesIO(), pyarrow.Table.from_pylist(rows)
    with new(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


FORMATS = {
    "rows.jsonl": jsonl(ROWS),
    "rows.csv": as_csv(ROWS),
    "rows.parquet": parquet(ROWS),
    "rows.arrow": arrow(ROWS),
    "stream.arrow": arrow(ROWS, pyarrow.ipc.new_stream),
    "rows.jsonl.gz": gzip.compress(jsonl(ROWS)),
    "rows.csv.bz2": bz2.compress(as_csv(ROWS)),
}


def read(*places: str, file_format: str | None = None) -> list[Any]:
    return [row for batch in read_files(list(places), "", file_format) for row in batch.rows]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_rows(checkout: Path, name: str) -> None:
    Path(name).write_bytes(FORMATS[name])
    assert read(name) == ROWS


def test_the_format_may_be_named_where_the_suffix_does_not(checkout: Path) -> None:
    Path("rows.txt").write_bytes(as_csv(ROWS))
    assert read("rows.txt", file_format="csv") == ROWS


def test_rows_come_in_batches_with_their_numbers(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BATCH_ROWS", 2)
    Path("rows.jsonl").write_bytes(b"\n" + jsonl(ROWS))
    assert [batch.numbers for batch in read_files(["rows.jsonl"], "test", None)] == [[2, 3], [4, 5], [6]]


def test_a_pattern_is_every_file_it_matches_once_and_sorted(checkout: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "deep/er/c.jsonl"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(jsonl(ROWS))
    assert find_files(["*.jsonl", "a.jsonl", "**/c.jsonl"]) == ["a.jsonl", "b.jsonl", "deep/er/c.jsonl"]
    with pytest.raises(InputError, match=r"nothing matches \*\.csv"):
        find_files(["*.csv"])


def test_files_of_one_stem_give_ids_that_tell_them_apart(checkout: Path) -> None:
    for name in ("a/rows.jsonl", "b/rows.jsonl", "other.jsonl"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(jsonl(ROWS))
    assert [batch.stem for batch in read_files(["*/rows.jsonl", "other.jsonl"], "", None)] == [
        "a/rows.jsonl",
        "b/rows.jsonl",
        "other",
    ]


def test_a_url_is_read_through_fsspec_patterns_and_compression_too() -> None:
    store = fsspec.filesystem("memory")
    store.pipe({"/bucket/one.jsonl": jsonl(ROWS), "/bucket/two.csv.gz": gzip.compress(as_csv(ROWS))})
    assert read("memory://bucket/one.jsonl") == ROWS
    assert find_files(["memory://bucket/*"]) == ["memory:///bucket/one.jsonl", "memory:///bucket/two.csv.gz"]
    assert read("memory://bucket/*") == ROWS + ROWS
    before = identify("memory://bucket/one.jsonl")
    store.pipe("/bucket/one.jsonl", b"{}\n")
    assert identify("memory://bucket/one.jsonl") != before


def test_a_local_file_is_known_by_its_bytes(checkout: Path) -> None:
    Path("rows.jsonl").write_bytes(b"{}\n")
    before = identify("rows.jsonl")
    Path("rows.jsonl").write_bytes(b"{ }\n")
    assert identify("rows.jsonl") != before


@pytest.mark.parametrize("place", ["memory://nowhere/rows.jsonl", "rows.jsonl"])
def test_a_file_that_is_not_there_is_the_users_to_mend(checkout: Path, place: str) -> None:
    with pytest.raises(InputError, match="no such file"):
        read(place)


def test_a_store_that_fails_is_outside(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError("access denied")

    monkeypatch.setattr(fsspec, "open", refuse)
    with pytest.raises(ExternalError, match="access denied"):
        read("s3://bucket/rows.jsonl")


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow", "rows.jsonl.gz"])
def test_a_file_of_another_kind_than_its_suffix_says_is_named(checkout: Path, name: str) -> None:
    Path(name).write_bytes(b"this is no table at all")
    with pytest.raises(InputError, match=name):
        read(name)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"{oops", "no JSON"),
        (b"[1]", "list"),
        (b"3", "int"),
        (b'{"a": "\xff"}', "no JSON"),
        (b'{"a": "\\ud800"}', "surrogates"),
        (b"[" * 100_000, "no JSON"),
    ],
)
def test_a_line_that_is_no_row_says_what_it_is(line: bytes, found: str) -> None:
    fault = parse_line(line)
    assert isinstance(fault, Fault) and fault.kind == "unreadable" and found in fault.found


@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_no_line_whatever_raises(line: bytes) -> None:
    assert isinstance(parse_line(line), dict | Fault)


def test_a_byte_order_mark_is_no_part_of_the_first_row(checkout: Path) -> None:
    Path("rows.jsonl").write_bytes(b"\xef\xbb\xbf" + jsonl(ROWS))
    assert read("rows.jsonl") == ROWS


def test_rows_of_csv_with_other_cells_than_columns_are_named_by_line() -> None:
    found = list(read_csv(io.BytesIO(b'text,label\n"two\nlines",a\nonly one\none,two,three\nx,y\n')))
    assert [number for number, _ in found] == [3, 4, 5, 6]
    assert [row.found if isinstance(row, Fault) else row["label"] for _, row in found] == [
        "a",
        "1 cells",
        "3 cells",
        "y",
    ]


@given(st.binary(max_size=60))
def test_no_csv_whatever_raises(text: bytes) -> None:
    assert all(isinstance(row, dict | Fault) for _, row in read_csv(io.BytesIO(b"text,label\n" + text)))
