"""Rows of one's own, read in batches: JSONL, CSV, Parquet, Arrow; local files, patterns, and the URLs that fsspec
knows."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from glob import glob, has_magic
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from configs.digest import key_of
from configs.errors import ExternalError, InputError
from configs.rows.data import Data
from configs.rows.files import suffix_format
from train.sources.source import Batch, Fault, Row, Source

BATCH_ROWS = 8192  # some megabytes of Python objects, whatever the file's size


def find_files(locations: list[str]) -> list[str]:
    """Patterns (of paths and of URLs) become the files they match, sorted. Raises InputError where none matches."""
    found: list[str] = []
    for location in locations:
        matches = (
            [location]
            if not has_magic(location)
            else glob_url(location)
            if "://" in location
            else sorted(glob(location, recursive=True))
        )
        if not matches:
            raise InputError(f"data.files: nothing matches {location}", hint="name files that are there")
        found += [match for match in matches if match not in found]
    return found


def glob_url(location: str) -> list[str]:
    from fsspec.core import url_to_fs

    with outside(location):
        filesystem, path = url_to_fs(location)
        return sorted(str(filesystem.unstrip_protocol(match)) for match in filesystem.glob(path))


@contextmanager
def outside(location: str) -> Iterator[None]:
    """What fsspec and its drivers raise, in our own words."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"data.files: {location}: no such file", hint="name files that are there") from error
    except (ImportError, ValueError, OSError) as error:
        if "://" not in location:
            raise InputError(
                f"data.files: {location}: {error}",
                hint="give a file of the format that its suffix or data.format names",
            ) from error
        raise ExternalError(
            f"data.files: {location}: {error}", hint="look at the address and at the credentials in the environment"
        ) from error


@contextmanager
def open_bytes(location: str) -> Iterator[BinaryIO]:
    """Decompressed by suffix; credentials come from the environment alone."""
    import fsspec

    with outside(location), fsspec.open(location, "rb", compression="infer") as stream:
        yield stream


def identify(location: str) -> str:
    """Changes when the bytes do: sha256 of a local file, what the store says of its own (an ETag, say) of a remote
    one."""
    from fsspec.core import url_to_fs

    from configs.digest import sha256_of

    with outside(location):
        filesystem, path = url_to_fs(location)
        return str(filesystem.ukey(path)) if "://" in location else sha256_of(Path(location))


def read_files(locations: list[str], part: str, file_format: str | None) -> Iterator[Batch]:
    """Batches of at most BATCH_ROWS rows. Raises InputError or ExternalError for a file that cannot be read at all."""
    files = find_files(locations)
    stems = Counter(PurePosixPath(file).name.split(".")[0] for file in files)
    for file in files:
        stem = PurePosixPath(file).name.split(".")[0]
        reader = READERS[file_format or suffix_format(file) or "jsonl"]
        with open_bytes(file) as stream:
            numbered = iter(reader(stream))
            while chunk := list(islice(numbered, BATCH_ROWS)):
                numbers, rows = zip(*chunk, strict=True)
                yield Batch(file, part, list(numbers), list(rows), stem if stems[stem] == 1 else file)


def read_jsonl(stream: BinaryIO) -> Iterator[tuple[int, Row | Fault]]:
    for number, line in enumerate(stream, 1):
        if line.strip():
            yield number, parse_line(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)


def parse_line(line: bytes) -> Row | Fault:
    """One JSON object; half of a surrogate pair is no character that any file could hold."""
    try:
        found = json.loads(line)
        if b"\\u" in line:
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        return Fault("unreadable", f"no JSON ({error})", "one JSON object in UTF-8")
    return found if isinstance(found, dict) else Fault("unreadable", type(found).__name__, "one JSON object")


def read_csv(stream: BinaryIO) -> Iterator[tuple[int, Row | Fault]]:
    """The first line names the columns. A row's number is that of its last line, as editors count."""
    reader = csv.DictReader(io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline=""), strict=True)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield reader.line_num, Fault("unreadable", f"no CSV ({error})", "cells as the first line names them")
            continue
        if row is None:
            return
        cells = (
            len(row) + len(row.get(None, [])) - (None in row) - sum(value is None for value in row.values())
        )  # None: surplus cells
        names = reader.fieldnames or []
        yield (
            reader.line_num,
            dict(row)
            if cells == len(names)
            else Fault("unreadable", f"{cells} cells", f"{len(names)}: {', '.join(names)}"),
        )


def read_parquet(stream: BinaryIO) -> Iterator[tuple[int, Row | Fault]]:
    import pyarrow.parquet

    return number_batches(pyarrow.parquet.ParquetFile(stream).iter_batches(batch_size=BATCH_ROWS))


def read_arrow(stream: BinaryIO) -> Iterator[tuple[int, Row | Fault]]:
    """The file format (Feather 2) or the stream format, which `datasets` writes."""
    import pyarrow

    start = stream.read(6)
    stream.seek(0)
    if start == b"ARROW1":
        reader = pyarrow.ipc.open_file(stream)
        return number_batches(reader.get_batch(index) for index in range(reader.num_record_batches))
    return number_batches(pyarrow.ipc.open_stream(stream))


def number_batches(batches: Iterable[Any]) -> Iterator[tuple[int, Row | Fault]]:
    return enumerate((row for batch in batches for row in batch.to_pylist()), 1)


READERS = {"jsonl": read_jsonl, "csv": read_csv, "parquet": read_parquet, "arrow": read_arrow}


def read_own_files(data: Data) -> Source:
    given = data.split.method == "given"
    parts = {"train" if given else "": data.files, "validation": data.validation_files, "test": data.test_files}

    def batches() -> Iterator[Batch]:
        for part, locations in parts.items():
            yield from read_files(locations, part, data.format)

    def identity() -> str:
        return key_of(
            {part: [(file, identify(file)) for file in find_files(locations)] for part, locations in parts.items()}
        )

    return Source(
        "files: " + ", ".join(location for locations in parts.values() for location in locations),
        "as its owner states",
        batches,
        identity,
    )
