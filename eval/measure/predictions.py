"""predictions.parquet: one line a test row, with the scores of its answer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from eval.measure.rows import BATCH_ROWS, Row

TEXTS, LISTS, INTEGERS = (
    {"id", "gold", "answer", "probabilities"},
    {"gold_labels", "answer_labels", "slices"},
    {"bleu_statistics", "chrf_statistics"},
)


def write_predictions(target: Path, scored: Iterator[Row]) -> None:
    """predictions.parquet, BATCH_ROWS rows in memory at a time; the first row has the columns of all."""
    import pyarrow.parquet

    partial, schema = target / "predictions.parquet.partial", None
    while chunk := list(islice(scored, BATCH_ROWS)):
        if schema is None:
            schema = arrow_schema(chunk[0])
            writer = pyarrow.parquet.ParquetWriter(partial, schema)
        writer.write_table(pyarrow.Table.from_pylist(chunk, schema=schema))
    writer.close()
    os.replace(partial, target / "predictions.parquet")


def arrow_schema(row: Row) -> Any:
    """Texts and lists by name, a regression's gold and answer as its other figures: float64."""
    import pyarrow

    def kind(name: str) -> Any:
        if name in LISTS:
            return pyarrow.list_(pyarrow.string())
        if name in INTEGERS:
            return pyarrow.list_(pyarrow.int64())
        return pyarrow.string() if name in TEXTS and not isinstance(row[name], float) else pyarrow.float64()

    return pyarrow.schema([(name, kind(name)) for name in row])
