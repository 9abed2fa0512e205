"""Rows of a data set on a hub."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from configs.errors import ExternalError
from configs.rows.data import Data
from train.sources.files import BATCH_ROWS
from train.sources.source import Batch, Source


def read_hub(data: Data) -> Source:
    """Streamed, at a pinned commit; nothing of the repository is run, for `datasets` 5 knows no loading scripts."""
    name = f"hub {data.hub_id}@{data.revision}, {data.hub_split}"

    def batches() -> Iterator[Batch]:
        from datasets import load_dataset

        try:
            rows = iter(
                enumerate(
                    load_dataset(str(data.hub_id), revision=data.revision, split=data.hub_split, streaming=True), 1
                )
            )
            while chunk := list(islice(rows, BATCH_ROWS)):
                yield Batch(
                    str(data.hub_id),
                    "",
                    [number for number, _ in chunk],
                    [dict(row) for _, row in chunk],
                    str(data.hub_id).split("/")[-1],
                )
        except (OSError, ValueError, RuntimeError) as error:
            raise ExternalError(
                f"data.hub_id: {name}: {type(error).__name__}: {error}",
                hint="look at the id, the revision and the network (HF_TOKEN for a private set), "
                "or fetch its files and use source: files",
            ) from error

    return Source(name, "as its card on the hub states", batches, lambda: name)
