"""`evaluate.folds`: a model for each fold, trained on the rows of the others and made into a release as the release is
(build/NAME/folds/K)."""

from __future__ import annotations

import os

import typer

from configs.errors import InputError
from configs.paths import RunPaths, fold_data
from configs.run.config import RunConfig
from infra.mlflow.tracking import start_run
from infra.reporters import Reporters
from train.finetune import finetune
from train.quantize import quantize


def train_folds(run: RunConfig, paths: RunPaths) -> None:
    """What stands is not made again, and a killed training goes on from its last checkpoint. Raises InputError before
    `prepare`, RefusedError where one of them learnt nothing."""
    for number in range(1, (run.evaluate.folds or 0) + 1):
        typer.secho(f"train fold {number} of {run.evaluate.folds} of {run.name}", err=True, bold=True)
        link_data(paths, number)
        fold, folder = run.fold(number), paths.fold(number)
        tracker = start_run(fold, folder.root / "tracking", fold.name, paths.root / "tracking")
        reporters = Reporters(tracker, fold, folder.root)
        finetune(fold, folder, reporters)
        reporters.close()
        if not tracker.opening:  # it trained
            tracker.finish()
        quantize(fold, folder)


def link_data(paths: RunPaths, number: int) -> None:
    """The fold's rows, which `prepare` wrote into the run's own data, as those of a run."""
    made, rows = paths.fold(number), fold_data(paths.data, number)
    if not rows.exists():
        raise InputError(f"{rows}: missing", hint="tunegate prepare CONFIG")
    made.root.mkdir(parents=True, exist_ok=True)
    if not made.data.is_symlink():
        made.data.symlink_to(os.path.relpath(rows, made.root))
