"""predictions.parquet: one line a test row, with the scores of its answer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from eval.measure.rows import BATCH_ROWS
from eval.metrics.rows import Prediction

TEXTS = {"id", "cluster", "fold", "gold", "answer", "probabilities"}
LISTS = {"gold_labels", "answer_labels", "slices"}
INTEGERS = {"bleu_statistics", "chrf_statistics"}


def write_predictions(target: Path, scored: Iterator[Prediction]) -> Path:
    """predictions.parquet, BATCH_ROWS rows in memory at a time; the first row has the columns of all."""
    import pyarrow.parquet

    path, schema = target / "predictions.parquet", None
    partial = path.with_name(path.name + ".partial")
    while chunk := list(islice(scored, BATCH_ROWS)):
        if schema is None:
            schema = arrow_schema(chunk[0])
            writer = pyarrow.parquet.ParquetWriter(partial, schema)
        writer.write_table(pyarrow.Table.from_pylist(chunk, schema=schema))
    writer.close()
    os.replace(partial, path)
    return path


def arrow_schema(row: Prediction) -> Any:
    """Texts and lists by name, a regression's gold and answer as its other figures: float64."""
    import pyarrow

    def kind(name: str) -> Any:
        if name in LISTS:
            return pyarrow.list_(pyarrow.string())
        if name in INTEGERS:
            return pyarrow.list_(pyarrow.int64())
        if name.startswith("group:"):
            return pyarrow.string()
        return pyarrow.string() if name in TEXTS and not isinstance(row.get(name), float) else pyarrow.float64()

    return pyarrow.schema([(name, kind(name)) for name in row])
