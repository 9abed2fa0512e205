"""The numbers and short texts in a GGUF file's header (ggml/docs/gguf.md). The vocabulary is passed over: the `gguf`
package reads each of its entries, which takes seconds."""

from __future__ import annotations

import struct
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
TEXT, ARRAY = 8, 9
LONGEST = 1 << 24  # of a key or a text, in bytes: a longer one is no header


def read_gguf_header(path: Path) -> dict[str, Any]:
    """Keys and values, arrays left out. Raises ValueError for what is no GGUF file."""
    found = path.stat()
    return dict(header(path, found.st_mtime_ns, found.st_size))


@lru_cache(maxsize=16)  # each reading of a YAML asks several times, and 50,000 words take 27 ms to pass over
def header(path: Path, _mtime_ns: int, _size: int) -> dict[str, Any]:
    with path.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise ValueError(f"{path}: no GGUF file")
        number(stream, "<I"), number(stream, "<Q")  # version, and how many tensors
        found = {}
        for _ in range(number(stream, "<Q")):
            key, kind = text(stream), number(stream, "<I")
            if kind == ARRAY:
                pass_over(stream)
            else:
                found[key] = text(stream) if kind == TEXT else number(stream, form_of(kind))
        return found


def pass_over(stream: BinaryIO) -> None:
    kind, length = number(stream, "<I"), number(stream, "<Q")
    if kind != TEXT:
        stream.seek(length * struct.calcsize(form_of(kind)), 1)
        return
    for _ in range(length):
        stream.seek(number(stream, "<Q"), 1)


def form_of(kind: int) -> str:
    if kind not in NUMBERS:
        raise ValueError(f"a value of kind {kind}")
    return NUMBERS[kind]


def number(stream: BinaryIO, form: str) -> Any:
    size = struct.calcsize(form)
    found = stream.read(size)
    if len(found) < size:
        raise ValueError("a header cut short")
    return struct.unpack(form, found)[0]


def text(stream: BinaryIO) -> str:
    length = number(stream, "<Q")
    if length > LONGEST:
        raise ValueError(f"a text of {length} bytes")
    return stream.read(length).decode("utf8", errors="replace")
