"""`data.mix`: several sources, each in its own shape, as one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from configs.digest import key_of
from configs.errors import InputError
from configs.rows.data import Data
from configs.rows.source import MixPart
from configs.run.config import RunConfig
from train.rows.template import make_reading
from train.sources.files import source_of
from train.sources.hub import read_hub
from train.sources.reader import read_source
from train.sources.source import Batch, Fault, Row, Source

SOURCE = "source"  # the column that says which part a row is of


def source_of_run(config: RunConfig) -> Source:
    """The source of a run. Rows of a mix come as their part's preset, columns and template make them."""
    return read_mix(config.data) if config.data.source == "mix" else read_source(config)


def read_mix(data: Data) -> Source:
    sources = [
        (part, read_hub(part) if part.source == "hub" else source_of({"": part.files}, part.file_format))
        for part in data.mix
    ]
    owners: dict[str, str] = {}
    wanted = {*data.keep, data.split.by, SOURCE, "id", "reference"}

    def batches() -> Iterator[Batch]:
        for part, source in sources:
            reading = make_reading(part)
            for batch in source.batches():
                if owners.setdefault(batch.file, part.name) != part.name:
                    raise InputError(
                        f"data.mix: {batch.file} is in {owners[batch.file]} and in {part.name}",
                        hint="name each file in one part",
                    )
                rows = [
                    row if isinstance(row, Fault) else read_one(row, reading(row), part, wanted) for row in batch.rows
                ]
                yield replace(batch, rows=rows, stem=f"{part.name}-{batch.stem}")
            reading.finish()

    return Source(
        "mix: " + "; ".join(f"{part.name}: {source.name}" for part, source in sources),
        "; ".join(sorted({source.licence for _, source in sources})),
        batches,
        lambda: key_of([(part.name, source.identity()) for part, source in sources]),
        owners=owners,
    )


def read_one(raw: Row, found: Row | Fault, part: MixPart, wanted: set[str | None]) -> Row | Fault:
    """The row, with those of its own columns that are asked for later. Two parts may count their rows alike, so an id
    is told apart by its part."""
    if isinstance(found, Fault):
        return found
    row = {SOURCE: part.name} | {key: raw[key] for key in raw if key in wanted} | found
    return row if row.get("id") is None else row | {"id": f"{part.name}-{row['id']}"}
