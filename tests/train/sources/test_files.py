"""Every format and place that rows may come from, and what is said of those that cannot be read."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow
import pyarrow.parquet
import pytest

from configs.errors import ExternalError, InputError, RefusedError
from configs.rows.files import FileFormat
from train.sources import files
from train.sources.files import find_files, identify, read_files
from train.sources.source import Fault

pytestmark = pytest.mark.unit
ROWS = [{"text": f"a film, no {number}\nof many", "label": "good"} for number in range(5)]


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_csv(rows: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
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
    "rows.csv.zst": pyarrow.compress(as_csv(ROWS), "zstd", asbytes=True),
    "list.json": json.dumps(ROWS).encode(),
    "list.jsonl": json.dumps(ROWS, indent=1).encode(),
    "within.json": json.dumps({"version": 1, "data": ROWS}).encode(),
    "lines.json": jsonl(ROWS),
    "rows.tsv": as_csv(ROWS, "\t"),
    "semicolons.csv": as_csv(ROWS, ";"),
    "bars.csv": as_csv(ROWS, "|"),
    "utf16.csv": as_csv(ROWS).decode().encode("utf-16"),
    "utf16.jsonl": jsonl(ROWS).decode().encode("utf-16-be"),
    "marked.csv": b"\xef\xbb\xbf" + as_csv(ROWS),
}


def read(*places: str, file_format: FileFormat | None = None) -> list[Any]:
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


@pytest.mark.parametrize("place", ["rows.jsonl", "*.jsonl", "folder/rows.jsonl"])
def test_a_link_out_of_the_checkout_is_followed_only_where_the_machine_allows_it(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "rows.jsonl").write_bytes(jsonl(ROWS))
    Path("rows.jsonl").symlink_to(elsewhere / "rows.jsonl")
    Path("folder").symlink_to(elsewhere)
    with pytest.raises(RefusedError, match="outside the checkout"):
        find_files([place])
    monkeypatch.setenv("TUNEGATE_BASES", str(elsewhere))
    assert read(place) == ROWS


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


@pytest.mark.parametrize("packed", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("harm", [lambda data: data[:-9], lambda data: data[:24] + bytes(40) + data[64:]])
def test_packed_bytes_that_are_torn_or_spoiled_are_the_users_to_mend(
    checkout: Path, packed: Callable[[bytes], bytes], harm: Callable[[bytes], bytes]
) -> None:
    name = f"rows.jsonl.{ {gzip.compress: 'gz', bz2.compress: 'bz2', lzma.compress: 'xz'}[packed] }"
    Path(name).write_bytes(harm(packed(jsonl(ROWS * 9))))
    with pytest.raises(InputError, match=rf"data\.files: {name}: ") as caught:
        read(name)
    assert "whole file" in str(caught.value)


def test_a_date_beyond_pythons_is_said_of_its_file(checkout: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"day": pyarrow.array([3_000_000], pyarrow.date32())}), "rows.parquet")
    with pytest.raises(InputError, match=r"data\.files: rows\.parquet: .*out of range"):
        read("rows.parquet")


def test_zstd_is_unpacked_once_where_fsspec_knows_it_too(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpack = lambda stream, mode="r": pyarrow.CompressedInputStream(stream, "zstd")  # noqa: E731
    monkeypatch.setitem(fsspec.compression.compr, "zstd", unpack)
    monkeypatch.setattr(fsspec.utils, "compressions", fsspec.utils.compressions | {"zst": "zstd"})
    Path("rows.csv.zst").write_bytes(FORMATS["rows.csv.zst"])
    assert read("rows.csv.zst") == ROWS


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


def test_a_byte_order_mark_is_no_part_of_the_first_row(checkout: Path) -> None:
    Path("rows.jsonl").write_bytes(b"\xef\xbb\xbf" + jsonl(ROWS))
    assert read("rows.jsonl") == ROWS


@pytest.mark.parametrize(
    "name",
    ["two words.csv", "für Ärzte.csv", "rows[1].csv", "rows[!a].csv", "-rows.csv", "~rows.csv", "ROWS.CSV", "a#b?.csv",
     "rows.csv.GZ", "no suffix"],
)  # fmt: skip
def test_a_file_is_found_by_the_name_that_it_has(checkout: Path, name: str) -> None:
    content = as_csv(ROWS)
    Path(name).write_bytes(gzip.compress(content) if name.endswith("GZ") else content)
    assert read(name, file_format="csv" if name == "no suffix" else None) == ROWS


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (parquet(ROWS), "a Parquet file: file_format: parquet"),
        (gzip.compress(b"x"), "packed by gzip"),
        (b"PK\x03\x04..", "an Excel workbook"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html><title>Sign in", "a web page"),
    ],
    ids=["parquet", "gzip", "zip", "lfs", "html"],
)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.txt", "rows.json"])
def test_what_is_no_text_is_called_by_its_name(checkout: Path, name: str, start: bytes, what: str) -> None:
    Path(name).write_bytes(start)
    with pytest.raises(InputError, match=what):
        read(name)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.tsv", "rows.txt"])
def test_an_empty_file_is_told(checkout: Path, name: str) -> None:
    Path(name).write_bytes(b"")
    (fault,) = read(name)
    assert isinstance(fault, Fault) and fault.found == "an empty file"


def test_lines_of_a_text_file_are_rows_of_text(checkout: Path) -> None:
    Path("rows.txt").write_bytes("one\r\n\nzwölf\n".encode("utf-16"))
    (batch,) = read_files(["rows.txt"], "", None)
    assert (batch.numbers, batch.rows) == ([1, 3], [{"text": "one"}, {"text": "zwölf"}])
