"""Rows of a data set on a hub."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from configs.errors import ExternalError, InputError
from configs.rows.source import HubSplits, RowSource
from train.sources.source import BATCH_ROWS, Batch, Fault, Row, Source
from train.sources.values import class_names, plain


def read_hub(data: RowSource) -> Source:
    """Streamed, at a pinned commit; nothing of the repository is run, for `datasets` 5 knows no loading scripts."""
    splits = data.hub_split.model_dump() if isinstance(data.hub_split, HubSplits) else {"": data.hub_split}
    subset = f" {data.hub_config}" if data.hub_config else ""
    name = f"hub {data.hub_id}@{data.revision}{subset}, {', '.join(splits.values())}"

    def batches() -> Iterator[Batch]:
        try:
            for part, split in splits.items():
                numbered = iter(enumerate(rows_of(data, split), 1))
                file = "/".join(filter(None, (data.hub_id, data.hub_config, split if split != "train" else None)))
                stem = file.split("/", 1)[-1]
                while chunk := list(islice(numbered, BATCH_ROWS)):
                    numbers, rows = zip(*chunk, strict=True)
                    yield Batch(file, part, list(numbers), list(rows), stem)
        except (OSError, ValueError, RuntimeError) as error:
            raise ExternalError(
                f"data.hub_id: {name}: {type(error).__name__}: {error}",
                hint="look at hub_id, revision, hub_config, hub_split and the network (HF_TOKEN for a private set), "
                "or fetch its files and use source: files",
            ) from error

    return Source(name, "as its card on the hub states", batches, lambda: name)


def rows_of(data: RowSource, split: str) -> Iterator[Row | Fault]:
    """Classes by their names, and values that JSON can hold. Raises InputError where a set of several configurations is
    asked for none: `datasets` would take the first."""
    from datasets import get_dataset_config_names, load_dataset

    names = [] if data.hub_config else get_dataset_config_names(str(data.hub_id), revision=data.revision)
    if len(names) > 1 and "default" not in names:
        raise InputError(
            f"data.hub_id: {data.hub_id} holds {', '.join(names)}, expected one of them as data.hub_config",
            hint=f"--set data.hub_config={names[0]}",
        )
    found: Any = load_dataset(
        str(data.hub_id), name=data.hub_config, revision=data.revision, split=split, streaming=True
    )
    features = getattr(found, "features", None)
    decode = class_names(features.to_dict()) if features else None
    for row in found:
        yield plain(dict(row) if decode is None else decode(dict(row)))
