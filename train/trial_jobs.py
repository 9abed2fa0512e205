"""A wave of a sweep on an engine: each trial is a job of its own, submitted once, and found again by whoever sweeps
next."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import cast

from configs.paths import RunPaths
from configs.run.config import RunConfig
from configs.training.launch import Launch
from infra.engines.job import Job, State
from infra.terminal import telling
from train.loop.engine import ALIVE, POLL_SECONDS, engine_of, failure, job_config, submit_once
from train.search.wave import Outcome, RunWave, Trial, read_outcome


def waves_on(config: RunConfig) -> RunWave:
    """Who trains a wave by `launch.engine`."""
    engine = engine_of(config.launch.engine)

    def run_wave(trials: Sequence[Trial]) -> list[Outcome]:
        jobs = {trial.number: submit_trial(config, trial) for trial in trials}
        print(f"{len(jobs)} trials on {config.launch.engine}: {', '.join(job.token for job in jobs.values())}",
              file=sys.stderr)  # fmt: skip
        try:
            states = follow_all(config, jobs)
        except KeyboardInterrupt:
            print("the trials go on; the same command follows them again", file=sys.stderr)
            raise
        for trial in trials:
            if read_outcome(trial.folder) is None:
                raise failure(states[trial.number], engine, jobs[trial.number])
        return [cast(Outcome, read_outcome(trial.folder)) for trial in trials]

    return run_wave


def placed_here(settings: RunConfig) -> RunConfig:
    """Whoever trains a trial is where it is to be trained."""
    if settings.launch.engine == "local":
        return settings
    return settings.model_copy(update={"launch": Launch.model_validate(job_config(settings)["launch"])})


def submit_trial(config: RunConfig, trial: Trial) -> Job:
    """`trial.settings` train where they stand; how many processes and where is the sweep's."""
    placed = trial.settings.model_copy(update={"launch": config.launch})
    return submit_once(placed, RunPaths(trial.folder), job_config(trial.settings), trial.folder.absolute())


def follow_all(config: RunConfig, jobs: dict[int, Job]) -> dict[int, State]:
    """The last state of each."""
    engine, states = engine_of(config.launch.engine), dict.fromkeys(jobs, State("unknown"))

    def running() -> list[int]:
        return [number for number, state in states.items() if state.kind in ALIVE]

    with telling(lambda: f"trials {', '.join(map(str, running()))} are not over"):
        while left := running():
            for number in left:
                states[number] = engine.watch(jobs[number])
            if running():
                time.sleep(POLL_SECONDS)
    return states
