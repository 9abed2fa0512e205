"""Rows of one's own, read in batches, whatever the format: local files, patterns, and the URLs that fsspec knows."""

from __future__ import annotations

import lzma
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from glob import has_magic
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from configs.digest import key_of
from configs.errors import ExternalError, InputError, RefusedError
from configs.rows.data import Data
from configs.rows.files import FileFormat, matches, suffix_format
from configs.run.base import ROOTS, may_be_read
from train.sources.delimited import read_csv
from train.sources.json_rows import read_json
from train.sources.source import BATCH_ROWS, Batch, Fault, Row, Source
from train.sources.tables import read_arrow, read_parquet
from train.sources.text import not_utf8, open_text

# What is raised by packed bytes that end early or are no more what they were, and by dates beyond Python's.
TORN = (EOFError, zlib.error, lzma.LZMAError, OverflowError)


def find_files(locations: list[str]) -> list[str]:
    """Patterns (of paths and of URLs) become the files they match, sorted. Raises InputError where none matches,
    RefusedError where a link leads out of the checkout: a merge request must not read what it likes of a runner."""
    found: list[str] = []
    for location in locations:
        is_pattern = "://" in location and has_magic(location)
        new = glob_url(location) if is_pattern else [location] if "://" in location else matches(location)
        if outside_checkout := [match for match in new if "://" not in match and not may_be_read(Path(match))]:
            raise RefusedError(
                f"data.files: {outside_checkout[0]}: its real place is {Path(outside_checkout[0]).resolve()}, outside "
                "the checkout and all that this machine allows",
                hint=f"copy it into the checkout, or export {ROOTS}=FOLDER, where you trust what lies there",
            )
        if not new:
            raise InputError(f"data.files: nothing matches {location}", hint="name files that are there")
        found += [match for match in new if match not in found]
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
    except (ImportError, ValueError, OSError, *TORN) as error:
        if "://" not in location:
            raise InputError(
                f"data.files: {location}: {error}",
                hint="give a whole file of the format that its suffix or data.file_format names",
            ) from error
        raise ExternalError(
            f"data.files: {location}: {error}", hint="look at the address and at the credentials in the environment"
        ) from error


@contextmanager
def open_bytes(location: str) -> Iterator[BinaryIO]:
    """Decompressed by suffix; credentials come from the environment alone."""
    import fsspec

    place = location if "://" in location else os.path.abspath(location)  # a name that begins with ~ is no home
    is_zstd = location.lower().endswith(".zst")  # fsspec knows it only beside a package that is not ours
    with outside(location), fsspec.open(place, "rb", compression=None if is_zstd else "infer") as stream:
        if not is_zstd:
            yield stream
            return
        import pyarrow

        yield pyarrow.CompressedInputStream(stream, "zstd")


def identify(location: str) -> str:
    """Changes when the bytes do: sha256 of a local file, what the store says of its own (an ETag, say) of a remote
    one."""
    from fsspec.core import url_to_fs

    from configs.digest import sha256_of

    with outside(location):
        filesystem, path = url_to_fs(location)
        return str(filesystem.ukey(path)) if "://" in location else sha256_of(Path(location))


def read_files(locations: list[str], part: str, file_format: FileFormat | None) -> Iterator[Batch]:
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


def read_text(stream: BinaryIO) -> Iterator[tuple[int, Row | Fault]]:
    """A row a line, blank lines left out."""
    _, text = open_text(stream, newline="\n")
    number = 0
    for number, line in enumerate(text, 1):
        if line.strip():
            yield number, not_utf8(line) or {"text": line.rstrip("\r\n")}
    if not number:
        yield 1, Fault("unreadable", "an empty file", "rows")


READERS: dict[FileFormat, Callable[[BinaryIO], Iterator[tuple[int, Row | Fault]]]] = {
    "jsonl": read_json,
    "json": read_json,
    "csv": read_csv,
    "tsv": read_csv,
    "text": read_text,
    "parquet": read_parquet,
    "arrow": read_arrow,
}


def read_own_files(data: Data) -> Source:
    given = data.split.method == "given"
    parts = {"train" if given else "": data.files, "validation": data.validation_files, "test": data.test_files}
    return source_of(parts, data.file_format)


def source_of(parts: dict[str, list[str]], file_format: FileFormat | None) -> Source:
    """`parts`: the locations of each split, "" where the rows are yet to be split."""

    def batches() -> Iterator[Batch]:
        for part, locations in parts.items():
            yield from read_files(locations, part, file_format)

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
