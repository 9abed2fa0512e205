"""One pass over the rows: each is parsed, looked at, measured and laid aside in a parquet file; what must be compared
later stays in arrays."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.rows.data import Data
from configs.run.config import RunConfig
from infra.files.rows import to_columns
from train.data.expect import Expectations
from train.data.findings import Findings
from train.data.lint import make_personal_data_check, mojibake_of
from train.data.splits import order_of
from train.data.table import COLUMNS, RowTable, group_of, hashes_of
from train.rows.fields import names_of_numbers, with_names
from train.rows.recognise import advise
from train.rows.shape import KEPT, Shape, arrow_schema, has_pairs, labels_of, parse_row, shape_of, texts_of
from train.rows.tags import WINDOW as WINDOW_OF_TAGS
from train.rows.tags import TagReader, recognise
from train.rows.template import make_reading
from train.sources.source import Batch, Fault, Row, Source
from train.tokens.encode import Rules
from train.tokens.tokenize import Begun, Workers, result, workers

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pyarrow import Table

PARTS = ("", "train", "validation", "test")
WINDOW = 32_768  # rows that are held as Python objects at a time, two windows of them
WINDOW_CHARACTERS = 16_000_000  # or so much text, where rows are long


class Ingest:
    """Checks raw rows one by one; `row` is called once for each."""

    def __init__(self, data: Data, task: str, problem: str, findings: Findings, judged: bool = False) -> None:
        """`judged`: rows may be single answers that are good or bad."""
        self.data, self.task, self.problem, self.findings = data, task, problem, findings
        self.judged = judged
        self.read = make_reading(data)
        self.allowed, self.names = frozenset(data.labels), names_of_numbers(data.labels)
        self.tags: TagReader | None = None  # of token-classification, once the first rows have been looked at
        self.personal = make_personal_data_check() if data.lint.personal_data != "ignore" else None
        self.expectations = Expectations(data.expect)
        self.shape: Shape | None = None
        self.pairs = False
        self.left_out: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()

    def check(self, raw: Row | Fault) -> Row | Fault:
        """The row in its shape, or its fault; the first row that can be read decides the shape of all."""
        if isinstance(raw, Fault):
            return raw
        found = self.read(raw)
        if isinstance(found, Fault):
            return found
        found = with_names(found, self.names) if self.names else found
        if self.shape is None:
            self.shape = shape_of(self.task, self.problem, set(found), judged=self.judged)
            self.pairs = has_pairs(self.shape, found)
        row = parse_row(found, self.shape, self.allowed, pairs=self.pairs)
        if isinstance(row, Fault):
            return advise(row, found, self.shape)
        if self.tags is not None:
            tags = self.tags.read(row["tags"])
            if isinstance(tags, Fault):
                return tags
            row["tags"] = tags
        kept = keep_columns(raw, self.data.kept)
        return kept if isinstance(kept, Fault) else row | kept

    def recognise_tags(self, batches: Iterable[Batch]) -> None:
        """Looks at the first rows, which are read once more for it, and holds all to the scheme of most of them."""
        parsed = (self.check(raw) for batch in batches for raw in batch.rows)
        good = (row["tags"] for row in parsed if not isinstance(row, Fault))
        self.tags = recognise(islice(good, WINDOW_OF_TAGS), self.data.tags)

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


def may_be_judged(config: RunConfig) -> bool:
    """Whether rows may be single answers that are good or bad, and no pairs."""
    return config.task == "dpo" and config.train.preference.method == "kto"


def open_ingest(config: RunConfig, source: Source, findings: Findings) -> Ingest:
    """Ready for the rows of `source`: the scheme of their tags has been told."""
    ingest = Ingest(config.data, config.task, config.problem, findings, may_be_judged(config))
    if config.task == "token-classification":
        ingest.recognise_tags(source.batches())
    return ingest


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


class Window(NamedTuple):
    """Rows that are written together; `marks`: what is remembered of each, by the names of COLUMNS; `tokens`: a pyarrow
    table, None where nothing is tokenized."""

    rows: list[Row]
    marks: dict[str, list[Any]]
    tokens: Table | None

    def table(self, schema: Any) -> Table:
        """The columns of `schema`, which may have those of the tokens."""
        import pyarrow

        own = [name for name in schema.names if self.tokens is None or name not in self.tokens.column_names]
        found = pyarrow.Table.from_pylist(
            [to_columns(row) for row in self.rows], schema=pyarrow.schema([schema.field(name) for name in own])
        )
        if self.tokens is not None:
            for name in self.tokens.column_names:
                found = found.append_column(schema.field(name), self.tokens[name])
        return found


def ingest_rows(
    batches: Iterable[Batch], ingest: Ingest, target: Path, rules: Callable[[Shape], Rules] | None
) -> RowTable:
    """Writes the rows with their tokens to `target`, a row group for each window, in the order of the arrays. Without
    `rules` nothing is tokenized and all lengths are 0."""
    import numpy

    files: dict[str, int] = {}
    chunks: dict[str, list[NDArray[Any]]] = {name: [] for name in COLUMNS}
    with ExitStack() as stack:
        writer = None
        for window in tokenized(windows(batches, ingest, files), ingest, files, rules):
            if writer is None:
                import pyarrow.parquet

                schema = arrow_schema(
                    ingest.shape or "text", ingest.data.kept, tokens=rules is not None, pairs=ingest.pairs
                )
                writer = stack.enter_context(
                    pyarrow.parquet.ParquetWriter(target, schema, compression="zstd", use_dictionary=False)
                )
            if window.rows:
                writer.write_table(window.table(schema), row_group_size=len(window.rows))
            for name, kind in COLUMNS.items():
                chunks[name].append(numpy.array(window.marks[name], dtype=kind))
    ingest.read.finish()
    columns = {
        name: numpy.concatenate([numpy.zeros(0, dtype=kind), *chunks.pop(name)]) for name, kind in COLUMNS.items()
    }
    scheme = ingest.tags.scheme if ingest.tags else None
    return RowTable(columns, list(files), ingest.shape or "text", ingest.left_out, scheme, ingest.pairs)


def tokenized(
    found: Iterable[tuple[list[Row], dict[str, list[Any]]]],
    ingest: Ingest,
    files: dict[str, int],
    rules: Callable[[Shape], Rules] | None,
) -> Iterator[Window]:
    """Each window while the next one is read. A row that the chat template refuses is lost as any other at fault."""
    if rules is None:
        yield from (Window(rows, marks | none_of(rows), None) for rows, marks in found)
        return
    waiting: deque[tuple[list[Row], dict[str, list[Any]], Begun]] = deque()
    with ExitStack() as stack:
        pool: Workers | None = None
        for rows, marks in found:
            assert ingest.shape is not None
            pool = pool or stack.enter_context(workers(rules(ingest.shape)))
            waiting.append((rows, marks, pool.begin(rows)))
            if len(waiting) > 1:
                yield settle(*waiting.popleft(), ingest, list(files))
        while waiting:
            yield settle(*waiting.popleft(), ingest, list(files))


def none_of(rows: list[Row]) -> dict[str, list[int]]:
    return {name: [0] * len(rows) for name in ("length", "prompt_length")}


def settle(rows: list[Row], marks: dict[str, list[Any]], begun: Begun, ingest: Ingest, files: list[str]) -> Window:
    """What has become of the rows: tokens for each, and other rows where they were too long."""
    done = result(begun)
    for index, fault in done.faults:
        ingest.lose(files[marks["file"][index]], marks["number"][index], fault)
    lengths = {"length": done.tokens["length"].to_pylist(), "prompt_length": done.prompts}
    kept = {name: [values[source] for source in done.sources] for name, values in marks.items() if name not in lengths}
    for place, (row, source) in enumerate(zip(done.rows, done.sources, strict=True)):
        if row != rows[source]:
            for name, value in hashes_of(row).items():
                kept[name][place] = value
            if ingest.data.long == "chunk":
                kept["group"][place] = marks["group"][source] or marks["identity"][source]
    return Window(done.rows, kept | lengths, done.tokens)


def windows(
    batches: Iterable[Batch], ingest: Ingest, files: dict[str, int]
) -> Iterator[tuple[list[Row], dict[str, list[Any]]]]:
    """WINDOW rows at a time, fewer where they are long, and what is remembered of each."""
    rows: list[Row] = []
    marks: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    characters = 0
    for batch in batches:
        file = files.setdefault(batch.file, len(files))
        for number, raw in zip(batch.numbers, batch.rows, strict=True):
            found = ingest.row(batch.file, number, raw, f"{batch.stem}-{number}")
            if found is not None:
                rows.append(found[0])
                note(marks, found, file, number, PARTS.index(batch.part))
                characters += sum(map(len, texts_of(found[0])))
            if len(rows) == WINDOW or characters > WINDOW_CHARACTERS:
                yield rows, marks
                rows, marks, characters = [], {name: [] for name in COLUMNS}, 0
    if rows:
        yield rows, marks


def note(marks: dict[str, list[Any]], found: tuple[Row, int, float], file: int, number: int, part: int) -> None:
    row, group, time = found
    values = {"file": file, "number": number, "part": part, "group": group or group_of(row), "time": time}
    values |= hashes_of(row)
    for name, value in values.items():
        marks[name].append(value)
