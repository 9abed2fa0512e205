"""`evaluate.folds`: each row is held out in one fold, and answered by a model of the others' rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import InputError
from configs.rows.data import Data
from configs.run.config import RunConfig
from train.data.splits import TEST, TRAIN, UNUSED, VALIDATION, Drawn, hold_out
from train.data.table import RowTable, hash_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

HINT = "lower evaluate.folds or data.validation_rows, or give more rows"


def draw_folds(order: NDArray[Any], count: int, group: NDArray[Any], stratum: NDArray[Any]) -> NDArray[Any]:
    """The fold of each row, from 0; UNUSED of those that are not in `order`. No group is in two folds.

    Groups are dealt out largest first, in the order drawn among equals, each to the fold that has the least of its
    strata so far (as scikit-learn's StratifiedGroupKFold), then the fewest rows. Where every row is a group of its own,
    no fold has two rows of a stratum more than another. Raises InputError for fewer groups than folds.
    """
    import numpy

    fold = numpy.full(len(group), UNUSED, dtype="int8")
    names, first, inverse, sizes = numpy.unique(
        group[order], return_index=True, return_inverse=True, return_counts=True
    )
    if len(names) < count:
        raise InputError(f"data: found {len(names)} rows or groups of them, expected {count} folds of some", hint=HINT)
    strata, codes = numpy.unique(stratum[order], return_inverse=True)
    counts = numpy.zeros((count, len(strata)))
    share = 1 / numpy.bincount(codes)
    members = numpy.split(numpy.argsort(inverse, kind="stable"), numpy.cumsum(sizes)[:-1])
    for index in numpy.lexsort((first, -sizes)):
        own = numpy.bincount(codes[members[index]], minlength=len(strata))
        cost = (2 * counts * own * share).sum(axis=1)
        chosen = int(numpy.lexsort((counts.sum(axis=1), cost.round(12)))[0])
        counts[chosen] += own
        fold[order[members[index]]] = chosen
    return fold


def fold_of_rows(config: RunConfig, table: RowTable, rows: Path, order: NDArray[Any]) -> NDArray[Any]:
    """By what the rows share (data.split.by, evaluate.cluster, one row's pieces), and of a classifier in equal shares
    of labels. Raises InputError where rows, groups or rows of a label are too few."""
    import numpy

    count = config.evaluate.folds or 0
    order = order[: config.data.max_rows]
    if len(order) < (least := rows_for_folds(config.data, count)):
        raise InputError(
            f"data: found {len(order)} usable rows, expected at least {least} for {count} folds", hint=HINT
        )
    group = numpy.where(table.group > 0, table.group, table.identity)
    if config.data.split.method != "grouped" and config.evaluate.cluster is not None:
        group = clusters_of(rows, config.evaluate.cluster)
    classes = table.shape in ("label", "labels")
    stratum = table.answer if classes else numpy.zeros(len(table.answer), dtype="uint64")
    if table.shape == "label":
        fewest = int(numpy.unique(stratum[order], return_counts=True)[1].min())
        if fewest < count:
            raise InputError(
                f"data: found a label with {fewest} rows, expected {count} or more of each, one a fold", hint=HINT
            )
    return draw_folds(order, count, group, stratum)


def rows_for_folds(data: Data, count: int) -> int:
    """The fewest of which each fold leaves a train row beside the validation rows."""
    return -(-(data.validation_rows + 1) * count // (count - 1))


def clusters_of(rows: Path, column: str) -> NDArray[Any]:
    """A hash of each row's value of a kept column."""
    import numpy
    import pyarrow.parquet

    kept = pyarrow.parquet.read_table(rows, columns=["kept"])["kept"].to_pylist()
    return numpy.array([hash_text(str(json.loads(one)[column])) for one in kept], dtype="uint64")


def split_by_fold(drawn: Drawn, data: Data) -> tuple[Drawn, list[Drawn]]:
    """The splits of the release, trained on all rows, and those of each fold's model. Validation rows are drawn as
    data.split says, of what is not held out; the release's test rows are those of all folds."""
    import numpy

    assert drawn.fold is not None
    table, fold, used = drawn.table, drawn.fold, drawn.order[drawn.fold[drawn.order] != UNUSED]
    group = numpy.where(table.group > 0, table.group, table.identity)
    none_tested = data.model_copy(update={"test_rows": 0})

    def splits(held: NDArray[Any]) -> NDArray[Any]:
        split = numpy.full(len(fold), UNUSED, dtype="int8")
        split[held] = TEST
        hold_out(
            split, used[~held[used]], none_tested, grouped=bool(table.group.any()), group=group, stratum=table.answer
        )
        if not (split == TRAIN).any() or not (split == VALIDATION).any():
            raise InputError("data: found a fold without train or validation rows beside it", hint=HINT)
        return split

    numbers = range(int(fold.max()) + 1)
    folds = [replace(drawn, split=splits(fold == number), fold=None) for number in numbers]
    return replace(drawn, split=splits(numpy.zeros(len(fold), dtype=bool))), folds
