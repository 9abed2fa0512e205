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
    add_outcome,
    best_so_far,
    budget,
    distributions,
    finished,
    grid,
    open_study,
    propose,
)
from train.search.wave import Outcome

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
    for _ in range(count):
        number = len(finished(study))
        first = number - number % search.parallel
        numbers = range(first, first + search.parallel)
        parameters: dict[str, Any] = propose(config, search, finished(study)[:first], numbers)[number - first]
        loss = abs(parameters["train.learning_rate"] - 0.01)
        add_outcome(study, parameters, distributions(config, search), Outcome("COMPLETE", loss, None, {2: loss}))
    return [trial.params for trial in finished(study)]


@pytest.mark.parametrize("parallel", [1, 4])
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_an_interrupted_sweep_draws_what_it_would_have_drawn(tmp_path: Path, sampler: str, parallel: int) -> None:
    """Also where it was stopped between two trials of one wave."""
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    section: dict[str, Any] = {"sampler": sampler, "startup_trials": 3, "parallel": parallel}
    whole = drawn(tmp_path / "whole", 10, **section)
    for count in (2, 3, 5):
        parts = drawn(tmp_path / "parts", count, **section)
    assert parts == whole and len({str(params) for params in whole}) == 10
    assert all(isinstance(params["train.lora.rank"], int) for params in whole)


def test_trials_of_one_wave_do_not_draw_the_same(tmp_path: Path) -> None:
    """Each knows that the others are under way, also where no trial has ended yet."""
    found = drawn(tmp_path, 32, parallel=16, startup_trials=4)
    assert len({str(params) for params in found}) == 32


def test_what_failed_by_its_own_doing_counts_and_is_not_the_best(tmp_path: Path) -> None:
    study, config, search = opened(tmp_path)
    ends = (
        Outcome("COMPLETE", 0.5, None, {2: 0.6}),
        Outcome("FAIL", None, "diverged", {}),
        Outcome("PRUNED", None, None, {2: 0.9}),
        Outcome("COMPLETE", 0.4, None, {}),
    )
    for number, outcome in enumerate(ends):
        (parameters,) = propose(config, search, finished(study), range(number, number + 1))
        add_outcome(study, parameters, distributions(config, search), outcome)
    assert [trial.intermediate_values for trial in study.trials] == [{2: 0.6}, {}, {2: 0.9}, {}]
    assert [trial.state.name for trial in finished(study)] == ["COMPLETE", "FAIL", "PRUNED", "COMPLETE"]
    assert best_so_far(finished(study)) == {"best_validation_loss": 0.4}


@pytest.mark.parametrize(
    ("fingerprint", "sweep", "kept"),
    [
        ("rows", {"trials": 99}, True),
        ("others", {}, False),
        ("rows", {"seed": 3}, False),
        ("rows", {"startup_trials": 2}, False),
        ("rows", {"parallel": 2}, False),
        ("rows", {"parallel": 1}, True),
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


@pytest.mark.parametrize("section", [{"sampler": "random"}, {"sampler": "grid", "parameters": CHOICES}])
def test_where_no_trial_goes_by_another_the_number_at_once_is_of_no_account(
    tmp_path: Path, section: dict[str, Any]
) -> None:
    for parallel in (1, 3):
        study, config, search = opened(tmp_path, pruner="none", parallel=parallel, **section)
        first = propose(config, search, [], range(6))
        assert propose(config, search, finished(study), range(len(finished(study)), 6)) == first[len(finished(study)) :]
        add_outcome(
            study, first[len(finished(study))], distributions(config, search), Outcome("PRUNED", None, None, {})
        )
    assert len(finished(study)) == 2, "what was told with another number stays"


def test_a_grid_of_more_trials_begins_as_that_of_fewer() -> None:
    few, many = (
        grid(run_config(parameters=CHOICES, sampler="grid", trials=trials).sweep)  # type: ignore[arg-type]
        for trials in (2, 6)
    )
    assert many[:2] == few


def test_a_choice_that_stands_twice_is_one_point() -> None:
    search = run_config(parameters={"train.lora.rank": {"choices": [4, 4, 8]}}, sampler="grid").sweep
    assert search
    assert sorted(point["train.lora.rank"] for point in grid(search)) == [4, 8]  # type: ignore[type-var]
    assert budget(search) == 2


def test_what_an_earlier_version_told_still_counts(tmp_path: Path) -> None:
    """It kept trials that waited or were interrupted in the study as well."""
    section: dict[str, Any] = {"parameters": CHOICES, "sampler": "grid", "pruner": "none"}
    study, config, search = opened(tmp_path, **section)
    points, ranges = grid(search), distributions(config, search)
    study.enqueue_trial(points[0])
    study.tell(study.ask(ranges), state=optuna.trial.TrialState.FAIL)  # interrupted
    add_outcome(study, points[1], ranges, Outcome("COMPLETE", 0.5, None, {}))
    study.enqueue_trial(points[0])
    assert [trial.params for trial in finished(study)] == [points[1]]
    assert propose(config, search, finished(study), range(1, 6)) == [points[0], *points[2:]]
