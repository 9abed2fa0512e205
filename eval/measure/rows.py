"""Test rows as they are read, drawn and asked."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from configs.errors import InputError
from configs.paths import RunPaths
from eval.metrics.rows import Row
from infra.files import rows as files
from infra.served_messages import said

Rows = Callable[[], Iterable[Row]]
BATCH_ROWS = 2048
HINT = "tunegate prepare CONFIG"


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a parquet file, BATCH_ROWS in memory at a time. Raises InputError where it is missing."""
    if not path.exists():
        raise InputError(f"{path}: missing", hint=HINT)
    yield from files.read_rows(path, BATCH_ROWS)


def read_ids(path: Path) -> Any:
    """The ids as a pyarrow array of texts. Raises InputError unless there are some and none repeats."""
    import pyarrow.parquet

    if not path.exists():
        raise InputError(f"{path}: missing", hint=HINT)
    ids = pyarrow.parquet.read_table(path, columns=["id"])["id"].cast("string").combine_chunks()
    if not len(ids) or len(ids.unique()) != len(ids):
        raise InputError(f"{path}: no rows, or ids that repeat", hint=HINT)
    return ids


def draw(rows: Iterable[Row], count: int, seed: int) -> list[tuple[int, Row]]:
    """`count` numbered rows in their order, each as likely as any other, `count` of them in memory (reservoir sampling:
    Vitter 1985, algorithm R)."""
    generator, kept = random.Random(seed), list[tuple[int, Row]]()
    for seen, numbered in enumerate(numbered for numbered in enumerate(rows) if numbered[1]):
        place = seen if seen < count else generator.randint(0, seen)
        if place < count:
            kept[place : place + 1] = [numbered]
    return sorted(kept, key=lambda numbered: numbered[0])


def cluster_of(row: Row, column: str | None) -> str | None:
    """What the row shares with others: its value in a kept column. Raises InputError where the rows have no such."""
    return None if column is None else str(kept_value(row, column, "evaluate.cluster"))


def groups_of(row: Row, columns: list[str]) -> dict[str, str | None]:
    """By `group:COLUMN`, its column of predictions.parquet; None where the row has no value. Raises InputError as
    above."""
    found = {column: kept_value(row, column, "evaluate.groups") for column in columns}
    return {f"group:{column}": None if value is None else str(value) for column, value in found.items()}


def kept_value(row: Row, column: str, setting: str) -> Any:
    kept = json.loads(row.get("kept") or "{}")
    if column not in kept:
        raise InputError(
            f"{setting}: row {row['id']} has no {column!r}, expected one of {', '.join(kept) or 'data.keep'}",
            hint="name it in data.keep: tunegate prepare CONFIG",
        )
    return kept[column]


def question_of(row: Row) -> str:
    """What is asked: of a conversation every turn but the system's and the last answer."""
    if "messages" in row:
        return "\n".join(said(turn) for turn in list(row["messages"])[:-1] if turn["role"] != "system")
    if row.get("text_pair") is not None:
        return f"{row['text']}\n{row['text_pair']}"
    return " ".join(row["tokens"]) if "tokens" in row else str(row["prompt"] if "prompt" in row else row["text"])


def dataset_of(paths: RunPaths) -> str:
    """The fingerprint of a run's test rows. Raises InputError where none were prepared."""
    try:
        return str(json.loads((paths.data / "data_card.json").read_text(encoding="utf8"))["test_fingerprint"])
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{paths.data}/data_card.json: no test rows were prepared", hint="tunegate prepare CONFIG"
        ) from error
