"""Raw rows in, three parquet files and a data card out: checked, measured, split by seed. Memory stays flat, whatever the number of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.digest import key_of
from configs.errors import InputError
from configs.paths import RunPaths
from configs.release import read_manifest
from configs.run.config import RunConfig
from configs.run.data import Data
from infra.files.atomic import new_directory, read_json, write_json, write_text
from train.data.corruption import shuffle_answers
from train.data.data_card import write_page
from train.data.fingerprint import HASH_BYTES, fingerprint_of, fingerprint_of_splits, hash_row
from train.data.ingest import Survey, Surveyor, survey_rows
from train.data.lengths import Measure, make_measure
from train.data.lint import Findings, lint_balance, lint_lengths, lint_table, record_findings
from train.data.near_duplicates import find_near, sample_rows
from train.data.rows import Shape, arrow_schema, labels_of, words_asked
from train.data.splits import SPLITS, TEST, TRAIN, UNUSED, VALIDATION, assign, draw_order, require_rows
from train.sources.files import Fault, Row
from train.sources.reader import read_source
from train.sources.source import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

WRITTEN = (*(f"{name}.parquet" for name in SPLITS), "data_card.json", "data_card.html")


@dataclass(frozen=True)
class Drawn:
    """Rows that were looked at, and the split of each; `order` is that in which they were drawn."""

    survey: Survey
    order: NDArray[Any]
    split: NDArray[Any]
    near: dict[str, Any]


def prepare(config: RunConfig, paths: RunPaths, base_directory: Path) -> dict[str, Any]:
    """The data card. A second call with the same inputs does nothing.

    Raises InputError where the data is missing or too small, RefusedError naming the rows that the lint refuses.
    """
    source = read_source(config)
    key = key_of(config.task, config.problem, config.data.model_dump(), read_manifest(base_directory).digest, source.identity())
    finished = read_json(paths.data / "data_card.json")
    if finished and finished.get("key") == key and all((paths.data / name).exists() for name in WRITTEN):
        return finished
    with new_directory(paths.data) as partial, record_findings(config.data.lint, record_of(paths)) as findings:
        rows = partial / "rows.parquet"
        drawn = inspect(config, source, rows, findings, lambda shape: make_measure(base_directory, shape))
        findings.refuse(record_of(paths))
        written = write_splits(rows, drawn, config.data, partial)
        rows.unlink()
        card = describe(config, source, drawn, written, findings) | {"key": key}
        check_labels(card["balance"], card["labels"] if drawn.survey.shape in ("label", "labels") else [])
        write_json(partial / "data_card.json", card)
        write_text(partial / "data_card.html", write_page(config.name, card, findings.lines()))
    return card


def record_of(paths: RunPaths) -> Path:
    return paths.root / "lint.jsonl"


def inspect(config: RunConfig, source: Source, rows: Path, findings: Findings, measure: Callable[[Shape], Measure] | None) -> Drawn:
    """Every check, in the order in which a row's first fault counts; `rows` gets all that could be read."""
    surveyor = Surveyor(config.data, config.task, config.problem, findings)
    survey = survey_rows(source.batches(), surveyor, rows, measure)
    lint_table(survey, findings)
    lint_lengths(survey, findings, config.data.max_tokens)
    if survey.shape in ("label", "labels", "tags"):
        lint_balance(Counter({label: count for label, count in surveyor.labels.items() if label != "O" or survey.shape != "tags"}), findings)
    order = draw(rows, survey, config.data.seed)
    split = assign(order, config.data, part=survey.part, group=survey.group, time=survey.time, stratum=survey.answer)
    sample = sample_rows(order, split, config.data.lint.near_sample)
    for pair in find_near(texts_of_splits(rows, split), split, sample, config.data.lint.near_threshold):
        fault = Fault(pair.kind, f"{survey.place(pair.other)} nearly the same (Jaccard {pair.likeness:.2f})", f"less than {config.data.lint.near_threshold:g}")
        if not findings.add(*survey.where(pair.row), fault):
            survey.leave_out([pair.row], pair.kind)
            split[pair.row] = UNUSED
    require_rows(split, len(SPLITS))
    near = {"threshold": config.data.lint.near_threshold, "train_rows": int((split == TRAIN).sum()), "train_rows_indexed": len(sample)}
    return Drawn(survey, order, split, near)


def draw(rows: Path, survey: Survey, seed: int) -> NDArray[Any]:
    import pyarrow.parquet

    if not survey.kept.any():
        return survey.rows_where(survey.kept)
    ids = pyarrow.parquet.read_table(rows, columns=["id"])["id"]
    kept = survey.rows_where(survey.kept)
    drawn: NDArray[Any] = kept[draw_order(ids.take(kept).combine_chunks(), seed)]
    return drawn


