"""Rows as they lie in a split's parquet file: what a person wrote, and the tokens that `prepare` made of it.

Calls and tools are JSON texts there, for no two need have the same keys; what a row does not have is null there and
absent here. Files of earlier versions hold `role` and `content` of a turn alone, and no tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]  # its keys hang on the task
BATCH_ROWS = 2048
TOKENS = ("input_ids", "loss_mask", "first_subwords", "prompt_ids", "chosen_ids", "rejected_ids", "length")


def read_rows(path: Path, batch_rows: int = BATCH_ROWS) -> Iterator[Row]:
    """What people wrote, `batch_rows` in memory at a time; no tokens."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        columns = content_columns(file.schema_arrow.names)
        for batch in file.iter_batches(batch_size=batch_rows, columns=columns):
            yield from map(from_columns, batch.to_pylist())


def content_columns(names: list[str]) -> list[str]:
    return [name for name in names if name not in TOKENS]


def from_columns(row: Row) -> Row:
    """A row of the file as a row of ours."""
    if "messages" not in row:
        return row
    turns = [without_nulls(turn) for turn in row["messages"]]
    found = row | {"messages": turns}
    tools = found.pop("tools", None)
    return found | {"tools": json.loads(tools)} if tools else found


def without_nulls(turn: Row) -> Row:
    kept = {name: value for name, value in turn.items() if value is not None or name == "content"}
    return kept | {"tool_calls": json.loads(kept["tool_calls"])} if "tool_calls" in kept else kept


def to_columns(row: Row) -> Row:
    """A row of ours as the file takes it."""
    if "messages" not in row:
        return row
    turns = [
        turn | {"tool_calls": as_json(turn["tool_calls"])} if "tool_calls" in turn else turn for turn in row["messages"]
    ]
    return row | {"messages": turns} | ({"tools": as_json(row["tools"])} if "tools" in row else {})


def as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
