"""A wave: the trials that are trained at the same time. Each has a folder, which says what is to be trained, how it
goes and what came of it; so whoever trains it may be another process, or another machine."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.errors import InputError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from configs.run.sweep import Scalar
from infra.files.atomic import read_json, write_json

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

STATED, COURSE, OUTCOME = "trial.json", "course.json", "outcome.json"


class Trial(NamedTuple):
    """One training of a sweep. `bars`: by step the validation loss that its best one so far must not lie above."""

    number: int
    folder: Path
    settings: RunConfig
    bars: dict[int, float]


class Outcome(NamedTuple):
    """`state`: COMPLETE, PRUNED or FAIL, as Optuna calls them; `reason` of a failure; `course`: validation loss by
    step."""

    state: str
    value: float | None
    reason: str | None
    course: dict[int, float]


# Trains each of them, wherever, and gives their outcomes in the same order; raises what ends the sweep. Each is
# `tunegate trial FOLDER`, which goes on where a killed one was.
RunWave = Callable[[Sequence[Trial]], list[Outcome]]


def state_trial(trial: Trial, parameters: Mapping[str, Scalar], data: Path) -> None:
    """The trial's folder, over the run's own data; what another trial left in it is thrown away."""
    stated = {"parameters": dict(parameters), "bars": {str(step): bar for step, bar in trial.bars.items()}}
    found = read_json(trial.folder / STATED) or {}
    if {key: found.get(key) for key in stated} != stated:
        shutil.rmtree(trial.folder, ignore_errors=True)
    trial.folder.mkdir(parents=True, exist_ok=True)
    link = RunPaths(trial.folder).data
    if not link.is_symlink():
        link.symlink_to(os.path.relpath(data, trial.folder))
    config = trial.settings.model_dump(mode="json", exclude={"sweep"})
    write_json(trial.folder / STATED, {"number": trial.number, "config": config} | stated)


def read_trial(folder: Path) -> Trial:
    """Raises InputError where none is stated."""
    found = read_json(folder / STATED)
    if found is None:
        raise InputError(f"{folder}: found no {STATED}, expected a trial of a sweep", hint="tunegate sweep CONFIG")
    settings = RunConfig.model_validate(found["config"])
    return Trial(found["number"], folder, settings, by_step(found["bars"]))


def by_step(values: Mapping[str, Any]) -> dict[int, float]:
    return {int(step): float(value) for step, value in values.items()}


def read_course(folder: Path) -> dict[int, float]:
    return by_step(read_json(folder / COURSE) or {})


def write_course(folder: Path, course: Mapping[int, float]) -> None:
    write_json(folder / COURSE, course)


def read_outcome(folder: Path) -> Outcome | None:
    """None where the trial has not ended."""
    found = read_json(folder / OUTCOME)
    return Outcome(found["state"], found["value"], found["reason"], by_step(found["course"])) if found else None


def write_outcome(folder: Path, outcome: Outcome) -> None:
    write_json(folder / OUTCOME, outcome._asdict())


def median_bars(earlier: Sequence[FrozenTrial], startup_trials: int) -> dict[int, float]:
    """By step the median of what the complete trials of earlier waves had there: Optuna's MedianPruner (Golovin et al.
    2017), which knows nothing of the trials beside it and so decides the same whichever of them is faster."""
    import numpy

    complete = [trial.intermediate_values for trial in earlier if trial.state.name == "COMPLETE"]
    if len(complete) < startup_trials:
        return {}
    steps = sorted(set[int]().union(*complete))
    found = {step: [course[step] for course in complete if step in course] for step in steps}
    known = {step: [value for value in values if not math.isnan(value)] for step, values in found.items()}
    return {step: float(numpy.percentile(values, 50)) for step, values in known.items() if values}


def is_hopeless(course: Mapping[int, float], step: int, bars: Mapping[int, float]) -> bool:
    """Whether the best validation loss up to `step` lies above that step's bar, or there is none but NaN."""
    if not bars:
        return False
    best = min((loss for at, loss in course.items() if at <= step and not math.isnan(loss)), default=math.nan)
    return math.isnan(best) or best > bars.get(step, math.inf)
