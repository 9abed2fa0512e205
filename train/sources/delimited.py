"""CSV and its kin: cells separated by commas, semicolons, tabs or bars, the first line naming the columns (RFC 4180).

A row's number is that of its first line, as editors count. What a stray quote swallows is read again, line by line.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import BinaryIO

from train.sources.header import (
    DELIMITERS,
    MOST_CHARACTERS,
    Lines,
    Swallowed,
    find_delimiter,
    read_header,
    stated_delimiter,
)
from train.sources.source import Fault, Row
from train.sources.text import not_utf8, open_text

CATEGORIES = 64  # distinct values of a column up to which it is one of categories
LEARNT_ROWS = 1000

Numbered = Iterator[tuple[int, Row | Fault]]


def read_csv(stream: BinaryIO) -> Numbered:
    csv.field_size_limit(MOST_CHARACTERS)
    lines = Lines(open_text(stream, newline="")[1])
    delimiter = stated_delimiter(lines) or find_delimiter(lines)
    number, columns = read_header(lines, delimiter)
    if isinstance(columns, Fault):
        yield number, columns
        return
    rows = 0
    for rows, found in enumerate(read_rows(lines, delimiter, columns), 1):  # noqa: B007
        yield found
    if not rows:
        yield 1, Fault("unreadable", "a first line and no row", "rows below the line that names the columns")


def read_rows(lines: Lines, delimiter: str, columns: list[str]) -> Numbered:
    by = DELIMITERS.get(delimiter, repr(delimiter))
    seen = Seen(len(columns))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.start_row()
        problem, cells = "", list[str]()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (csv.Error, Swallowed) as error:
            problem = str(error) or "too long"
        first = lines.number - len(lines.taken) + 1
        if problem or (len(lines.taken) > 1 and swallows_rows(lines.taken, delimiter, len(columns), seen)):
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
            cells = literal_cells(lines.taken[0], delimiter, len(columns))
            if not cells:
                yield first, stray_quote(lines, problem)
                continue
            lines.give_back(1)
        if fault := not_utf8("".join(lines.taken)):
            yield first, fault
        elif len(cells) == len(columns):
            seen.learn(cells)
            yield (first, dict(zip(columns, cells, strict=True))) if cells != columns else (first, header_again())
        elif cells:
            expected = f"{len(columns)} cells separated by {by}: {', '.join(columns)}"
            yield first, Fault("unreadable", f"{len(cells)} cells", expected)


def literal_cells(line: str, delimiter: str, columns: int) -> list[str]:
    """Of a line with tabs, where a quote may stand for itself (IANA's text/tab-separated-values knows no other); none
    where they are not one a column."""
    cells = line.rstrip("\r\n").split(delimiter) if delimiter == "\t" else []
    return cells if len(cells) == columns else []


def stray_quote(lines: Lines, problem: str) -> Fault:
    """Of this row, whose lines but the first are given back."""
    swallowed, last = len(lines.taken) - 1, lines.number
    if not swallowed:
        return Fault("unreadable", f"no CSV ({problem})", 'cells in quotes, and "" for a quote within one')
    lines.give_back(1)
    found = f"a quote that opens here swallows {swallowed} lines, to line {last}; they were read as rows"
    return Fault("unreadable", found, 'a quote that closes, or "" for a quote within a cell')


def header_again() -> Fault:
    return Fault("unreadable", "the names of the columns once more", "a row: files were joined with their first lines")


class Seen:
    """Values of the columns that hold few different ones."""

    def __init__(self, columns: int) -> None:
        self.values: dict[int, set[str]] = {index: set() for index in range(columns)}
        self.rows = 0

    def learn(self, cells: list[str]) -> None:
        if self.rows >= LEARNT_ROWS:
            return
        self.rows += 1
        for index in list(self.values):
            self.values[index].add(cells[index])
            if len(self.values[index]) > CATEGORIES:
                del self.values[index]

    def knows(self, rows: list[list[str]]) -> bool:
        """Whether all rows have, in one of these columns, values that were there before."""
        return any(all(row[index] in values for row in rows) for index, values in self.values.items())


def swallows_rows(taken: list[str], delimiter: str, columns: int, seen: Seen) -> bool:
    """Whether a quoted cell holds whole rows: each of its lines is one by itself, with values in a column of categories
    that other rows have there. Text of several lines is not that."""
    rows: list[list[str]] = []
    for number, line in enumerate(taken, 1):
        inner = 1 < number < len(taken)  # the stray quotes are in the first and in the last
        cells = next(
            csv.reader(
                [line.rstrip("\r\n")], delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if inner else csv.QUOTE_NONE
            ),
            [],
        )
        if len(cells) != columns:
            return False
        rows.append(cells)
    return columns > 1 and seen.knows(rows)
