"""From sources to checked rows: read, rendered, measured, drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.data_card import NearDuplicates
from configs.errors import InputError
from configs.rows.data import Data
from configs.run.config import RunConfig
from infra.files.rows import content_columns, from_columns
from train.data.findings import Findings, count_kinds
from train.data.folds import fold_of_rows, rows_for_folds, split_by_fold
from train.data.ingest import ingest_rows, open_ingest
from train.data.lint import lint_balance, lint_lengths, lint_spelling, lint_table
from train.data.mixture import weigh
from train.data.near_duplicates import SHARED_SAMPLE, Asked, Pair, find_near, sample_rows, shared_runs
from train.data.splits import (
    SPLITS,
    TEST,
    TRAIN,
    UNUSED,
    VALIDATION,
    Drawn,
    assign,
    draw_order,
    require_rows,
    rows_needed,
)
from train.data.table import RowTable
from train.rows.shape import Shape, asked_of
from train.sources.source import Fault, Row, Source
from train.tokens.encode import Rules

LABELLED: dict[Shape, str] = {"label": "label", "labels": "labels", "tags": "tags"}  # shape to column

if TYPE_CHECKING:
    from numpy.typing import NDArray


def read_rows(
    config: RunConfig, source: Source, rows: Path, findings: Findings, rules: Callable[[Shape], Rules] | None
) -> RowTable:
    """Every check of single rows and of rows that are wholly the same, in the order in which a row's first fault
    counts; `rows` gets all that could be read."""
    ingest = open_ingest(config, source, findings)
    table = ingest_rows(source.batches(), ingest, rows, rules)
    ingest.expectations.judge(findings)
    lint_table(table, findings)
    lint_lengths(table, findings, config.data.max_tokens)
    if table.shape in LABELLED:
        lint_balance(
            Counter({label: count for label, count in ingest.labels.items() if label != "O" or table.shape != "tags"}),
            findings,
        )
        lint_spelling(ingest.labels, findings)
    return table


def split_rows(config: RunConfig, source: Source, table: RowTable, rows: Path, findings: Findings) -> Drawn:
    """The splits, and the rows that are nearly another one. Raises InputError where the rows are too few, RefusedError
    where it is their faults that left too few; either with the faults."""
    import numpy

    data, folded = config.data, config.evaluate.folds is not None
    try:
        order = weigh(draw(rows, table, data.seed), table, data, source)
        codes = fold_of_rows(config, table, rows, order) + 1 if folded else assign_rows(order, table, data)
        sample = sample_rows(order, codes, data.lint.near_sample)
        shared = count_shared(rows, order, len(codes))
        texts = texts_where(rows, codes > 0) if folded else texts_of_splits(rows, codes)
        leave_out_near(find_near(texts, codes, sample, data.lint.near_threshold, shared), table, codes, findings)
        near: NearDuplicates = {
            "threshold": data.lint.near_threshold,
            "train_rows": int((codes > 0).sum() if folded else (codes == TRAIN).sum()),
            "train_rows_indexed": int((codes > 0).sum()) if folded else len(sample),
            "shared_runs": len(shared),
        }
        drawn, folds = Drawn(table, order, codes, near), list[Drawn]()
        if folded:
            drawn, folds = split_by_fold(replace(drawn, fold=numpy.where(codes > 0, codes - 1, UNUSED)), data)
        for one in folds or [drawn]:
            require_rows(one.split, len(SPLITS))
            require_both(table, one.split)
            require_labels(table.shape, labels_by_split(rows, table.shape, one.split))
        return drawn
    except InputError as error:
        lost = findings.by_kind("refuse", "drop")
        if not lost:
            raise
        head = f"{error.message.removeprefix('data: ')}; of {table.rows_read} read, {count_kinds(lost)}"
        refusal = findings.refusal(head, "refuse", "drop")
        if min(table.rows_read, data.max_rows or table.rows_read) < least_rows(config):
            # Without a fault there would be too few, as far as is known: a file that cannot be read counts as a row.
            raise InputError(refusal.message, hint=f"{refusal.hint}; or {error.hint}") from error
        raise refusal from error


def assign_rows(order: NDArray[Any], table: RowTable, data: Data) -> NDArray[Any]:
    """As train.data.splits.assign, of what is remembered of the rows."""
    import numpy

    return assign(
        order,
        data,
        grouped=bool(table.group.any()),
        part=table.part,
        group=numpy.where(table.group > 0, table.group, table.identity),
        time=table.time,
        stratum=table.answer,
    )


def require_both(table: RowTable, split: NDArray[Any]) -> None:
    """Raises InputError where the judged answers that are to be learnt are all good, or all bad."""
    import numpy

    if table.shape == "unpaired" and len(numpy.unique(table.answer[split == TRAIN])) == 1:
        kind = "good" if table.answer[split == TRAIN][0] else "bad"
        raise InputError(
            f"data: found train rows that are all {kind} answers, expected some of both",
            hint="give rows with desirable true and false",
        )


def labels_by_split(rows: Path, shape: Shape, split: NDArray[Any]) -> dict[str, set[str]]:
    """The labels or tags of each split's rows, a row group in memory at a time; none of other shapes."""
    import numpy
    import pyarrow.compute
    import pyarrow.parquet

    found: dict[str, set[str]] = {name: set() for name in SPLITS}
    if shape not in LABELLED:
        return found
    with pyarrow.parquet.ParquetFile(rows) as file:
        start = 0
        for index in range(file.num_row_groups):
            column = file.read_row_group(index, columns=[LABELLED[shape]]).column(0)
            here = split[start : start + len(column)]
            for code, name in enumerate(SPLITS):
                part = column.take(numpy.flatnonzero(here == code))
                flat = part if shape == "label" else pyarrow.compute.list_flatten(part)
                found[name] |= set(pyarrow.compute.unique(flat).to_pylist())
            start += len(column)
    return found


