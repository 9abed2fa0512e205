"""Prepared splits, mapped from disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from configs.errors import InputError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from train.batches.dataset import encode, open_splits
from train.prepare import prepare

pytestmark = pytest.mark.unit


def test_splits_are_mapped_from_disk_and_leave_nothing_behind(chat: Callable[..., RunConfig]) -> None:
    from train.model.base import make_base

    config = chat()
    paths = RunPaths.of(config.name)
    with pytest.raises(InputError, match="tunegate prepare"), open_splits(paths):
        pass
    prepare(config, paths, make_base(config))
    stale = paths.root / ".cache.999999999.partial"
    stale.mkdir()
    with open_splits(paths) as (rows, validation):
        assert (len(rows), len(validation)) == (24, 6) and not stale.exists(), "what a killed run left is cleared"
        encoded = encode(rows, lambda found: [{"input_ids": [1] * len(each["messages"])} for each in found])
        assert encoded.column_names == ["input_ids"] and encoded[3] == {"input_ids": [1, 1]}
        assert (
            all(Path(file["filename"]).exists() for file in (*rows.cache_files, *encoded.cache_files))
            and encoded.cache_files
        )
    assert not list(paths.root.glob(".cache*"))
