"""Each test row belongs to exactly one fold; rows that the champion was trained on are counted where that is known."""

from __future__ import annotations

from pathlib import Path

import pandas
import pytest

from configs.errors import InputError
from configs.paths import RunPaths, fold_data
from eval.measure.folds import count_seen, read_folds
from eval.measure.rows import read_rows
from tests.support.measuring import MakeConfig, WriteRelease

pytestmark = pytest.mark.unit


def write_rows(path: Path, numbers: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"id": f"row-{number}", "text": f"film {number}", "label": "good"} for number in numbers]
    pandas.DataFrame(rows).to_parquet(path)


def test_the_rows_of_the_folds_must_be_the_test_rows_each_once(checkout: Path, config: MakeConfig) -> None:
    run, paths = config(evaluate={"folds": 2}), RunPaths.of("run")
    write_rows(paths.data / "test.parquet", [0, 1, 2])
    write_rows(fold_data(paths.data, 1) / "test.parquet", [0, 2])
    write_rows(fold_data(paths.data, 2) / "test.parquet", [1])
    folds = read_folds(run, paths, "parent")
    assert [(one.number, one.release.as_posix(), sorted(one.ids)) for one in folds] == [
        (1, "build/run/folds/1/parent", ["row-0", "row-2"]),
        (2, "build/run/folds/2/parent", ["row-1"]),
    ]
    for numbers in ([1, 2], [3]):
        write_rows(fold_data(paths.data, 2) / "test.parquet", numbers)
        with pytest.raises(InputError, match="expected each of the 3 test rows once"):
            read_folds(run, paths, "release")


def test_what_the_champion_was_trained_on_is_counted_where_its_run_lies_here(
    checkout: Path, write_release: WriteRelease
) -> None:
    champion = write_release(Path("build/old/release"), name="old", weights=b"old")
    write_rows(Path("test.parquet"), [0, 1, 2, 3])
    assert count_seen(champion.reference, read_rows(Path("test.parquet"))) is None, "its rows are not here"
    write_rows(Path("build/old/data/train.parquet"), [0, 7])
    write_rows(Path("build/old/data/validation.parquet"), [3])
    assert count_seen(champion.reference, read_rows(Path("test.parquet"))) == 2
    assert count_seen("other@sha256:" + "a" * 64, read_rows(Path("test.parquet"))) is None
