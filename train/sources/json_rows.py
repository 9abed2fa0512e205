"""JSON: an object a line, an array, an object that holds one list of rows, or objects one after the other; by what the
file shows, whatever it is called. Memory stays flat, for a row is read at a time."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from itertools import count
from typing import Any, BinaryIO

from train.sources.json_scanner import CUT, Scanner
from train.sources.source import Fault, Row
from train.sources.text import not_utf8, open_text

LONGEST_LINE = 1 << 24  # a longer one is read as a list is, a value at a time
# Lists that are part of a row: an object that begins with one of them is a row itself.
WITHIN_A_ROW = {"messages", "conversations", "conversation", "prompt", "completion", "chosen", "rejected", "tools",
                "history", "tokens", "words", "tags", "ner_tags", "labels"}  # fmt: skip

Numbered = Iterator[tuple[int, Row | Fault]]


def read_json(stream: BinaryIO) -> Numbered:
    """A row's number is its line, where each has one of its own, else its place in the list."""
    _, text = open_text(stream, newline="\n")
    lead, first = next_line(text, LONGEST_LINE)
    mark = first.lstrip()[:1]
    if not mark:
        yield 1, Fault("unreadable", "an empty file", "rows")
    elif mark == "[":
        yield from read_list(Scanner(text, lead + first))
    else:
        blank, second = next_line(text, LONGEST_LINE)
        if mark == "{" and goes_on(first) and not isinstance(whole(second), dict):
            yield from read_objects(Scanner(text, lead + first + blank + second))
        else:
            yield from read_lines(text, lead, first, blank, second)


def next_line(text: io.TextIOWrapper, most: int = -1) -> tuple[str, str]:
    """The blank lines before it, and the next line with a character in it, of `most` characters; "" at the end."""
    blank = ""
    while (line := text.readline(most)) and not line.strip():
        blank += line
    return blank, line


def whole(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def goes_on(line: str) -> bool:
    """Whether it is the beginning of a value that ends in a later line."""
    try:
        json.loads(line)
    except json.JSONDecodeError as error:
        return error.pos >= len(line.rstrip()) or (not line.endswith("\n") and error.msg.startswith(CUT))
    except (ValueError, RecursionError):
        return False
    return False


def read_lines(text: io.TextIOWrapper, lead: str, first: str, blank: str, second: str) -> Numbered:
    """An object a line. A file of one line may be an object that holds the rows."""
    number = 1 + lead.count("\n")
    if not second and (rows := rows_within(whole(first))):
        yield from enumerate(map(as_row, rows), 1)
        return
    for line, ends in ((first, 1 + blank.count("\n")), (second, 1)):
        if line:
            yield number, parse_line(line if line.endswith("\n") else line + text.readline())
        number += ends
    for number, line in enumerate(text, number):  # noqa: B020
        if line.strip():
            yield number, parse_line(line)


def rows_within(found: Any) -> list[Any]:
    """The rows of an object that holds one list of them, as {"version": 1, "data": [...]}; else none."""
    lists = [(key, value) for key, value in found.items() if holds_rows(value)] if isinstance(found, dict) else []
    alone = len(lists) == 1 and lists[0][0] not in WITHIN_A_ROW
    return lists[0][1] if alone and (len(found) == 1 or len(lists[0][1]) > 1) else []


def holds_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def parse_line(line: str | bytes) -> Row | Fault:
    """One JSON object; half of a surrogate pair is no character that any file could hold."""
    text = line.decode("utf-8", "surrogateescape") if isinstance(line, bytes) else line
    if fault := not_utf8(text):
        return fault
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        return Fault("unreadable", f"no JSON ({error.msg}, column {error.colno})", "one JSON object in UTF-8")
    except (ValueError, RecursionError) as error:
        return Fault("unreadable", f"no JSON ({error})", "one JSON object in UTF-8")
    return as_row(found, "\\u" in text)


def as_row(found: Any, has_escapes: bool = True) -> Row | Fault:
    if not isinstance(found, dict):
        return Fault("unreadable", type(found).__name__, "one JSON object")
    try:
        if has_escapes:
            text = json.dumps(found, ensure_ascii=False)
            if fault := not_utf8(text):
                return fault
            text.encode()
    except (ValueError, RecursionError) as error:
        return Fault("unreadable", f"no JSON ({error})", "one JSON object in UTF-8")
    return found


def read_list(scanner: Scanner) -> Numbered:
    number = 0
    for number, row in elements(scanner):
        yield number, row
    if scanner.peek():
        yield number + 1, scanner.fault("text after the end of the list", "one list of JSON objects")


def elements(scanner: Scanner) -> Numbered:
    """Rows, counted from 1. What is no JSON ends them, for nothing tells where the next one begins."""
    scanner.take("[")
    if scanner.take("]"):
        yield 1, scanner.fault("an empty list", "rows")
        return
    for number in count(1):
        try:
            found = scanner.value()
        except ValueError as error:
            yield number, Fault("unreadable", f"no JSON ({error})", "JSON objects; the rows after it are not read")
            scanner.drain()
            return
        yield number, not_utf8(scanner.raw()) or as_row(found, "\\u" in scanner.raw())
        if scanner.take("]"):
            return
        if not scanner.take(","):
            yield number + 1, scanner.fault("no comma and no end of the list", "JSON objects, commas between them")
            scanner.drain()
            return


def read_objects(scanner: Scanner) -> Numbered:
    """Objects of several lines: rows one after the other, or one that holds a list of rows."""
    number, lists = 0, list[str]()
    while scanner.peek():
        number += 1
        row: Row = {}
        try:
            for key in keys(scanner):
                if scanner.at_rows() and key not in WITHIN_A_ROW and number == 1:
                    lists.append(key)
                    yield from elements(scanner)
                else:
                    row[key] = scanner.value()
        except ValueError as error:
            yield number, Fault("unreadable", f"no JSON ({error})", "JSON objects; the rows after it are not read")
            return
        if not lists:
            yield number, as_row(row)
        elif len(lists) > 1 or scanner.peek():
            what = f"several lists: {', '.join(lists)}" if len(lists) > 1 else f"more than the list {lists[0]}"
            yield 1, Fault("unreadable", what, "one list of rows, or one JSON object a line (jq -c)")
            return


def keys(scanner: Scanner) -> Iterator[str]:
    """The keys of the object that begins here; the caller reads each value before it asks for the next."""
    if not scanner.take("{"):
        raise ValueError(f"line {scanner.line()}: no object")
    if scanner.take("}"):
        return
    while True:
        key = scanner.value()
        if not isinstance(key, str) or not scanner.take(":"):
            raise ValueError(f"line {scanner.line()}: no key")
        yield key
        if scanner.take("}"):
            return
        if not scanner.take(","):
            raise ValueError(f"line {scanner.line()}: no comma and no end of the object")
