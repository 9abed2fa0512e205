"""Sampled requests, read and written: what a load test repeats."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypedDict

from configs.errors import InputError
from infra.files.atomic import new_file

Body = dict[str, Any]  # JSON of a user's request
HINT = "trace: state_dir/samples, or a .jsonl or .parquet file of at, path, body (docs/operator.md)"


class SampledRequest(TypedDict):
    """`at`: seconds since the epoch. What sampling wrote besides (slot, status, answer, …) is kept as it is."""

    at: float
    path: str
    body: Body


def read_trace(path: Path) -> list[SampledRequest]:
    """Rows of at, path, body and what else was sampled; of a folder, as sampling fills it, all of its files. Raises
    InputError for what is none."""
    paths = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    rows = [row for one in paths for row in (read_parquet(one) if one.suffix == ".parquet" else read_lines(one))]
    for number, row in enumerate(rows, 1):
        if not (
            isinstance(row, dict)
            and isinstance(row.get("at"), int | float)
            and isinstance(row.get("path"), str)
            and isinstance(row.get("body"), dict)
        ):
            raise InputError(
                f"{path}: row {number} is {str(row)[:80]}, expected at (seconds), path and body", hint=HINT
            )
    if not rows:
        raise InputError(f"{path}: no requests in it", hint=HINT)
    return rows


def read_lines(path: Path) -> list[Any]:
    """A last line that a kill cut short is left out."""
    lines = path.read_text(encoding="utf8").removesuffix("\n").split("\n")
    rows: list[Any] = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            if number < len(lines):
                raise InputError(f"{path}:{number}: found {line[:60]!r}, expected a JSON object", hint=HINT) from None
    return rows


def read_parquet(path: Path) -> list[Any]:
    """Bodies and answers are JSON texts there, for no two need have the same keys."""
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
        return [
            row | {name: json.loads(row[name]) for name in ("body", "answer") if isinstance(row.get(name), str)}
            for row in rows
        ]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {str(error)[:120]}", hint=HINT) from error


def write_parquet(rows: Iterable[SampledRequest], path: Path) -> None:
    """What `read_parquet` reads. Whole or not at all, and its owner's alone: what users wrote is in it."""
    import pyarrow
    import pyarrow.parquet

    texts = [{name: as_text(name, value) for name, value in row.items()} for row in rows]
    with new_file(path, 0o600) as partial:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(texts), partial)


def as_text(name: str, value: object) -> object:
    return json.dumps(value) if name in ("body", "answer") else value
