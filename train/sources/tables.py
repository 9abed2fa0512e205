"""Parquet and Arrow: columns with types, and the classes' names that `datasets` writes beside them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from train.sources.source import BATCH_ROWS, Fault, Row
from train.sources.values import Decoder, class_names, plain

Numbered = Iterator[tuple[int, Row | Fault]]


def read_parquet(stream: BinaryIO) -> Numbered:
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(stream)
    return number_batches(file.schema_arrow, file.iter_batches(batch_size=BATCH_ROWS))


def read_arrow(stream: BinaryIO) -> Numbered:
    """The file format (Feather 2) or the stream format, which `datasets` writes."""
    import pyarrow

    start = stream.read(6)
    stream.seek(0)
    if start == b"ARROW1":
        reader = pyarrow.ipc.open_file(stream)
        return number_batches(reader.schema, (reader.get_batch(index) for index in range(reader.num_record_batches)))
    reader = pyarrow.ipc.open_stream(stream)
    return number_batches(reader.schema, reader)


def number_batches(schema: Any, batches: Iterable[Any]) -> Numbered:
    """Rows count from 1. Raises nothing: a table that cannot be rows is one fault."""
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        yield 1, Fault("unreadable", f"columns of one name: {', '.join(twice)}", "each name once")
        return
    decoders = make_decoders(schema)
    number = 0
    for batch in batches:
        for row in micros(batch).to_pylist():
            number += 1
            for name, decode in decoders.items():
                row[name] = decode(row[name])
            yield number, row
    if not number:
        yield 1, Fault("unreadable", "a table without rows", "rows")


def make_decoders(schema: Any) -> dict[str, Decoder]:
    """Of the columns alone that hold more than text, numbers and lists of them: 5 million rows pass through here."""
    features = features_of(schema)
    return {
        field.name: decode
        for field in schema
        if (decode := class_names(features.get(field.name)) or (None if is_plain(field.type) else plain))
    }


def features_of(schema: Any) -> dict[str, Any]:
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def is_plain(kind: Any) -> bool:
    """Whether Python's objects for it are JSON's already."""
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return is_plain(kind.value_type)
    if types.is_struct(kind):
        return all(is_plain(kind.field(index).type) for index in range(kind.num_fields))
    if types.is_dictionary(kind):
        return is_plain(kind.value_type)
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    is_number = types.is_integer(kind) or types.is_float32(kind) or types.is_float64(kind)
    return bool(is_text or is_number or types.is_boolean(kind) or types.is_null(kind))


def micros(batch: Any) -> Any:
    """Nanoseconds cut off: Python's times hold none."""
    import pyarrow

    wide = [
        i for i, field in enumerate(batch.schema) if pyarrow.types.is_timestamp(field.type) and field.type.unit == "ns"
    ]
    for index in wide:
        field = batch.schema.field(index)
        cut = pyarrow.timestamp("us", tz=field.type.tz)
        batch = batch.set_column(index, field.name, batch.column(index).cast(cut, safe=False))
    return batch
