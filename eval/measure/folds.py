"""`evaluate.folds`: which model has not seen which test rows, and which of them the champion has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from configs.errors import InputError
from configs.paths import RunPaths, fold_data
from configs.release import MANIFEST, read_manifest
from configs.run.config import RunConfig
from eval.measure.rows import question_of, read_ids, read_rows
from eval.metrics.rows import Row


@dataclass(frozen=True)
class Fold:
    """A model, a release's directory, and the ids of the test rows that it has not been trained on."""

    number: int
    release: Path
    ids: frozenset[str]


def read_folds(config: RunConfig, paths: RunPaths, kind: str) -> list[Fold]:
    """`kind`: release, or the unquantized parent. Raises InputError unless each test row is in exactly one fold."""
    folds = [
        Fold(
            number,
            getattr(paths.fold(number), kind),
            frozenset(read_ids(fold_data(paths.data, number) / "test.parquet").to_pylist()),
        )
        for number in range(1, (config.evaluate.folds or 0) + 1)
    ]
    rows = sorted(one for fold in folds for one in fold.ids)
    wanted = sorted(read_ids(paths.data / "test.parquet").to_pylist())
    if rows != wanted:
        raise InputError(
            f"{paths.data}/folds: found {len(rows)} rows held out, expected each of the {len(wanted)} test rows once",
            hint="tunegate prepare CONFIG",
        )
    return folds


def count_seen(reference: str, rows: Iterable[Row]) -> int | None:
    """How many of these rows' questions are among those that this release was trained on; None where its run is not on
    this machine: a release does not say which rows it was trained on."""
    digest = reference.partition("@")[2]
    for manifest in sorted(Path("build").glob(f"*/release/{MANIFEST}")):
        paths = RunPaths(manifest.parents[1])
        if read_manifest(manifest.parent).digest == digest and (paths.data / "train.parquet").exists():
            splits = (paths.data / f"{name}.parquet" for name in ("train", "validation"))
            seen = {question_of(row) for path in splits for row in read_rows(path)}
            return sum(question_of(row) in seen for row in rows)
    return None
