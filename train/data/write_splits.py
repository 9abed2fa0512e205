"""The splits written as parquet, and described for the data card."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.data_card import DataCard, LengthHistogram
from configs.digest import key_of
from configs.rows.data import Data
from configs.rows.tags import OUTSIDE
from configs.run.config import RunConfig
from infra.files.rows import content_columns, from_columns
from train.data.compare import RowFigures
from train.data.findings import Findings
from train.data.fingerprint import HASH_BYTES, fingerprint_of, fingerprint_of_splits, hash_row
from train.data.ingest import Window
from train.data.mixture import count_parts
from train.data.pipeline import row_groups
from train.data.splits import SPLITS, UNUSED, Drawn
from train.rows.shape import arrow_schema, labels_of
from train.sources.source import Row, Source
from train.tokens.encode import VERSION, Rules
from train.tokens.tokenize import tokenize

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass
class Written:
    """What was written of one split: its rows' hashes, 32 bytes each, how often each label occurs, and what its rows
    are like (of the train rows alone)."""

    hashes: bytearray = field(default_factory=bytearray)
    labels: Counter[str] = field(default_factory=Counter)
    figures: RowFigures = field(default_factory=RowFigures)


def write_splits(rows: Path, drawn: Drawn, data: Data, target: Path, rules: Rules) -> dict[str, Written]:
    """Each split's parquet file, a window of source rows at a time, within it in the order drawn.

    `rules`: by which rows that are corrupted on purpose get their tokens.
    """
    import numpy
    import pyarrow.parquet

    rank = numpy.empty(len(drawn.split), dtype="int64")
    rank[drawn.order] = numpy.arange(len(drawn.order))
    written = {name: Written() for name in SPLITS}
    with ExitStack() as stack:
        schema = arrow_schema(drawn.table.shape, data.kept, pairs=drawn.table.pairs)
        writers = {
            name: stack.enter_context(pyarrow.parquet.ParquetWriter(target / f"{name}.parquet", schema))
            for name in SPLITS
        }
        for start, table in row_groups(rows):
            here = slice(start, start + table.num_rows)
            for code, name in enumerate(SPLITS):
                members = numpy.flatnonzero(drawn.members(code)[here])
                if not len(members):
                    continue
                part = table.take(members[numpy.argsort(rank[here][members])])
                found = list(map(from_columns, part.select(content_columns(part.column_names)).to_pylist()))
                for row in found if name == "train" else []:
                    written[name].figures.add(row)
                if name == "train" and data.corrupt == "shuffle_answers":
                    found = shuffle_answers(found, data.seed)
                    done = tokenize(rules._replace(long="refuse"), found)
                    part = Window(found, {}, done.tokens).table(schema)
                writers[name].write_table(part)
                written[name].hashes += b"".join(map(hash_row, found))
                written[name].labels.update(label for row in found for label in labels_of(row))
    return written


def describe(
    config: RunConfig, source: Source, drawn: Drawn, written: dict[str, Written], findings: Findings, key: str
) -> DataCard:
    """The data card; `key`: of the inputs that it is made from."""
    fingerprints = {name: fingerprint_of(part.hashes) for name, part in written.items()}
    balance = {name: dict(sorted(part.labels.items())) for name, part in written.items()}
    labels = {label for counted in balance.values() for label in counted}
    if drawn.table.tags not in (None, "words"):
        labels.add(OUTSIDE)  # what a word without a token is read as
    zero = dict.fromkeys(("duplicate", "conflicting_answer", "too_long"), 0)
    card: DataCard = {
        "source": source.name,
        "licence": source.licence,
        "corrupt": config.data.corrupt,
        "fingerprint": fingerprint_of_splits(fingerprints),
        "test_fingerprint": fingerprints["test"],
        "labels": sorted(labels, key=lambda label: (label != "O", label)),
        "splits": {
            name: {"rows": len(part.hashes) // HASH_BYTES, "sha256": fingerprints[name]}
            for name, part in written.items()
        },
        "sources": count_parts(drawn.table, drawn.split, config.data, source),
        "left_out": source.left_out | zero | dict(drawn.table.left_out),
        "findings": findings.table(),
        "near_duplicates": drawn.near,
        "balance": balance,
        "lengths": histogram(drawn.table.length[drawn.split != UNUSED]),
        "key": key,
        "summary": written["train"].figures.summary(drawn.sources()),
        "tokens": key_of(VERSION, config.data.train_on),
    }
    return card if drawn.table.tags is None else {**card, "tags": drawn.table.tags}


def histogram(lengths: NDArray[Any]) -> LengthHistogram:
    """Of the tokens of each row, in at most 40 bins."""
    import numpy

    counts, edges = numpy.histogram(lengths, bins=min(40, max(1, int(numpy.ptp(lengths)))))
    return {"counts": counts.tolist(), "edges": edges.round().astype(int).tolist()}


def shuffle_answers(rows: list[Row], seed: int) -> list[Row]:
    """`data.corrupt`: each answer to another row's question, so that what is asked no longer decides what is to be
    answered."""
    order = random.Random(seed).sample(range(len(rows)), len(rows))
    givers = dict(zip(order, order[1:] + order[:1], strict=True))
    return [with_answer(row, rows[givers[index]]) for index, row in enumerate(rows)]


def with_answer(row: Row, giver: Row) -> Row:
    if "messages" in row:
        return row | {"messages": [*row["messages"][:-1], giver["messages"][-1]], "reference": giver["reference"]}
    if "tags" in row:
        return row | {"tags": (giver["tags"] + ["O"] * len(row["tags"]))[: len(row["tags"])]}
    return row | {name: giver[name] for name in ("label", "labels", "value", "completion", "reference") if name in row}
