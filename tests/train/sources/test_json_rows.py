"""JSON however it lies in a file: the same rows, read one at a time, and what is wrong where."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.sources import json_rows, json_scanner
from train.sources.json_rows import parse_line, read_json
from train.sources.source import Fault

pytestmark = pytest.mark.unit
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(
    st.dictionaries(st.sampled_from(["text", "label", "messages"]), JSON, min_size=1), min_size=2, max_size=4
)
LAYOUTS: dict[str, Callable[[list[Any]], str]] = {
    "lines": lambda rows: "\n".join(map(json.dumps, rows)),
    "a list": json.dumps,
    "a list of several lines": lambda rows: json.dumps(rows, indent=2, ensure_ascii=False),
    "within an object": lambda rows: json.dumps({"data": rows}),
    "within an object of several lines": lambda rows: json.dumps({"version": "1", "data": rows, "n": [1]}, indent=1),
    "objects of several lines": lambda rows: "\n".join(json.dumps({"id": 1} | row, indent=1) for row in rows),
}


def read(text: str | bytes) -> list[tuple[int, Any]]:
    return list(read_json(io.BytesIO(text if isinstance(text, bytes) else text.encode())))


@settings(deadline=None)
@given(ROWS, st.sampled_from(list(LAYOUTS)), st.sampled_from([1, 5, 1 << 20]))
def test_every_layout_gives_the_same_rows_however_much_is_read_at_a_time(
    rows: list[dict[str, Any]], layout: str, chunk: int
) -> None:
    before, json_scanner.CHUNK = json_scanner.CHUNK, chunk
    try:
        found = read(LAYOUTS[layout](rows))
    finally:
        json_scanner.CHUNK = before
    expected = [{"id": 1} | row for row in rows] if layout.startswith("objects") else rows
    assert [row for _, row in found] == expected
    assert [number for number, _ in found] == list(range(1, len(rows) + 1))


@pytest.mark.parametrize(
    ("text", "numbers", "found"),
    [
        ('{oops\n{"a": 1}\n', [1, 2], "no JSON"),
        ('{"a": "cut off,\n{"a": 1}\n', [1, 2], "no JSON"),
        ('\n\n{"a": 1}\n\n[1]\n{"a": 2}', [3, 5, 6], "list"),
        ('[{"a": 1},\n{"a" 2},\n{"a": 3}]', [1, 2], "line 2: Expecting ':'"),
        ('[{"a": 1}\n{"a": 2}]', [1, 2], "no comma and no end of the list (line 2)"),
        ('[{"a": 1}] more', [1, 2], "text after the end of the list"),
        ("[]", [1], "an empty list"),
        ('{"train": [{"a": 1}],\n"test": [{"a": 2}]}', [1, 1, 1], "several lists: train, test"),
        ("", [1], "an empty file"),
        ('[{"a": 1}, 3]', [1, 2], "int"),
        ('{\n"a": ', [1], "no JSON"),
    ],
)
def test_what_is_no_row_says_where_it_is(text: str, numbers: list[int], found: str) -> None:
    rows = read(text)
    assert [number for number, _ in rows] == numbers
    ((_, fault),) = [(number, row) for number, row in rows if isinstance(row, Fault)]
    assert fault.kind == "unreadable" and found in fault.found


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"{oops", "no JSON"),
        (b"[1]", "list"),
        (b"3", "int"),
        (b'{"a": "\xff"}', "no UTF-8: byte 0xff"),
        (b'{"a": "\\ud800"}', "surrogates"),
        (b"[" * 100_000, "no JSON"),
    ],
)
def test_a_line_that_is_no_row_says_what_it_is(line: bytes, found: str) -> None:
    fault = parse_line(line)
    assert isinstance(fault, Fault) and fault.kind == "unreadable" and found in fault.found


@given(st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_line_and_no_file_whatever_raises(content: bytes) -> None:
    assert isinstance(parse_line(content), dict | Fault)
    for start in (b" ", b"[", b"{\n", b'{"a":'):  # a space: no file of another kind begins so
        assert all(isinstance(row, dict | Fault) for _, row in read(start + content))


def test_a_separator_that_json_allows_ends_no_line() -> None:
    assert read('{"a": "x\u2028y\u0085z"}\n{"a": "b"}\n') == [(1, {"a": "x\u2028y\u0085z"}), (2, {"a": "b"})]


def test_a_row_of_its_own_keys_is_not_taken_for_a_list_of_rows() -> None:
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    assert read(json.dumps(row)) == read(json.dumps(row, indent=1)) == [(1, row)]


def test_a_long_list_is_not_held_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_scanner, "CHUNK", 1 << 14)
    monkeypatch.setattr(json_rows, "LONGEST_LINE", 1 << 14)
    content = io.BytesIO(b"[" + b",".join([b'{"text": "' + b"x" * 200 + b'"}'] * 5_000) + b"]")
    tracemalloc.start()
    count = sum(1 for _ in read_json(content))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 5_000 and peak < len(content.getbuffer()) / 4
