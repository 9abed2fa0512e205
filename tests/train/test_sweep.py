"""A sweep goes on wherever it was stopped, trains the same parameters once only, and one bad trial does not end it."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from configs.errors import ExternalError, InputError, RefusedError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from tests.support.sweeps import RATES, Runs, run_config
from train.search.study import finished, grid
from train.sweep import sweep
from tunegate import app

pytestmark = pytest.mark.unit
PATHS = RunPaths(Path("build/x"))


@pytest.fixture
def trained(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The learning rates that were trained; the loss is the rate, met at steps 2 and 4."""
    rates: list[float] = []

    def fake(settings: RunConfig, paths: RunPaths, tracker: Any, show: bool) -> Any:
        assert paths.data.resolve() == PATHS.data.resolve() and settings.sweep is None and not show
        paths.checkpoints.mkdir(exist_ok=True)
        rates.append(settings.train.learning_rate or 0.0)
        for step in (2, 4):
            tracker.log_metrics({"eval_loss": settings.train.learning_rate}, step)
        return {"best_validation_loss": settings.train.learning_rate}

    monkeypatch.setattr("train.trial.finetune", fake)
    monkeypatch.setattr("train.sweep.read_card", lambda paths: {"fingerprint": "rows"})
    return rates


def swept(config: RunConfig, runs: Runs | None = None) -> Any:
    assert config.sweep
    return sweep(config, config.sweep, PATHS, runs or Runs())


def test_the_lowest_loss_wins_and_a_second_call_trains_nothing(trained: list[float]) -> None:
    runs = Runs()
    study = swept(run_config(), runs)
    assert sorted(trained) == RATES and study.best_params == {"train.learning_rate": 0.1}
    assert sorted(runs.opened, key=str) == [
        ("x sweep", None),
        *((f"x trial {number}", PATHS.root / "sweep/tracking") for number in range(3)),
    ]
    assert runs.ended == ["FINISHED"] * 4 and runs.logged[-1] == {"trials": 3, "best_validation_loss": 0.1}
    again = Runs()
    assert swept(run_config(), again).best_value == 0.1 and len(trained) == 3 and again.logged == again.ended == []
    assert not any(RunPaths(folder).checkpoints.exists() for folder in (PATHS.root / "sweep").glob("trial-*"))


def test_the_same_parameters_are_trained_once_only(trained: list[float]) -> None:
    study = swept(run_config(sampler="random", trials=12))
    assert len(finished(study)) == 12 and sorted(trained) == sorted(set(trained))
    assert {trial.value for trial in study.trials} == set(trained)
    assert all(
        study.trials[trial.user_attrs["same_as"]].params == trial.params
        for trial in study.trials
        if "same_as" in trial.user_attrs
    )
    swept(run_config(sampler="random", trials=15))
    assert len(finished(study)) == 15 and sorted(trained) == sorted(set(trained))


def test_a_trial_worse_than_the_others_is_pruned_at_its_first_evaluation(trained: list[float]) -> None:
    seed = next(seed for seed in range(50) if grid(run_config(seed=seed).sweep)[0]["train.learning_rate"] == 0.1)  # type: ignore[arg-type]
    runs = Runs()
    study = swept(run_config(seed=seed, pruner="median", startup_trials=1), runs)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "PRUNED"]
    assert all(trial.intermediate_values.keys() == {2} for trial in study.trials[1:])
    assert runs.ended == ["FINISHED", "KILLED", "KILLED", "FINISHED"] and study.best_value == 0.1


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, ExternalError("the disk is full")])
def test_a_stopped_sweep_goes_on_in_the_same_folder(
    trained: list[float], monkeypatch: pytest.MonkeyPatch, stop: BaseException
) -> None:
    import train.trial

    whole = vars(train.trial)["finetune"]  # the fixture's

    def stopped(settings: RunConfig, paths: RunPaths, tracker: Any, show: bool) -> Any:
        if len(trained) == 1:
            (paths.root / "half").touch()
            raise stop
        return whole(settings, paths, tracker, show)

    monkeypatch.setattr("train.trial.finetune", stopped)
    with pytest.raises(stop if isinstance(stop, type) else type(stop)):
        swept(run_config())
    monkeypatch.setattr("train.trial.finetune", whole)
    study = swept(run_config())
    assert sorted(trained) == RATES and [trial.state.name for trial in study.trials].count("COMPLETE") == 3
    assert (PATHS.root / "sweep/trial-1/half").exists() and len(study.trials) == 3, (
        "nothing is told of what was stopped"
    )


@pytest.mark.parametrize("fault", ["refused", "memory", "nan"])
def test_a_trial_that_fails_by_its_own_doing_is_counted_and_the_rest_goes_on(
    trained: list[float], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    import torch

    import train.trial

    whole = vars(train.trial)["finetune"]  # the fixture's

    def faulty(settings: RunConfig, paths: RunPaths, tracker: Any, show: bool) -> Any:
        if settings.train.learning_rate == 0.1:
            if fault == "nan":
                return {"best_validation_loss": float("nan")}
            raise RefusedError("diverged") if fault == "refused" else torch.OutOfMemoryError("too much")
        return whole(settings, paths, tracker, show)

    monkeypatch.setattr("train.trial.finetune", faulty)
    runs = Runs()
    study = swept(run_config(), runs)
    (failed,) = (trial for trial in study.trials if trial.state.name == "FAIL")
    assert (
        failed.user_attrs["reason"] and study.best_value == 0.2 and sorted(runs.ended) == ["FAILED", *["FINISHED"] * 3]
    )
    assert len(swept(run_config()).trials) == 3, "it is not tried again"


def test_what_would_fail_every_trial_ends_the_sweep(trained: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> dict[str, Any]:
        raise InputError("no data")

    monkeypatch.setattr("train.trial.finetune", missing)
    with pytest.raises(InputError):
        swept(run_config())


def test_a_combination_that_the_schema_refuses_is_a_failed_trial(trained: list[float]) -> None:
    """Of a space too big for check to look at each combination; here a rank that is no whole number."""
    config = run_config(trials=40)
    search = config.sweep
    assert search
    odd = search.model_copy(
        update={"parameters": search.parameters | {"train.lora.rank": search.parameters["train.learning_rate"]}}
    )
    study = sweep(config, odd, PATHS, Runs())
    assert trained == [] and {trial.state.name for trial in study.trials} == {"FAIL"} and len(study.trials) == 9


def test_two_sweeps_of_one_run_do_not_meet(trained: list[float]) -> None:
    folder = PATHS.root / "sweep"
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ExternalError, match="another process"):
            swept(run_config())
    assert len(finished(swept(run_config()))) == 3


def test_before_prepare_the_command_is_named(checkout: Path) -> None:
    with pytest.raises(InputError, match="tunegate prepare"):
        swept(run_config())


@pytest.mark.parametrize(
    ("words", "says"), [(["trial"], "neither a folder"), (["trial", "nowhere"], "trial of a sweep")]
)
def test_what_is_no_trial_is_refused(checkout: Path, words: list[str], says: str) -> None:
    found = CliRunner().invoke(app, words)
    assert isinstance(found.exception, InputError) and says in str(found.exception)
    assert not Path("nowhere").exists()
