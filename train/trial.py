"""One trial of a sweep: trained in this process, or in a worker that is given one after the other."""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from configs.errors import RefusedError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from infra.processes import die_with
from infra.terminal import silence
from train.finetune import finetune
from train.search.wave import (
    Outcome,
    Trial,
    is_hopeless,
    read_course,
    read_outcome,
    read_trial,
    write_course,
    write_outcome,
)


class Run(Protocol):
    """What a sweep asks of infra.mlflow.tracking."""

    @property
    def run_id(self) -> str | None: ...

    def log_metrics(self, metrics: dict[str, float], step: int) -> None: ...

    def finish(self, status: str = "FINISHED") -> None: ...


OpenRun = Callable[[RunConfig, Path, str, Path | None], Run]  # config, folder, the run's name, the parent's folder
Tell = Callable[[int, int, float | None], None]  # number of the trial, step, validation loss where it was measured
TRACKED_AS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}


class PrunedError(Exception):
    """The trial is given up: the others were better at this step."""


def train_trial(folder: Path, open_run: OpenRun, tell: Tell) -> Outcome:
    """Its outcome, also outcome.json in its folder; one that has ended is not trained again, a killed one goes on.

    What refuses or outgrows one trial is that trial's fault; anything else is raised, and ends the sweep.
    """
    trial = read_trial(folder)
    with held(folder):
        if found := read_outcome(folder):
            return found
        name = f"{trial.settings.name} trial {trial.number}"
        child = open_run(trial.settings, folder / "tracking", name, folder.parent / "tracking")
        outcome = outcome_of(trial, PruningTracker(child, trial, tell))
        child.finish(TRACKED_AS[outcome.state])
        write_outcome(folder, outcome)
        shutil.rmtree(RunPaths(folder).checkpoints, ignore_errors=True)
        return outcome


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Waits for a process that still trains the same trial: one whose sweep was killed may outlive it by moments, or,
    on another machine, by hours."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def outcome_of(trial: Trial, tracker: PruningTracker) -> Outcome:
    import torch

    try:
        value = finetune(trial.settings, RunPaths(trial.folder), tracker, show=False)["best_validation_loss"]
    except PrunedError:
        return Outcome("PRUNED", None, None, tracker.course)
    except (RefusedError, torch.OutOfMemoryError) as error:
        return Outcome("FAIL", None, str(error), tracker.course)
    if value is None or not math.isfinite(value):
        return Outcome("FAIL", None, f"validation loss {value}", tracker.course)
    return Outcome("COMPLETE", value, None, tracker.course)


class PruningTracker:
    """The trial's tracker, which also keeps its course and says when to give up; raises PrunedError."""

    def __init__(self, child: Run, trial: Trial, tell: Tell) -> None:
        self.child, self.trial, self.tell = child, trial, tell
        self.course = read_course(trial.folder)

    @property
    def run_id(self) -> str | None:
        return self.child.run_id

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.child.log_metrics(metrics, step)
        loss = metrics.get("eval_loss")
        self.tell(self.trial.number, step, loss)
        if loss is None:
            return
        self.course[step] = loss
        write_course(self.trial.folder, self.course)
        if is_hopeless(self.course, step, self.trial.bars):
            self.course = {at: kept for at, kept in self.course.items() if at <= step}
            raise PrunedError


def work(parent: int) -> None:
    """A worker: trains the trial of each folder that stdin names, and says on stdout how it goes, a line of JSON each;
    `{}` is the end of a trial. It ends with its stdin, and with `parent`."""
    from infra.mlflow.tracking import start_run

    die_with(parent)
    silence()
    with os.fdopen(os.dup(1), "w", encoding="utf8") as told:
        os.dup2(2, 1)  # what libraries print is not for the sweep

        def tell(number: int, step: int, loss: float | None) -> None:
            print(json.dumps({"step": step, "loss": loss}), file=told, flush=True)

        for line in sys.stdin:
            train_trial(Path(line.rstrip("\n")), start_run, tell)
            print("{}", file=told, flush=True)
