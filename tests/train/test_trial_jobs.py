"""A wave on an engine: a job a trial, each submitted once, whoever is killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from configs.errors import ExternalError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from infra.engines.job import Job, State
from tests.support.sweeps import RATES, Runs
from tests.support.sweeps import run_config as local_config
from train import sweep as sweep_module
from train import trial_jobs
from train.loop import engine as engine_module
from train.search.study import finished
from train.search.wave import Outcome, read_trial, write_outcome

pytestmark = pytest.mark.unit


class Engine:
    """Trains a trial at the second look at it, or dies as it is told: `dies` by the number of submissions so far."""

    def __init__(self) -> None:
        self.submitted: list[str] = []
        self.looks: dict[str, int] = {}
        self.dies: dict[int, str] = {}
        self.at_once = 0

    def submit(self, job: Job) -> None:
        assert job.words == ("trial", job.trial) and job.trial is not None
        if self.dies.pop(len(self.submitted), "") == "client":
            raise KeyboardInterrupt
        self.submitted.append(job.token)
        self.looks[job.token] = 0
        self.at_once = max(self.at_once, sum(looks < 2 for looks in self.looks.values()))

    def watch(self, job: Job) -> State:
        if job.token not in self.looks:
            return State("gone")
        self.looks[job.token] += 1
        if self.looks[job.token] < 2:
            return State("running")
        if self.dies.pop(-len(self.submitted), "") == "job":
            return State("failed", "out of memory", 137)
        assert job.trial is not None
        trial = read_trial(job.trial)
        assert trial.settings.launch.engine == "local", "it is where it is to be trained"
        write_outcome(job.trial, Outcome("COMPLETE", float(trial.settings.train.learning_rate or 0), None, {}))
        return State("succeeded", "ended", 0)

    def logs(self, job: Job) -> list[Path]:
        return [job.folder / "log"]


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.chdir(tmp_path)
    made = Engine()
    for module in (engine_module, trial_jobs):
        monkeypatch.setattr(module, "engine_of", lambda name: made)
    monkeypatch.setattr(trial_jobs, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(sweep_module, "read_card", lambda paths: {"fingerprint": "f"})
    (tmp_path / "build/x/data").mkdir(parents=True)
    return made


def config_of(**launch: Any) -> RunConfig:
    raw = local_config(trials=3, parallel=2).model_dump(mode="json", exclude_unset=True)
    return RunConfig.model_validate(raw | {"launch": {"engine": "slurm", "threads": 1} | launch})


def swept(config: RunConfig) -> list[float | None]:
    assert config.sweep
    study = sweep_module.sweep(config, config.sweep, RunPaths.of("x"), Runs())
    return [trial.value for trial in finished(study)]


def test_each_trial_is_a_job_and_a_wave_is_submitted_at_once(engine: Engine) -> None:
    assert sorted(swept(config_of())) == RATES  # type: ignore[type-var]
    assert len(set(engine.submitted)) == len(engine.submitted) == 3 and engine.at_once == 2
    assert sorted(swept(config_of())) == RATES and len(engine.submitted) == 3, "nothing is trained twice"  # type: ignore[type-var]


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_client_that_is_killed_finds_the_jobs_that_it_began(engine: Engine, at: int) -> None:
    engine.dies[at] = "client"
    with pytest.raises(KeyboardInterrupt):
        swept(config_of())
    assert sorted(swept(config_of())) == RATES  # type: ignore[type-var]
    assert len(engine.submitted) == 3


def test_a_job_that_dies_ends_the_sweep_with_its_words_and_the_next_call_trains_it_again(engine: Engine) -> None:
    engine.dies[-2] = "job"
    with pytest.raises(ExternalError, match="out of memory"):
        swept(config_of())
    assert sorted(swept(config_of())) == RATES  # type: ignore[type-var]
    assert len(engine.submitted) == 4
