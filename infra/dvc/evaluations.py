"""Evaluations in the DVC remote: kept once, found by whoever measures the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from configs.errors import ExternalError
from infra.dvc.repository import repository
from infra.files.atomic import new_file
from infra.masking import masked

# What an evaluation is made of; metrics.json comes last, for it says that the rest is whole.
EVALUATION_FILES = (
    "predictions.parquet",
    "samples.parquet",
    "probe.json",
    "behaviour.parquet",
    "judge.jsonl",
    "rows.json",
    "metrics.json",
)


def keep_evaluation(key: str, folder: Path) -> None:
    """Copies a finished evaluation to evaluations/KEY of the DVC remote, metrics.json last; as DVC's own run cache, it
    wants no pointer in git.

    Raises ExternalError where the remote does not answer.
    """
    with remote_folder("evaluations", key) as (files, place):
        files.makedirs(place, exist_ok=True)
        for name in EVALUATION_FILES:
            if (folder / name).exists():
                files.put_file(str(folder / name), files.join(place, name))


def find_evaluation(key: str, folder: Path) -> bool:
    """True if one was kept under this key; its files are then in `folder`, metrics.json last. Raises ExternalError
    where the remote does not answer."""
    with remote_folder("evaluations", key) as (files, place):
        if not files.exists(files.join(place, "metrics.json")):
            return False
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").unlink(missing_ok=True)
        for name in EVALUATION_FILES:
            (folder / name).unlink(missing_ok=True)
            if files.exists(files.join(place, name)):
                with new_file(folder / name) as partial:
                    files.get_file(files.join(place, name), str(partial))
        return True


@contextmanager
def remote_folder(*parts: str) -> Iterator[tuple[Any, str]]:
    """The DVC remote's file system, and a folder of ours there, beside DVC's own."""
    try:
        with repository() as repo:
            remote = repo.cloud.get_remote()
            yield remote.fs, remote.fs.join(remote.path, *parts)
    except ExternalError:
        raise
    except Exception as error:  # each kind of remote (s3fs, gcsfs, ...) has errors of its own
        raise ExternalError(
            masked(f"DVC remote: {type(error).__name__}: {error}"), hint=".venv/bin/dvc remote list"
        ) from error
