"""Prepared splits, mapped from disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from configs.errors import InputError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from train.batches.dataset import open_splits, process_namespace
from train.prepare import prepare

pytestmark = pytest.mark.unit


def test_splits_are_mapped_from_disk_and_leave_nothing_behind(chat: Callable[..., RunConfig]) -> None:
    from train.model.base import make_base

    config = chat()
    paths = RunPaths.of(config.name)
    with pytest.raises(InputError, match="tunegate prepare"), open_splits(paths):
        pass
    prepare(config, paths, make_base(config))
    stale = paths.root / f".cache.{process_namespace()}.999999999.partial"
    stale.mkdir()
    with open_splits(paths) as (rows, validation):
        assert (len(rows), len(validation)) == (24, 6) and not stale.exists(), "what a killed run left is cleared"
        assert set(rows.column_names) == {"input_ids", "loss_mask", "length"}, "what people wrote is not read"
        assert all(len(row["input_ids"]) == len(row["loss_mask"]) == row["length"] for row in rows)
        assert rows.cache_files and all(Path(file["filename"]).exists() for file in rows.cache_files)
    assert not list(paths.root.glob(".cache*"))


def test_rows_that_an_earlier_version_prepared_have_no_tokens_and_say_so(chat: Callable[..., RunConfig]) -> None:
    import pyarrow.parquet

    paths = RunPaths.of("old")
    paths.data.mkdir(parents=True)
    for name in ("train", "validation"):
        pyarrow.parquet.write_table(pyarrow.table({"id": ["1"], "text": ["a"]}), paths.data / f"{name}.parquet")
    with pytest.raises(InputError, match=r"train\.parquet: has no tokens.*\n.*tunegate prepare"), open_splits(paths):
        pass
