"""From sources to checked rows: read, rendered, measured, drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.data_card import NearDuplicates
from configs.run.config import RunConfig
from infra.files.rows import content_columns, from_columns
from train.data.findings import Findings
from train.data.ingest import Ingest, ingest_rows
from train.data.lint import lint_balance, lint_lengths, lint_table
from train.data.mixture import weigh
from train.data.near_duplicates import find_near, sample_rows
from train.data.splits import SPLITS, TEST, TRAIN, UNUSED, VALIDATION, assign, draw_order, require_rows
from train.data.table import RowTable
from train.rows.shape import Shape, words_asked
from train.sources.source import Fault, Source
from train.tokens.encode import Rules

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Drawn:
    """Rows that were looked at, and the split of each; `order` is that in which they were drawn."""

    table: RowTable
    order: NDArray[Any]
    split: NDArray[Any]
    near: NearDuplicates


def inspect(
    config: RunConfig, source: Source, rows: Path, findings: Findings, rules: Callable[[Shape], Rules] | None
) -> Drawn:
    """Every check, in the order in which a row's first fault counts; `rows` gets all that could be read."""
    ingest = Ingest(config.data, config.task, config.problem, findings)
    table = ingest_rows(source.batches(), ingest, rows, rules)
    lint_table(table, findings)
    lint_lengths(table, findings, config.data.max_tokens)
    if table.shape in ("label", "labels", "tags"):
        lint_balance(
            Counter({label: count for label, count in ingest.labels.items() if label != "O" or table.shape != "tags"}),
            findings,
        )
    order = weigh(draw(rows, table, config.data.seed), table, config.data, source)
    split = assign(order, config.data, part=table.part, group=table.group, time=table.time, stratum=table.answer)
    sample = sample_rows(order, split, config.data.lint.near_sample)
    for pair in find_near(texts_of_splits(rows, split), split, sample, config.data.lint.near_threshold):
        fault = Fault(
            pair.kind,
            f"{table.location(pair.other)} nearly the same (Jaccard {pair.likeness:.2f})",
            f"less than {config.data.lint.near_threshold:g}",
        )
        if not findings.add(*table.where(pair.row), fault):
            table.leave_out([pair.row], pair.kind)
            split[pair.row] = UNUSED
    require_rows(split, len(SPLITS))
    near: NearDuplicates = {
        "threshold": config.data.lint.near_threshold,
        "train_rows": int((split == TRAIN).sum()),
        "train_rows_indexed": len(sample),
    }
    return Drawn(table, order, split, near)


def draw(rows: Path, table: RowTable, seed: int) -> NDArray[Any]:
    import pyarrow.parquet

    if not table.kept.any():
        return table.rows_where(table.kept)
    ids = pyarrow.parquet.read_table(rows, columns=["id"])["id"]
    kept = table.rows_where(table.kept)
    drawn: NDArray[Any] = kept[draw_order(ids.take(kept).combine_chunks(), seed)]
    return drawn


def row_groups(path: Path, *, tokens: bool = True) -> Iterator[tuple[int, Any]]:
    """The index of the first row, and the row group as a pyarrow table; without `tokens` what people wrote alone."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        start, columns = 0, None if tokens else content_columns(file.schema_arrow.names)
        for index in range(file.num_row_groups):
            table = file.read_row_group(index, columns=columns)
            yield start, table
            start += table.num_rows


def texts_of_splits(rows: Path, split: NDArray[Any]) -> Iterator[tuple[int, str]]:
    """Test rows, then validation rows, then train rows, each with its index."""
    if not len(split):
        return
    import numpy

    for code in (TEST, VALIDATION, TRAIN):
        for start, table in row_groups(rows, tokens=False):
            wanted = numpy.flatnonzero(split[start : start + table.num_rows] == code)
            if len(wanted):
                yield from (
                    (start + int(index), words_asked(from_columns(row)))
                    for index, row in zip(wanted, table.take(wanted).to_pylist(), strict=True)
                )