def require_labels(shape: Shape, by_split: dict[str, set[str]]) -> None:
    """Raises InputError where there is one label alone, or none, or a label has no train row; a rare tag needs none."""
    if shape not in LABELLED:
        return
    labels, train = sorted(set().union(*by_split.values())), by_split["train"]
    missing = [label for label in labels if label not in train] if shape != "tags" else []
    if missing or len(train) < 2:
        raise InputError(
            f"data: labels {labels}, of which the train rows lack {missing}; "
            "expected two labels or more, each with train rows",
            hint="data.split: {method: stratified} gives each label its share, the first row to training; "
            "or give more rows of each label",
        )


def enough(table: RowTable, config: RunConfig) -> bool:
    """Whether the rows without a fault can be split."""
    return int(table.kept.sum()) >= least_rows(config)


def least_rows(config: RunConfig) -> int:
    """Fewer cannot be split."""
    folds = config.evaluate.folds
    return rows_for_folds(config.data, folds) if folds else rows_needed(config.data)


def leave_out_near(pairs: Iterable[Pair], table: RowTable, split: NDArray[Any], findings: Findings) -> None:
    """Rows that are nearly another one are dealt with as the config says; `split` is changed."""
    threshold = findings.lint.near_threshold
    for pair in pairs:
        if table.shape in ("preference", "unpaired") and pair.kind == "near_duplicate" and pair.likeness == 1:
            continue  # one prompt may have several preferences
        fault = Fault(
            pair.kind,
            f"{table.location(pair.other)} nearly the same (Jaccard {pair.likeness:.2f})",
            f"less than {threshold:g}",
        )
        if not findings.add(*table.where(pair.row), fault):
            table.leave_out([pair.row], pair.kind)
            split[pair.row] = UNUSED


def draw(rows: Path, table: RowTable, seed: int) -> NDArray[Any]:
    import pyarrow.parquet

    if not table.kept.any():
        return table.rows_where(table.kept)
    ids = pyarrow.parquet.read_table(rows, columns=["id"])["id"]
    kept = table.rows_where(table.kept)
    if len(kept) < len(ids):
        ids = ids.take(kept)
    drawn: NDArray[Any] = kept[draw_order(ids, seed)]
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


def texts_of_splits(rows: Path, split: NDArray[Any]) -> Iterator[tuple[int, Asked]]:
    """Test rows, then validation rows, then train rows, each with its index."""
    for code in (TEST, VALIDATION, TRAIN):
        yield from texts_where(rows, split == code)


def texts_where(rows: Path, wanted: NDArray[Any]) -> Iterator[tuple[int, Asked]]:
    return ((index, Asked(*asked_of(row))) for index, row in rows_where(rows, wanted))


def rows_where(rows: Path, wanted: NDArray[Any]) -> Iterator[tuple[int, Row]]:
    """Those for which `wanted` is true, each with its index."""
    import numpy

    if not wanted.any():
        return
    for start, table in row_groups(rows, tokens=False):
        here = numpy.flatnonzero(wanted[start : start + table.num_rows])
        if len(here):
            found = map(from_columns, table.take(here).to_pylist())
            yield from ((start + int(index), row) for index, row in zip(here, found, strict=True))


def count_shared(rows: Path, order: NDArray[Any], count: int) -> frozenset[int]:
    """The runs of words that many rows share, by the first rows as drawn."""
    import numpy

    wanted = numpy.zeros(count, dtype=bool)
    wanted[order[:SHARED_SAMPLE]] = True
    return shared_runs(asked.whole for _, asked in texts_where(rows, wanted))
