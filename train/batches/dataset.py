"""The prepared splits as datasets of token ids."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from configs.errors import InputError
from configs.paths import RunPaths
from infra.files.atomic import clear_partials
from train.sources.source import Row

EncodedRow = dict[str, Any]  # input_ids with labels (a list of them, or one), or a pair's ids


@contextmanager
def open_splits(paths: RunPaths) -> Iterator[tuple[Any, Any]]:
    """The train and the validation split as memory-mapped `datasets.Dataset`s; what is made of them is kept beside them
    on disk.

    Raises InputError where prepare has not written them.
    """
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()  # to stderr, where the training's own bar is
    files = [paths.data / "train.parquet", paths.data / "validation.parquet"]
    for path in files:
        if not path.exists():
            raise InputError(f"{path}: missing", hint="tunegate prepare CONFIG")
    clear_partials(paths.root / "cache")
    cache = paths.root / f".cache.{os.getpid()}.partial"
    try:
        train, validation = (Dataset.from_parquet(str(path), cache_dir=str(cache / path.stem)) for path in files)
        yield train, validation
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def encode(rows: Any, encode_rows: Callable[[list[Row]], list[EncodedRow]]) -> Any:
    """A Dataset of encoded rows, batch by batch on disk: memory stays flat however many there are."""

    def encode_batch(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        encoded = encode_rows([dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)])
        return {name: [row[name] for row in encoded] for name in encoded[0]}

    return rows.map(
        encode_batch,
        batched=True,
        remove_columns=rows.column_names,
        load_from_cache_file=False,
        new_fingerprint=f"encoded-{os.urandom(8).hex()}",
    )
