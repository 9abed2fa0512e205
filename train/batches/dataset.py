"""The prepared splits as datasets of token ids."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from configs.paths import RunPaths
from infra.files.atomic import clear_partials
from train.data.prepared import TRAINED, tokenized_split

EncodedRow = dict[str, Any]  # the token columns of a row (infra/files/rows.py), and its label, value or tags


@contextmanager
def open_splits(paths: RunPaths, *, whole: bool = False) -> Iterator[tuple[Any, Any]]:
    """The train and the validation split as memory-mapped `datasets.Dataset`s: tokens and labels as prepare made them;
    `whole`: also what people wrote.

    Raises InputError where prepare has not written them, or an earlier version has, without tokens.
    """
    import pyarrow.parquet
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()  # to stderr, where the training's own bar is
    files = [tokenized_split(paths, name) for name in ("train", "validation")]
    columns = [name for name in pyarrow.parquet.read_schema(files[0]).names if whole or name in TRAINED]
    name = f"cache.{process_namespace()}"
    clear_partials(paths.root / name)
    cache = paths.root / f".{name}.{os.getpid()}.partial"
    try:
        train, validation = (
            Dataset.from_parquet(str(path), columns=columns, cache_dir=str(cache / path.stem)) for path in files
        )
        yield train, validation
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def process_namespace() -> str:
    """Of all machines and containers that share the file system, the one whose process ids ours is one of."""
    return f"{platform.node()}-{os.stat('/proc/self/ns/pid').st_ino}"


def derive(rows: Any, make: Callable[[EncodedRow], list[EncodedRow]]) -> Any:
    """A Dataset of what `make` makes of each row, one row or several, batch by batch on disk."""

    def derive_batch(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        each = (dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True))
        made = [new for row in each for new in make(row)]
        return {name: [row[name] for row in made] for name in made[0]}

    return rows.map(
        derive_batch,
        batched=True,
        remove_columns=rows.column_names,
        load_from_cache_file=False,
        new_fingerprint=f"derived-{os.urandom(8).hex()}",
    )
