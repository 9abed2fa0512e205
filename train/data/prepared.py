"""What `tunegate prepare` left: its splits and its data card."""

from __future__ import annotations

from pathlib import Path

from configs.data_card import DataCard, read_data_card
from configs.errors import InputError
from configs.paths import RunPaths
from train.sources.source import Row


def record_of(paths: RunPaths) -> Path:
    return paths.root / "lint.jsonl"


def read_split(paths: RunPaths, name: str) -> list[Row]:
    """The rows of one split, as prepare wrote them. Raises InputError where it has not."""
    import pyarrow.parquet

    path = paths.data / f"{name}.parquet"
    if not path.exists():
        raise InputError(f"{path}: missing", hint="tunegate prepare CONFIG")
    rows: list[Row] = pyarrow.parquet.read_table(path).to_pylist()
    return rows


def read_card(paths: RunPaths) -> DataCard:
    """Raises InputError where prepare has written none."""
    card = read_data_card(paths)
    if card is None:
        raise InputError(f"{paths.data}/data_card.json: missing", hint="tunegate prepare CONFIG")
    return card
