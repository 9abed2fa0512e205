"""CSV as people have it: whatever separates the cells, and however the quotes stand, each line is a row or is told."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.sources import header
from train.sources.delimited import read_csv
from train.sources.source import Fault

pytestmark = pytest.mark.unit
CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), min_size=1, max_size=12)


def read(text: str | bytes) -> list[tuple[int, Any]]:
    return list(read_csv(io.BytesIO(text if isinstance(text, bytes) else text.encode())))


def faults(text: str | bytes) -> list[tuple[int, str]]:
    return [(number, row.found) for number, row in read(text) if isinstance(row, Fault)]


def texts(text: str) -> list[str]:
    return [row["text"] for _, row in read(text) if isinstance(row, dict)]


@given(
    st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8), st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"])
)
def test_whatever_is_written_in_quotes_is_read_and_numbered_by_its_first_line(
    rows: list[tuple[str, str]], delimiter: str, end: str
) -> None:
    written = io.StringIO(newline="")
    writer = csv.writer(written, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(["some text", "a label"])
    lines = []
    for row in rows:
        lines.append(1 + len(io.StringIO(written.getvalue(), newline="").readlines()))
        writer.writerow(row)
    numbered = zip(lines, rows, strict=True)
    assert read(written.getvalue()) == [(number, {"some text": one, "a label": two}) for number, (one, two) in numbered]


@given(st.binary(max_size=80))
def test_no_bytes_whatever_raise(text: bytes) -> None:
    assert all(isinstance(row, dict | Fault) for _, row in read(b"text,label\n" + text))


@given(st.text(alphabet='ab,"\n', max_size=60))
def test_no_line_is_lost_where_quotes_are_anywhere(text: str) -> None:
    """Each line that is not blank begins a row, is within one, or is told."""
    content = "text,label\n" + text
    numbers = [number for number, _ in read(content)]
    assert numbers == sorted(numbers) and len(set(numbers)) == len(numbers)
    assert all(1 <= number <= content.count("\n") + 1 for number in numbers)


@pytest.mark.parametrize("quotes", [('"A 5" screen', "good"), ('"A" "screen"', "good")])
def test_a_stray_quote_costs_its_own_line(quotes: tuple[str, str]) -> None:
    text = "text,label\nfine,good\n" + ",".join(quotes) + "\nbroken,bad\n"
    assert texts(text) == ["fine", "broken"] and [number for number, _ in faults(text)] == [3]


@pytest.mark.parametrize(
    ("lines", "at", "swallowed"),
    [
        (["a,x", '"open,y', "b,x", "c,y"], 3, 2),  # to the end of the file
        (['"open,y', "b,x", "c,y"], 2, 2),
        (["a,x", '"open,y', "b,x", '"c, d",y', "e,x"], 3, 2),  # to the next quote
        (["a,x", "b,y", '"open,y', "c,x", 'a screen of 5",x', "d,y"], 4, 2),  # closed by another stray quote
        (["a,x", "b,y", '"open,y', 'a screen of 5",x', "d,y"], 4, 1),
    ],
)
def test_lines_that_an_open_quote_swallows_are_counted_and_read_again(
    lines: list[str], at: int, swallowed: int
) -> None:
    text = "text,label\n" + "\n".join(lines) + "\n"
    ((number, found),) = faults(text)
    assert number == at and f"swallows {swallowed} lines" in found
    assert len(texts(text)) == len(lines) - 1


@pytest.mark.parametrize("cell", ['"Hello" she said', '"Open', 'a 5" screen', '"'])
def test_between_tabs_a_quote_may_stand_for_itself(cell: str) -> None:
    text = f"text\tlabel\nfine\tgood\n{cell}\tbad\nlast\tgood\n"
    assert texts(text) == ["fine", cell, "last"] and faults(text) == []


def test_text_of_several_lines_is_one_row_although_its_lines_look_like_some() -> None:
    text = 'text,label\nok,good\nso so,bad\n"Dear Sir, thanks\nfor all, really\nbye, good",good\n'
    assert [number for number, _ in read(text)] == [2, 3, 4] and faults(text) == []


def test_a_cell_may_be_of_any_length() -> None:
    long = "x y\n" * 50_000
    found = read(f'text,label\na,good\n"{long}",bad\nb,good\n')
    assert [number for number, _ in found] == [2, 3, 50_004] and found[1][1]["text"] == long


def test_an_open_quote_does_not_take_the_whole_file_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header, "MOST_CHARACTERS", 1000)
    text = 'text,label\n"open,x\n' + "a row,y\n" * 1000
    assert len(texts(text)) == 1000
    assert len(faults(text)) == 1


def test_rows_with_other_cells_than_columns_are_named_with_what_separates_them() -> None:
    found = read("text;label\nonly one\none;two;three\nx;y\n")
    assert [number for number, _ in found] == [2, 3, 4]
    assert [row.found if isinstance(row, Fault) else row["label"] for _, row in found] == ["1 cells", "3 cells", "y"]
    assert isinstance(found[0][1], Fault) and "semicolons" in found[0][1].expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("text,label,text\na,b,c\n", "columns of one name: text"),
        ("good film,good\nbad film,bad\nfine film,good\nawful film,bad\nnice film,good\n", "a first line like a row"),
        ("good film,0.5\nbad film,0.25\nfine film,1\n", "a first line like a row"),
        ("", "an empty file"),
        ("\n\n", "an empty file"),
        ("text,label\n", "a first line and no row"),
        ('text,"label\na,b\n', "a first line that is no CSV"),
    ],
)
def test_a_first_line_that_cannot_name_the_columns_is_one_fault(text: str, why: str) -> None:
    ((number, row),) = read(text)
    assert number == 1 and isinstance(row, Fault) and why in row.found


@pytest.mark.parametrize(
    "text",
    [
        ",text,label\n0,a,good\n1,b,bad\n",  # pandas writes its index so
        "id,2019,2020\n1,5,6\n2,6,7\n",
        "\n\ntext,label\na,good\n",
        "sep=;\ntext;label\na;good\n",
        "text\nonly one column\nanother\n",
    ],
)
def test_a_first_line_that_names_them_is_none(text: str) -> None:
    assert faults(text) == [] and read(text)


def test_the_names_once_more_are_no_row() -> None:
    assert faults("text,label\na,good\ntext,label\nb,bad\n") == [(3, "the names of the columns once more")]


def test_lines_of_another_encoding_are_told_one_by_one() -> None:
    text = "text;label\nschön;good\nfine;bad\nblöd;bad\n".encode("cp1252")
    assert [number for number, _ in faults(text)] == [2, 4]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_any_machine(end: str) -> None:
    assert read(f"text,label{end}a,good{end}b,bad{end}") == [
        (2, {"text": "a", "label": "good"}),
        (3, {"text": "b", "label": "bad"}),
    ]
