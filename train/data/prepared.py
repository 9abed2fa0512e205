"""What `tunegate prepare` left: its splits and its data card."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from configs.data_card import DataCard, read_data_card
from configs.errors import InputError
from configs.paths import RunPaths
from infra.files.rows import TOKENS, content_columns, from_columns, read_rows
from train.sources.source import Row

TRAINED = (*TOKENS, "label", "labels", "value", "tags", "desirable")  # columns that training reads


def record_of(paths: RunPaths) -> Path:
    return paths.root / "lint.jsonl"


def read_split(paths: RunPaths, name: str) -> list[Row]:
    """The rows of one split without their tokens, as prepare wrote them. Raises InputError where it has not."""
    return list(read_rows(split_of(paths, name)))


def first_rows(paths: RunPaths, name: str, count: int) -> list[Row]:
    """Raises as `read_split`, and reads no more than it gives."""
    return list(islice(read_rows(split_of(paths, name), max(1, count)), count))


def rows_at(paths: RunPaths, name: str, wanted: list[int]) -> list[Row]:
    """The rows of one split at these indices, in their order, without tokens."""
    path = split_of(paths, name)
    return list(map(from_columns, take(path, content_columns(columns_of(path)), wanted)))


def read_tokens(paths: RunPaths, name: str, wanted: list[int] | None = None) -> list[Row]:
    """Tokens, labels and tags of one split's rows, of all or of those at these indices, in their order. Raises
    InputError where prepare has written none, as an earlier version's has."""
    path = tokenized_split(paths, name)
    return take(path, [one for one in columns_of(path) if one in TRAINED], wanted)


def take(path: Path, columns: list[str], wanted: list[int] | None) -> list[Row]:
    """A row group in memory at a time."""
    import numpy
    import pyarrow.parquet

    found: dict[int, Row] = {}
    start = 0
    with pyarrow.parquet.ParquetFile(path) as file:
        for index in range(file.num_row_groups):
            end = start + file.metadata.row_group(index).num_rows
            here = (
                sorted({row for row in wanted if start <= row < end}) if wanted is not None else list(range(start, end))
            )
            if here:
                table = file.read_row_group(index, columns=columns).take(numpy.array(here) - start)
                found |= zip(here, table.to_pylist(), strict=True)
            start = end
    return [found[row] for row in (found if wanted is None else wanted)]


def columns_of(path: Path) -> list[str]:
    import pyarrow.parquet

    return list(pyarrow.parquet.read_schema(path).names)


def count_rows(paths: RunPaths, name: str) -> int:
    import pyarrow.parquet

    return int(pyarrow.parquet.read_metadata(split_of(paths, name)).num_rows)


def split_of(paths: RunPaths, name: str) -> Path:
    path = paths.data / f"{name}.parquet"
    if not path.exists():
        raise InputError(f"{path}: missing", hint="tunegate prepare CONFIG")
    return path


def tokenized_split(paths: RunPaths, name: str) -> Path:
    """Raises InputError where the split is missing or has no tokens."""
    path = split_of(paths, name)
    if "length" not in columns_of(path):
        raise InputError(f"{path}: has no tokens, for an earlier version made it", hint="tunegate prepare CONFIG")
    return path


def read_card(paths: RunPaths) -> DataCard:
    """Raises InputError where prepare has written none."""
    card = read_data_card(paths)
    if card is None:
        raise InputError(f"{paths.data}/data_card.json: missing", hint="tunegate prepare CONFIG")
    return card
