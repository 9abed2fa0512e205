"""Trainings with other hyperparameters, one after the other: the lowest validation loss wins. Killed at any moment, the
next call goes on."""

from __future__ import annotations

import fcntl
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pydantic import ValidationError

from configs.errors import ExternalError, RefusedError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from configs.run.sweep import Sweep, with_values
from infra.terminal import telling
from train.data.prepared import read_card
from train.finetune import finetune
from train.search.progress import SweepProgress
from train.search.study import (
    RETRY,
    best_so_far,
    budget,
    distributions,
    finished,
    make_sampler,
    open_study,
    record_outcome,
    retry_interrupted,
)

if TYPE_CHECKING:
    from optuna import Study, Trial


class Run(Protocol):
    """What a sweep asks of infra.mlflow.tracking."""

    @property
    def run_id(self) -> str | None: ...

    def log_metrics(self, metrics: dict[str, float], step: int) -> None: ...

    def finish(self, status: str = "FINISHED") -> None: ...


OpenRun = Callable[[RunConfig, Path, str, Path | None], Run]  # config, folder, the run's name, the parent's folder


def sweep(config: RunConfig, search: Sweep, paths: RunPaths, open_run: OpenRun) -> Study:
    """The finished study, also build/NAME/sweep/study.db. A second call does nothing, one with more `trials` goes on.

    Raises InputError before `prepare`, ExternalError where another process sweeps the same run.
    """
    folder = paths.root / "sweep"
    with only_one(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns of a step reported twice, as a resumed training does
        study = open_study(config, search, folder, read_card(paths)["fingerprint"])
        retry_interrupted(study, search)
        todo, parent = budget(search), open_run(config, folder / "tracking", f"{config.name} sweep", None)
        if len(finished(study)) < todo:
            with SweepProgress(config.name, todo) as progress, telling(progress.describe):
                while len(finished(study)) < todo:
                    progress.trials(finished(study))
                    parent.log_metrics({"trials": len(finished(study))} | best_so_far(study), len(finished(study)))
                    run_trial(study, config, search, paths, open_run, progress)
                progress.trials(finished(study))
            parent.log_metrics({"trials": todo} | best_so_far(study), todo)
            parent.finish()
    return study


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """The kernel lets go of the lock with the process, however that ends: so a running trial found under it is a dead
    one's."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ExternalError(
                f"{folder}: another process sweeps here",
                hint="wait for it, or end it: the same command goes on from there",
            ) from None
        yield


def run_trial(
    study: Study, config: RunConfig, search: Sweep, paths: RunPaths, open_run: OpenRun, progress: SweepProgress
) -> None:
    """One training, told to the study as complete, pruned or failed. The same parameters are trained once only."""
    before = finished(study)
    study.sampler = make_sampler(search, len(before))
    trial = study.ask(distributions(config, search))
    same = next((other for other in before if other.params == trial.params), None)
    if same is not None:
        trial.set_user_attr("same_as", same.number)
        record_outcome(study, trial, same.state.name, same.value, same.user_attrs.get("reason"))
        return
    folder = trial_paths(study, trial, paths)
    try:
        settings = with_values(config, trial.params)
    except ValidationError as error:
        record_outcome(study, trial, "FAIL", None, error.errors()[0]["msg"])
        return
    child = open_run(
        settings, folder.root / "tracking", f"{config.name} trial {trial.number}", paths.root / "sweep" / "tracking"
    )
    record_outcome(study, trial, *outcome(settings, folder, PruningTracker(child, trial, progress)))
    child.finish({"COMPLETE": "FINISHED", "PRUNED": "KILLED"}.get(study.trials[trial.number].state.name, "FAILED"))
    shutil.rmtree(folder.checkpoints, ignore_errors=True)


def outcome(settings: RunConfig, folder: RunPaths, tracker: PruningTracker) -> tuple[str, float | None, str | None]:
    """State, validation loss and reason. What refuses or outgrows one trial is that trial's fault; anything else ends
    the sweep."""
    import optuna
    import torch

    try:
        value = finetune(settings, folder, tracker, show=False)["best_validation_loss"]
    except optuna.TrialPruned:
        return "PRUNED", None, None
    except (RefusedError, torch.OutOfMemoryError) as error:
        return "FAIL", None, str(error)
    return (
        ("COMPLETE", value, None)
        if value is not None and math.isfinite(value)
        else ("FAIL", None, f"validation loss {value}")
    )


def trial_paths(study: Study, trial: Trial, paths: RunPaths) -> RunPaths:
    """build/NAME/sweep/trial-N, over the run's own data; a repetition takes over the folder of what it repeats,
    checkpoints and all."""
    made = RunPaths(paths.root / "sweep" / f"trial-{trial.number}")
    interrupted = made.root.with_name(f"trial-{study.trials[trial.number].user_attrs.get(RETRY)}")
    if interrupted.exists() and not made.root.exists():
        os.replace(interrupted, made.root)
    made.root.mkdir(parents=True, exist_ok=True)
    if not made.data.is_symlink():
        made.data.symlink_to(os.path.relpath(paths.data, made.root))
    return made


class PruningTracker:
    """The trial's tracker, which also asks Optuna at each evaluation whether to go on; raises optuna.TrialPruned."""

    def __init__(self, child: Run, trial: Trial, progress: SweepProgress) -> None:
        self.child, self.trial, self.progress = child, trial, progress

    @property
    def run_id(self) -> str | None:
        return self.child.run_id

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        import optuna

        self.child.log_metrics(metrics, step)
        self.progress.step(step)
        if "eval_loss" in metrics:
            self.trial.report(metrics["eval_loss"], step)
            if self.trial.should_prune():
                raise optuna.TrialPruned
