"""What a sweep draws, which of its trials count, and that a dead process's trial is tried again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.run.config import RunConfig
from configs.run.sweep import Sweep
from train.search.study import (
    RETRY,
    best_so_far,
    budget,
    distributions,
    finished,
    grid,
    make_sampler,
    open_study,
    record_outcome,
    retry_interrupted,
)

pytestmark = pytest.mark.unit
RATES = {"train.learning_rate": {"low": 1e-5, "high": 1e-1, "log": True}, "train.lora.rank": {"low": 1, "high": 64}}
CHOICES = {"train.lora.rank": {"choices": [4, 8, 16]}, "train.schedule": {"choices": ["linear", "cosine"]}}


def run_config(**sweep: Any) -> RunConfig:
    raw = {
        "name": "x",
        "task": "sequence-classification",
        "base": {"path": "b"},
        "data": {"source": "sentiment"},
        "train": {"max_steps": 4},
        "gate": "g",
    }
    return RunConfig.model_validate(raw | {"sweep": {"parameters": RATES} | sweep})


def opened(folder: Path, fingerprint: str = "rows", **sweep: Any) -> tuple[optuna.Study, RunConfig, Sweep]:
    config = run_config(**sweep)
    assert config.sweep
    return open_study(config, config.sweep, folder, fingerprint), config, config.sweep


def drawn(folder: Path, count: int, **sweep: Any) -> list[dict[str, Any]]:
    """Parameters of `count` more trials; the loss is the distance of the rate from 0.01."""
    study, config, search = opened(folder, **sweep)
    retry_interrupted(study, search)
    for _ in range(count):
        study.sampler = make_sampler(search, len(finished(study)))
        trial = study.ask(distributions(config, search))
        record_outcome(study, trial, "COMPLETE", abs(trial.params["train.learning_rate"] - 0.01), None)
    return [trial.params for trial in finished(study)]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_an_interrupted_sweep_draws_what_it_would_have_drawn(tmp_path: Path, sampler: str) -> None:
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = drawn(tmp_path / "whole", 9, sampler=sampler, startup_trials=3)
    for count in (2, 3):
        drawn(tmp_path / "parts", count, sampler=sampler, startup_trials=3)
        study, config, search = opened(tmp_path / "parts", sampler=sampler, startup_trials=3)
        study.sampler = make_sampler(search, len(finished(study)))
        study.ask(distributions(config, search)).report(0.5, 1)  # and here the process dies
    parts = drawn(tmp_path / "parts", 4, sampler=sampler, startup_trials=3)
    assert parts == whole and len({str(params) for params in whole}) == 9
    assert all(isinstance(params["train.lora.rank"], int) for params in whole)


def test_a_dead_trial_is_failed_and_waits_once_with_its_parameters_and_its_course(tmp_path: Path) -> None:
    study, config, search = opened(tmp_path)
    study.sampler = make_sampler(search, 0)
    trial = study.ask(distributions(config, search))
    trial.report(0.7, 20)
    again = opened(tmp_path)[0]
    for _ in range(3):
        retry_interrupted(again, search)
    dead, waiting = again.trials
    assert dead.state.name == "FAIL" and waiting.state.name == "WAITING" and waiting.params == trial.params
    assert waiting.user_attrs == {RETRY: 0} and waiting.intermediate_values == {20: 0.7}
    assert finished(again) == [] and best_so_far(again) == {}
    assert again.ask(distributions(config, search)).params == trial.params


def test_a_trial_that_died_before_it_was_drawn_is_drawn_anew(tmp_path: Path) -> None:
    study, _, search = opened(tmp_path)
    study.ask()
    retry_interrupted(study, search)
    assert [trial.state.name for trial in study.trials] == ["FAIL"]


def test_what_failed_by_its_own_doing_counts_and_is_not_the_best(tmp_path: Path) -> None:
    study, config, search = opened(tmp_path)
    for state, value, reason in (
        ("COMPLETE", 0.5, None),
        ("FAIL", None, "diverged"),
        ("PRUNED", None, None),
        ("COMPLETE", 0.4, None),
    ):
        study.sampler = make_sampler(search, len(finished(study)))
        record_outcome(study, study.ask(distributions(config, search)), state, value, reason)
    assert [trial.state.name for trial in finished(study)] == ["COMPLETE", "FAIL", "PRUNED", "COMPLETE"]
    assert best_so_far(study) == {"best_validation_loss": 0.4}


@pytest.mark.parametrize(
    ("fingerprint", "sweep", "kept"),
    [
        ("rows", {"trials": 99}, True),
        ("others", {}, False),
        ("rows", {"seed": 3}, False),
        ("rows", {"startup_trials": 2}, False),
    ],
)
def test_more_trials_go_on_and_another_search_starts_afresh(
    tmp_path: Path, fingerprint: str, sweep: dict[str, Any], kept: bool
) -> None:
    drawn(tmp_path, 2)
    for name in ("lock", "best.yaml"):
        (tmp_path / name).touch()
    (tmp_path / "trial-0").mkdir()
    (tmp_path / "data").symlink_to(tmp_path)
    assert len(opened(tmp_path, fingerprint, **sweep)[0].trials) == (2 if kept else 0)
    assert (tmp_path / "trial-0").exists() == (tmp_path / "best.yaml").exists() == kept
    assert (tmp_path / "lock").exists()


@given(st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_a_grid_is_every_combination_once_or_as_many_as_there_are_trials(trials: int, seed: int) -> None:
    search = run_config(parameters=CHOICES, sampler="grid", trials=trials, seed=seed).sweep
    assert search
    points = grid(search)
    assert len(points) == budget(search) == min(trials, 6) and len(
        {str(sorted(point.items())) for point in points}
    ) == len(points)
    assert all(
        point["train.lora.rank"] in (4, 8, 16) and point["train.schedule"] in ("linear", "cosine") for point in points
    )
    assert points == grid(search)


def test_a_grid_lies_in_the_study_once_however_often_it_is_opened(tmp_path: Path) -> None:
    for _ in range(2):
        study, config, search = opened(tmp_path, parameters=CHOICES, sampler="grid", trials=100)
    assert len(study.trials) == 6
    seen = [study.ask(distributions(config, search)).params for _ in range(6)]
    assert len({str(params) for params in seen}) == 6


@pytest.mark.parametrize(
    ("pruner", "kind"), [("median", optuna.pruners.MedianPruner), ("none", optuna.pruners.NopPruner)]
)
def test_the_pruner_is_the_one_asked_for(tmp_path: Path, pruner: str, kind: type) -> None:
    assert type(opened(tmp_path, pruner=pruner)[0].pruner) is kind
