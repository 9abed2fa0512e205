"""Trainings with other hyperparameters, in waves of `sweep.parallel`: the lowest validation loss wins. Killed at any
moment, the next call goes on.

A wave is drawn from what earlier waves came to, trained at once, and told in the order of its trials when all of it has
ended: so no trial's outcome hangs on which of them was faster, and a wave that was killed is drawn again as it was.
"""

from __future__ import annotations

import fcntl
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from configs.errors import ExternalError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from configs.run.sweep import Scalar, Sweep, with_values
from infra.terminal import telling
from train.data.prepared import read_card
from train.search.progress import SweepProgress
from train.search.study import (
    add_outcome,
    best_so_far,
    budget,
    distributions,
    finished,
    open_study,
    propose,
    same_as,
    wave_numbers,
)
from train.search.wave import Outcome, RunWave, Trial, median_bars, read_outcome, state_trial
from train.search.workers import local_workers
from train.trial import OpenRun, train_trial
from train.trial_jobs import placed_here, waves_on

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial


def sweep(
    config: RunConfig, search: Sweep, paths: RunPaths, open_run: OpenRun, run_wave: RunWave | None = None
) -> Study:
    """The finished study, also build/NAME/sweep/study.db. A second call does nothing, one with more `trials` goes on.

    `run_wave`: who trains them; by default `launch.engine`, this process, or with `sweep.parallel` worker processes,
    which track with infra.mlflow.tracking. Raises InputError before `prepare`, ExternalError where another process
    sweeps the same run.
    """
    folder = paths.root / "sweep"
    if run_wave is None and config.launch.engine != "local":
        run_wave = waves_on(config)
    with only_one(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls some of what we use experimental
        study = open_study(config, search, folder, read_card(paths)["fingerprint"])
        left = budget(search) - len(finished(study))
        parent = open_run(config, folder / "tracking", f"{config.name} sweep", None)
        if left > 0:
            with SweepProgress(config.name, budget(search)) as progress, telling(progress.describe):

                def note_ended() -> None:
                    ended = finished(study)
                    progress.trials(ended)
                    parent.log_metrics({"trials": len(ended)} | best_so_far(ended), len(ended))

                note_ended()
                with trained_by(run_wave, search, left, folder, open_run, progress) as run:
                    while len(finished(study)) < budget(search):
                        next_wave(study, config, search, paths, run, note_ended)
            parent.finish()
    return study


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """The kernel lets go of the lock with the process, however that ends."""
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


@contextmanager
def trained_by(
    run_wave: RunWave | None, search: Sweep, left: int, folder: Path, open_run: OpenRun, progress: SweepProgress
) -> Iterator[RunWave]:
    """Whoever trains a wave, with its trials shown."""

    def here(trials: Sequence[Trial]) -> list[Outcome]:
        return [train_trial(trial.folder, open_run, progress.step) for trial in trials]

    with ExitStack() as started:
        if run_wave is None and search.parallel > 1:
            workers = local_workers(min(left, search.parallel), search.parallel, folder, progress.step)
            run_wave = started.enter_context(workers)

        def shown(trials: Sequence[Trial]) -> list[Outcome]:
            progress.wave(trials)
            return (run_wave or here)(trials)

        yield shown


def next_wave(
    study: Study, config: RunConfig, search: Sweep, paths: RunPaths, run_wave: RunWave, note_ended: Callable[[], None]
) -> None:
    """Draws the wave, trains what of it is not trained yet, and tells it, each trial as complete, pruned or failed."""
    done, ranges = finished(study), distributions(config, search)
    numbers = wave_numbers(search, len(done))
    earlier = done[: numbers.start]
    whole = zip(numbers, propose(config, search, earlier, numbers), strict=True)
    drawn = {number: parameters for number, parameters in whole if number >= len(done)}
    bars = median_bars(earlier, search.startup_trials) if search.pruner == "median" else {}
    outcomes, trials = dict[int, Outcome](), list[Trial]()
    for number, parameters in once(drawn, done).items():
        found = state(number, parameters, bars, config, paths)
        if isinstance(found, Trial):
            trials.append(found)
        else:
            outcomes[number] = found
    if trials:
        outcomes |= zip((trial.number for trial in trials), run_wave(trials), strict=True)
    for number, parameters in drawn.items():
        add_outcome(study, parameters, ranges, outcomes.get(number))
        shutil.rmtree(RunPaths(trial_folder(paths, number)).checkpoints, ignore_errors=True)
        note_ended()


def state(
    number: int, parameters: dict[str, Scalar], bars: dict[int, float], config: RunConfig, paths: RunPaths
) -> Trial | Outcome:
    """The trial in its folder; its outcome where it has ended, or the schema refuses it."""
    try:
        trial = Trial(number, trial_folder(paths, number), placed_here(with_values(config, parameters)), bars)
    except ValidationError as error:
        return Outcome("FAIL", None, error.errors()[0]["msg"], {})
    state_trial(trial, parameters, paths.data)
    return read_outcome(trial.folder) or trial


def once(drawn: Mapping[int, dict[str, Scalar]], done: Sequence[FrozenTrial]) -> dict[int, dict[str, Scalar]]:
    """Of these, by number, what no trial before them has trained."""
    found = dict[int, dict[str, Scalar]]()
    for number, parameters in drawn.items():
        if same_as(done, parameters) is None and parameters not in found.values():
            found[number] = parameters
    return found


def trial_folder(paths: RunPaths, number: int) -> Path:
    return paths.root / "sweep" / f"trial-{number}"
