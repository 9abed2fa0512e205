"""Bytes to text: UTF-8, or what a byte order mark (or its absence) shows; what is neither is said by line."""

from __future__ import annotations

import codecs
import io
import re
from typing import BinaryIO

from train.sources.source import Fault

MARKS = (  # those of UTF-32 begin with those of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
NOT_UTF8 = re.compile("[\udc80-\udcff]+")  # as `surrogateescape` (PEP 383) keeps bytes that are no UTF-8
HEAD_BYTES = 65_536
# How files begin that are no text, and what helps.
OTHERS = {
    b"PAR1": "a Parquet file: file_format: parquet",
    b"ARROW1": "an Arrow file: file_format: arrow",
    b"\x1f\x8b": "packed by gzip: give its name the suffix .gz",
    b"BZh": "packed by bzip2: give its name the suffix .bz2",
    b"\xfd7zXZ": "packed by xz: give its name the suffix .xz",
    b"\x28\xb5\x2f\xfd": "packed by zstd: give its name the suffix .zst",
    b"PK\x03\x04": "a zip archive or an Excel workbook: unpack it, or save the sheet as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: save the sheet as CSV UTF-8",
    b"version https://git-lfs": "a pointer of Git LFS: git lfs pull",
    b"<!DOCTYPE html": "a web page: the download failed, or wanted a login",
}


class Prefixed(io.RawIOBase):
    """A stream of which `head` was read already."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self.head, self.rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed asks for any writable buffer
        found = self.head[: len(buffer)] or self.rest.read(len(buffer))
        self.head = self.head[len(buffer) :]
        buffer[: len(found)] = found
        return len(found)


def open_text(stream: BinaryIO, newline: str) -> tuple[str, io.TextIOWrapper]:
    """The encoding, and lines that end as `newline` says (`io.TextIOWrapper`), the byte order mark taken off. Bytes
    that are no UTF-8 stay in the text as lone surrogates: `not_utf8` says what they are. Raises ValueError for a file
    that is no text."""
    head = stream.read(HEAD_BYTES)
    for start, what in OTHERS.items():
        if head.startswith(start):
            raise ValueError(f"no text but {what}")
    encoding, mark = encoding_of(head)
    raw = io.BufferedReader(Prefixed(head[mark:], stream), HEAD_BYTES)
    errors = "surrogateescape" if encoding == "utf-8" else "replace"
    return encoding, io.TextIOWrapper(raw, encoding=encoding, errors=errors, newline=newline)


def encoding_of(head: bytes) -> tuple[str, int]:
    """The encoding, and the length of its mark. UTF-16 without a mark shows by the zeros between its first letters."""
    for mark, encoding in MARKS:
        if head.startswith(mark):
            return encoding, len(mark)
    even, odd = head[:64:2], head[1:64:2]
    if len(odd) > 1 and not any(odd) and all(even):
        return "utf-16-le", 0
    if len(odd) > 1 and not any(even) and all(odd):
        return "utf-16-be", 0
    return "utf-8", 0


def not_utf8(line: str) -> Fault | None:
    """What is wrong with a line that held bytes of another encoding."""
    if line.isascii() or (found := NOT_UTF8.search(line)) is None:
        return None
    byte = found.group().encode("utf-8", "surrogateescape")
    near = line[max(0, found.start() - 12) : found.end() + 12].encode("utf-8", "surrogateescape")
    guess = near.decode("cp1252", "replace").strip()
    return Fault(
        "unreadable",
        f"no UTF-8: byte 0x{byte[0]:02x} (as Windows-1252 it reads {guess!r})",
        "UTF-8, or UTF-16 with its mark: iconv -f WINDOWS-1252 -t UTF-8 FILE",
    )
