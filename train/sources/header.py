"""What separates the cells of a CSV file, and what its columns are called."""

from __future__ import annotations

import csv
from collections import deque
from itertools import islice
from typing import TextIO

from train.sources.source import Fault
from train.sources.text import not_utf8

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
HEAD_ROWS = 50  # by which delimiter and header are judged
MOST_CHARACTERS = 1 << 26  # of one row: an open quote may not take the whole file into memory


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
