"""One pass over the rows: each is parsed, looked at, measured and laid aside in a parquet file; what must be compared
later stays in arrays."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.rows.data import Data
from train.data.expect import Expectations
from train.data.findings import Findings
from train.data.lengths import Measure
from train.data.lint import make_personal_data_check, mojibake_of
from train.data.table import COLUMNS, RowTable, hash_text, hashes_of
from train.rows.shape import KEPT, Shape, arrow_schema, labels_of, parse_row, shape_of
from train.rows.template import make_reading
from train.sources.source import Batch, Fault, Row

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARTS = ("", "train", "validation", "test")
WINDOW = 65_536  # rows that are held as Python objects at a time, some hundred megabytes at the most


class Ingest:
    """Checks raw rows one by one; `row` is called once for each."""

    def __init__(self, data: Data, task: str, problem: str, findings: Findings) -> None:
        self.data, self.task, self.problem, self.findings = data, task, problem, findings
        self.read = make_reading(data)
        self.allowed = frozenset(data.labels)
        self.personal = make_personal_data_check() if data.lint.personal_data != "ignore" else None
        self.expectations = Expectations(data.expect)
        self.shape: Shape | None = None
        self.left_out: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()

    def check(self, raw: Row | Fault) -> Row | Fault:
        """The row in its shape, or its fault; the first row that can be read decides the shape of all."""
        if isinstance(raw, Fault):
            return raw
        found = self.read(raw)
        if isinstance(found, Fault):
            return found
        if self.shape is None:
            self.shape = shape_of(self.task, self.problem, set(found))
        row = parse_row(found, self.shape, self.allowed)
        if isinstance(row, Fault):
            return row
        kept = keep_columns(raw, self.data.keep)
        return kept if isinstance(kept, Fault) else row | kept

    def row(self, file: str, number: int, raw: Row | Fault, default_id: str) -> tuple[Row, int, float] | None:
        """The parsed row with its group and time; None where it is left out."""
        row = self.check(raw)
        if isinstance(row, Fault):
            self.lose(file, number, row)
            return None
        assert isinstance(raw, dict)
        order = order_of(raw, self.data)
        if isinstance(order, Fault):
            self.lose(file, number, order)
            return None
        faults: list[tuple[Fault, str | None]] = [(fault, None) for fault in self.doubts(row)]
        for fault, action in [*faults, *(self.expectations.check(raw, row) if self.data.expect else [])]:
            if not self.findings.add(file, number, fault, action):
                self.left_out[fault.kind] += 1
                return None
        self.labels.update(labels_of(row))
        given = raw.get(self.data.columns.get("id", "id"))
        return {"id": default_id if given is None else str(given)} | row, *order

    def doubts(self, row: Row) -> Iterator[Fault]:
        """What may be wrong with a row that can be read."""
        yield from filter(None, (mojibake_of(row), self.personal and self.personal(row)))

    def lose(self, file: str, number: int, fault: Fault) -> None:
        self.findings.add(file, number, fault)
        self.left_out[fault.kind] += 1


def order_of(raw: Row, data: Data) -> tuple[int, float] | Fault:
    """Group (a hash) and time (seconds since 1970, or the number given), where the split asks for one of them."""
    if data.split.by is None:
        return 0, 0.0
    value = raw.get(data.split.by)
    if value is None:
        return Fault("missing_field", f"nothing in column {data.split.by}", "a value, for data.split.by names it")
    if data.split.method == "grouped":
        return hash_text(str(value)), 0.0
    try:
        return 0, seconds_of(value)
    except (ValueError, TypeError, OverflowError):
        return Fault("missing_field", f"{data.split.by}: {value!r}", "a number or an ISO 8601 time")


def keep_columns(raw: Row, names: list[str]) -> Row | Fault:
    """The columns of data.keep as one JSON object, whatever the types of their values; nothing where none is to
    stay."""
    missing = [name for name in names if name not in raw]
    if missing:
        near = [*get_close_matches(missing[0], map(str, raw), n=1), "columns that data.keep names"]
        return Fault("missing_field", f"no column {', '.join(missing)} among {', '.join(map(str, raw))}", near[0])
    return (
        {KEPT: json.dumps({name: raw[name] for name in names}, ensure_ascii=False, sort_keys=True, default=str)}
        if names
        else {}
    )


def seconds_of(value: Any) -> float:
    """A time without a zone is UTC."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = datetime.fromisoformat(value)
    seconds = (
        (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        if isinstance(value, datetime)
        else float(value)
    )
    if not math.isfinite(seconds):
        raise ValueError(f"{value} is no time")
    return seconds


def ingest_rows(
    batches: Iterable[Batch], ingest: Ingest, target: Path, measure: Callable[[Shape], Measure] | None
) -> RowTable:
    """Writes the rows to `target` in row groups of WINDOW, in the order of the arrays. Without `measure` all lengths
    are 0."""
    import numpy

    files: dict[str, int] = {}
    chunks: dict[str, list[NDArray[Any]]] = {name: [] for name in COLUMNS}
    writer = None
    lengths: Measure | None = None
    for rows, marks in windows(batches, ingest, files):
        assert ingest.shape is not None
        if writer is None:
            import pyarrow.parquet

            writer = pyarrow.parquet.ParquetWriter(
                target, arrow_schema(ingest.shape, ingest.data.keep), compression="zstd", use_dictionary=False
            )
            lengths = measure(ingest.shape) if measure else None
        writer.write_table(pyarrow.Table.from_pylist(rows, schema=writer.schema), row_group_size=WINDOW)
        marks["length"], marks["prompt_length"] = lengths(rows) if lengths else ([0] * len(rows), [0] * len(rows))
        for name, kind in COLUMNS.items():
            chunks[name].append(numpy.array(marks[name], dtype=kind))
    if writer is not None:
        writer.close()
    columns = {
        name: numpy.concatenate([numpy.zeros(0, dtype=kind), *chunks.pop(name)]) for name, kind in COLUMNS.items()
    }
    return RowTable(columns, list(files), ingest.shape or "text", ingest.left_out)


def windows(
    batches: Iterable[Batch], ingest: Ingest, files: dict[str, int]
) -> Iterator[tuple[list[Row], dict[str, list[Any]]]]:
    """WINDOW rows at a time (the last fewer), and what is remembered of each."""
    rows: list[Row] = []
    marks: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for batch in batches:
        file = files.setdefault(batch.file, len(files))
        for number, raw in zip(batch.numbers, batch.rows, strict=True):
            found = ingest.row(batch.file, number, raw, f"{batch.stem}-{number}")
            if found is not None:
                rows.append(found[0])
                note(marks, found, file, number, PARTS.index(batch.part))
            if len(rows) == WINDOW:
                yield rows, marks
                rows, marks = [], {name: [] for name in COLUMNS}
    if rows:
        yield rows, marks


def note(marks: dict[str, list[Any]], found: tuple[Row, int, float], file: int, number: int, part: int) -> None:
    row, group, time = found
    values = {"file": file, "number": number, "part": part, "time": time}
    values |= {"group": group} | hashes_of(row) | ({"group": group} if group else {})
    for name, value in values.items():
        marks[name].append(value)
