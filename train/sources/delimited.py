"""CSV and its kin: cells separated by commas, semicolons, tabs or bars, the first line naming the columns (RFC 4180).

A row's number is that of its first line, as editors count. What a stray quote swallows is read again, line by line.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO, TextIO

from train.sources.source import Fault, Row
from train.sources.text import not_utf8, open_text

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
HEAD_ROWS = 50  # by which delimiter and header are judged
MOST_CHARACTERS = 1 << 26  # of one row: an open quote may not take the whole file into memory
CATEGORIES = 64  # distinct values of a column up to which it is one of categories
LEARNT_ROWS = 1000

Numbered = Iterator[tuple[int, Row | Fault]]


class Swallowed(Exception):
    """A row that has become too long to be one."""


class Lines:
    """Lines with their numbers; those of the row that is being read can be given back."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = iter(stream)
        self.again: deque[str] = deque()
        self.taken: list[str] = []
        self.number = 0  # of the last line given
        self.size = 0

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        if self.size > MOST_CHARACTERS and len(self.taken) > 1:
            raise Swallowed
        line = self.again.popleft() if self.again else next(self.stream)
        self.taken.append(line)
        self.number += 1
        self.size += len(line)
        return line

    def start_row(self) -> None:
        self.taken.clear()
        self.size = 0

    def give_back(self, kept: int) -> None:
        """All lines of this row but the first `kept`."""
        self.again.extendleft(reversed(self.taken[kept:]))
        self.number -= len(self.taken) - kept
        del self.taken[kept:]


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


def stated_delimiter(lines: Lines) -> str | None:
    """Excel may write it first: `sep=;`."""
    first = next(lines, "").rstrip("\r\n")
    if first.lower().startswith("sep=") and len(first) == 5:
        lines.start_row()
        return first[4]
    lines.give_back(0)
    return None


def find_delimiter(lines: Lines) -> str:
    """The one that splits the first line and, as evenly as any, those after it; commas where none does."""
    head = list(islice(lines, HEAD_ROWS))
    lines.give_back(0)

    def fit(delimiter: str) -> tuple[bool, float, int]:
        rows = [row for row in csv.reader(head, delimiter=delimiter) if row]
        wide = len(rows[0]) if rows else 0
        return wide > 1, sum(len(row) == wide for row in rows) / max(1, len(rows)), wide

    return max(DELIMITERS, key=fit)


def read_header(lines: Lines, delimiter: str) -> tuple[int, list[str] | Fault]:
    """The number of the first line that is not blank, and the names of the columns; a fault where it cannot be them."""
    row: list[str] = []
    number = 1
    try:
        while not row:
            lines.start_row()
            row = next(csv.reader(lines, delimiter=delimiter, strict=True))
            number = lines.number - len(lines.taken) + 1
    except StopIteration:
        return 1, Fault("unreadable", "an empty file", "a line that names the columns, and rows")
    except (csv.Error, Swallowed) as error:
        return 1, Fault("unreadable", f"a first line that is no CSV ({error})", "a line that names the columns")
    names = [name.strip() for name in row]
    if fault := not_utf8("".join(lines.taken)):
        return number, fault
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        return number, Fault("unreadable", f"columns of one name: {', '.join(twice)}", "each name once")
    if looks_like_data(names, peek(lines, delimiter)):
        found = delimiter.join(row)
        return number, Fault("unreadable", f"a first line like a row: {found[:60]!r}", "a line that names the columns")
    return number, names


def peek(lines: Lines, delimiter: str) -> list[list[str]]:
    lines.start_row()
    head = list(islice(lines, HEAD_ROWS))
    lines.give_back(0)
    return [row for row in csv.reader(head, delimiter=delimiter) if row]


def looks_like_data(names: list[str], rows: list[list[str]]) -> bool:
    """Whether the first line holds a value that the lines below it repeat in its column, or a number with decimals as
    they do: a file without names."""
    for index, name in enumerate(names):
        column = [row[index].strip() for row in rows if len(row) == len(names)]
        if name and column.count(name) > 1 and rows.count(names) == 0:
            return True
        if "." in name and is_number(name) and column and all(map(is_number, column)):
            return True
    return False


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_rows(lines: Lines, delimiter: str, columns: list[str]) -> Numbered:
    by = DELIMITERS.get(delimiter, repr(delimiter))
    expected = f"{len(columns)} cells separated by {by}: {', '.join(columns)}"
    seen = Seen(len(columns))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.start_row()
        problem = None
        cells: list[str] = []
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (csv.Error, Swallowed) as error:
            problem = str(error) or "too long"
        first, several = lines.number - len(lines.taken) + 1, len(lines.taken) > 1
        swallows = several and (problem is not None or swallows_rows(lines.taken, delimiter, len(columns), seen))
        if swallows:
            count, last = len(lines.taken) - 1, lines.number
            lines.give_back(1)
            problem = f"a quote that opens here swallows {count} lines, to line {last}; they were read as rows"
            yield first, Fault("unreadable", problem, 'a quote that closes, or "" for a quote within a cell')
        elif problem is not None:
            yield first, Fault("unreadable", f"no CSV ({problem})", 'cells in quotes, and "" for a quote within one')
        elif fault := not_utf8("".join(lines.taken)):
            yield first, fault
        elif len(cells) == len(columns):
            seen.learn(cells)
            yield (first, dict(zip(columns, cells, strict=True))) if cells != columns else (first, header_again())
        elif cells:
            yield first, Fault("unreadable", f"{len(cells)} cells", expected)
        if problem is not None:
            reader = csv.reader(lines, delimiter=delimiter, strict=True)


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
        quoting = csv.QUOTE_NONE if number in (1, len(taken)) else csv.QUOTE_MINIMAL  # the stray quotes are in these
        cells = next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter, quoting=quoting), [])
        if len(cells) != columns:
            return False
        rows.append(cells)
    return columns > 1 and seen.knows(rows)
