"""What `tunegate prepare` left: its splits and its data card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.errors import InputError
from configs.paths import RunPaths
from infra.files.atomic import read_json
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


def read_card(paths: RunPaths) -> dict[str, Any]:
    card = read_json(paths.data / "data_card.json")
    if card is None:
        raise InputError(f"{paths.data}/data_card.json: missing", hint="tunegate prepare CONFIG")
    return card