def row_groups(path: Path) -> Iterator[tuple[int, Any]]:
    """The index of the first row, and the row group as a pyarrow table."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        start = 0
        for index in range(file.num_row_groups):
            table = file.read_row_group(index)
            yield start, table
            start += table.num_rows


def texts_of_splits(rows: Path, split: NDArray[Any]) -> Iterator[tuple[int, str]]:
    """Test rows, then validation rows, then train rows, each with its index."""
    if not len(split):
        return
    import numpy

    for code in (TEST, VALIDATION, TRAIN):
        for start, table in row_groups(rows):
            wanted = numpy.flatnonzero(split[start : start + table.num_rows] == code)
            if len(wanted):
                yield from ((start + int(index), words_asked(row)) for index, row in zip(wanted, table.take(wanted).to_pylist(), strict=True))


@dataclass
class Written:
    """What was written of one split: its rows' hashes, 32 bytes each, and how often each label occurs."""

    hashes: list[bytes]
    labels: Counter[str]


def write_splits(rows: Path, drawn: Drawn, data: Data, target: Path) -> dict[str, Written]:
    """Each split's parquet file, a window of WINDOW source rows at a time, within it in the order drawn."""
    import numpy
    import pyarrow.parquet

    rank = numpy.empty(len(drawn.split), dtype="int64")
    rank[drawn.order] = numpy.arange(len(drawn.order))
    written = {name: Written([], Counter()) for name in SPLITS}
    with ExitStack() as stack:
        schema = arrow_schema(drawn.survey.shape, data.keep)
        writers = {name: stack.enter_context(pyarrow.parquet.ParquetWriter(target / f"{name}.parquet", schema)) for name in SPLITS}
        for start, table in row_groups(rows):
            here = slice(start, start + table.num_rows)
            for code, name in enumerate(SPLITS):
                members = numpy.flatnonzero(drawn.split[here] == code)
                if not len(members):
                    continue
                part = table.take(members[numpy.argsort(rank[here][members])]).to_pylist()
                if name == "train" and data.damage == "shuffle_answers":
                    part = shuffle_answers(part, data.seed)
                writers[name].write_table(pyarrow.Table.from_pylist(part, schema=schema))
                written[name].hashes.append(b"".join(map(hash_row, part)))
                written[name].labels.update(label for row in part for label in labels_of(row))
    return written


def describe(config: RunConfig, source: Source, drawn: Drawn, written: dict[str, Written], findings: Findings) -> dict[str, Any]:
    """The data card's facts."""
    import numpy

    used = drawn.survey.length[drawn.split != UNUSED]
    counts, edges = numpy.histogram(used, bins=min(40, max(1, int(numpy.ptp(used)))))
    marks = {name: fingerprint_of(part.hashes) for name, part in written.items()}
    balance = {name: dict(sorted(part.labels.items())) for name, part in written.items()}
    zero = dict.fromkeys(("duplicate", "conflicting_answer", "too_long"), 0)
    return {
        "source": source.name,
        "licence": source.licence,
        "damage": config.data.damage,
        "fingerprint": fingerprint_of_splits(marks),
        "test_fingerprint": marks["test"],
        "labels": sorted({label for counted in balance.values() for label in counted}, key=lambda label: (label != "O", label)),
        "splits": {name: {"rows": sum(map(len, part.hashes)) // HASH_BYTES, "sha256": marks[name]} for name, part in written.items()},
        "left_out": source.left_out | zero | dict(drawn.survey.left_out),
        "findings": findings.table(),
        "near_duplicates": drawn.near,
        "balance": balance,
        "lengths": {"counts": counts.tolist(), "edges": edges.round().astype(int).tolist()},
    }


def check_labels(balance: dict[str, dict[str, int]], labels: list[str]) -> None:
    missing = sorted(set(labels) - balance["train"].keys())
    if missing or len(labels) == 1:
        found = f"data: labels {labels}, of which the train rows lack {missing}; expected two labels or more, each with train rows"
        raise InputError(found, hint="give more rows of each label")


def read_split(paths: RunPaths, name: str) -> list[Row]:
    """The rows of one split, as prepare wrote them. Raises InputError where it has not."""
    import pyarrow.parquet

    path = paths.data / f"{name}.parquet"
    if not path.exists():
        raise InputError(f"{path}: missing", hint="tunegate prepare CONFIG")
    rows: list[Row] = pyarrow.parquet.read_table(path).to_pylist()
    return rows


def read_card(paths: RunPaths) -> dict[str, Any]:
    card = read_json(paths.data / "data_card.json")
    if card is None:
        raise InputError(f"{paths.data}/data_card.json: missing", hint="tunegate prepare CONFIG")
    return card
