"""samples.parquet: what was measured of single examples, one long table whatever it came from.

| column | |
|---|---|
| id | of the example; of a behaviour test the pair's |
| cluster | what examples share (evaluate.cluster); null: nothing |
| source | test, judge, harness:TASK, behaviour:TEST:PERTURBATION, divergence:RELEASE |
| metric | as a rule names it; of a harness task METRIC; of behaviour original, changed, flipped, gap, moved, answered |
| value | float64 |
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.run.metrics import METRICS

if TYPE_CHECKING:
    from pandas import DataFrame

FILE = "samples.parquet"
DIVERGENCE = "divergence.parquet"  # as samples.parquet: a parent's rows against one release
TEST, JUDGE = "test", "judge"
OF_JUDGE = ("judge_score", "judge_missing", "judge_agreement")
BATCH_ROWS = 65_536


class Sample(NamedTuple):
    """A line of samples.parquet."""

    id: str
    cluster: str | None
    source: str
    metric: str
    value: float


def source_of(metric: str) -> str:
    """Of what a rule names, but for a harness task's."""
    return JUDGE if metric in OF_JUDGE else TEST


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    """BATCH_ROWS of them in memory at a time; whole or not at all."""
    import pyarrow
    import pyarrow.parquet

    texts = pyarrow.string()
    kinds = {"id": texts, "cluster": texts, "source": texts, "metric": texts, "value": pyarrow.float64()}
    schema, rows = pyarrow.schema([*kinds.items()]), iter(samples)
    partial = path.with_name(path.name + ".partial")
    with pyarrow.parquet.ParquetWriter(partial, schema) as writer:
        while chunk := list(islice(rows, BATCH_ROWS)):
            columns = dict(zip(kinds, zip(*chunk, strict=True), strict=True))
            writer.write_table(pyarrow.table({name: list(values) for name, values in columns.items()}, schema=schema))
    os.replace(partial, path)


def samples_of_predictions(predictions: Path, names: Iterable[str]) -> Iterator[Sample]:
    """Of the test rows: `names`, as far as they are means over rows. A column that says nothing of a row (null) makes
    no sample of it; what is no number stays one that is none, and no rule passes by it."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(predictions) as file:
        known = file.schema_arrow.names
        columns = {name: column for name in names if (column := column_of(name)) in known}
        wanted = ["id", *(["cluster"] if "cluster" in known else []), *dict.fromkeys(columns.values())]
        for batch in file.iter_batches(columns=wanted):
            found = batch.to_pydict()
            clusters = found.get("cluster") or [None] * len(found["id"])
            for place, (identity, cluster) in enumerate(zip(found["id"], clusters, strict=True)):
                for name, column in columns.items():
                    value = found[column][place]
                    drawn = source_of(name) != JUDGE or (value is not None and not math.isnan(value))
                    if value is not None and drawn:
                        yield Sample(str(identity), cluster, source_of(name), name, float(value))


def column_of(metric: str) -> str | None:
    """The column of predictions.parquet whose mean a metric is: its own name for one of evaluate.metrics."""
    return METRICS[metric].per_example if metric in METRICS else metric


def select(samples: DataFrame, source: str, metric: str) -> DataFrame:
    """The columns id, cluster, value of one metric of one source."""
    chosen = (samples["source"] == source) & (samples["metric"] == metric)
    found: DataFrame = samples.loc[chosen, ["id", "cluster", "value"]].reset_index(drop=True)
    return found


def samples_in(path: Path) -> Iterator[Sample]:
    """Of a file that write_samples wrote, in turn. Not by way of pandas, which knows no text that is missing."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=Sample._fields):
            yield from (Sample(*row) for row in zip(*batch.to_pydict().values(), strict=True))


def read_samples(*paths: Path) -> Any:
    """One table of those that are there; None where none is. Raises ValueError or OSError for one that is torn."""
    import pandas

    found = [pandas.read_parquet(path) for path in paths if path.exists()]
    return pandas.concat(found, ignore_index=True) if found else None
