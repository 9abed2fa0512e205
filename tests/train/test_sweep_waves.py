"""A sweep in waves, killed wherever: the same trials, the same winner, and nothing trained twice."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from configs.paths import RunPaths
from tests.support.sweeps import Runs, run_config
from train.search.study import grid
from train.search.wave import Outcome, Trial, is_hopeless, write_outcome
from train.sweep import sweep

pytestmark = pytest.mark.integration
SPACES: dict[str, dict[str, Any]] = {
    "tpe": {"train.learning_rate": {"low": 1e-3, "high": 0.1, "log": True}, "train.lora.rank": {"choices": [2, 4]}},
    "random": {"train.learning_rate": {"choices": [0.02, 0.05]}, "train.lora.rank": {"low": 1, "high": 4}},
    "grid": {"train.learning_rate": {"choices": [0.01, 0.03, 0.1]}, "train.lora.rank": {"choices": [2, 4, 8]}},
}


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.sweep.read_card", lambda paths: {"fingerprint": "rows"})


class Kill(NamedTuple):
    """Where a sweep is stopped: with so many trials of a wave ended, the last ones first, or so many told."""

    ended: int
    told: int


class Killed(BaseException): ...


def outcome_of(trial: Trial) -> Outcome:
    """What a training of these parameters would come to: rates between are better, and worse ones show it early."""
    rate, rank = trial.settings.train.learning_rate or 0.0, trial.settings.train.lora.rank
    end = abs(rate - 0.03) + rank / 1000
    course = dict[int, float]()
    for step in (2, 4, 6):
        course[step] = end + 1 / (step + rank)
        if is_hopeless(course, step, trial.bars):
            return Outcome("PRUNED", None, None, course)
    return Outcome("FAIL", None, "diverged", course) if rate > 0.09 else Outcome("COMPLETE", end, None, course)


def waves_until(kill: Kill | None, trained: list[tuple[float | None, int]]) -> Any:
    def run_wave(trials: Any) -> list[Outcome]:
        found = [outcome_of(trial) for trial in trials]
        ends = list(zip(trials, found, strict=True))
        for trial, outcome in ends[-kill.ended :] if kill and kill.ended else ends if not kill else []:
            trained.append((trial.settings.train.learning_rate, trial.settings.train.lora.rank))
            write_outcome(trial.folder, outcome)
        if kill and kill.ended < len(trials):
            raise Killed
        return found

    return run_wave


class RunsUntil(Runs):
    def __init__(self, kill: Kill) -> None:
        super().__init__()
        self.left = kill.told

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed


def told(study: Any) -> list[Any]:
    return [
        (
            trial.number,
            trial.state.name,
            trial.value,
            trial.params,
            trial.intermediate_values,
            trial.user_attrs,
        )
        for trial in study.trials
    ]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(sorted(SPACES)),
    st.integers(1, 5),
    st.lists(st.builds(Kill, st.integers(0, 5), st.integers(0, 6)), max_size=6),
)
@example("tpe", 4, [Kill(2, 9), Kill(0, 9), Kill(5, 3), Kill(1, 2)])
def test_however_often_it_is_killed_a_sweep_comes_to_the_same_trials_and_the_same_winner(
    prepared: None, tmp_path_factory: pytest.TempPathFactory, sampler: str, parallel: int, kills: list[Kill]
) -> None:
    section: dict[str, Any] = {"sampler": sampler, "parameters": SPACES[sampler], "parallel": parallel}
    config = run_config(trials=9, startup_trials=2, pruner="median", **section)
    assert config.sweep
    whole, stopped = (RunPaths(tmp_path_factory.mktemp(name)) for name in ("whole", "stopped"))
    once, parts = list[Any](), list[Any]()
    straight = sweep(config, config.sweep, whole, Runs(), waves_until(None, once))
    for kill in kills:
        with suppress(Killed):
            sweep(config, config.sweep, stopped, RunsUntil(kill), waves_until(kill, parts))
    study = sweep(config, config.sweep, stopped, Runs(), waves_until(None, parts))
    assert told(study) == told(straight) and study.best_params == straight.best_params
    assert sorted(once) == sorted(set(once)), "the same parameters are trained once, also within a wave"
    assert sorted(parts) == sorted(once), "and what has ended is not trained again"


@pytest.mark.parametrize(("parallel", "pruned"), [(1, 2), (2, 1), (3, 0)])
def test_a_trial_goes_by_those_of_earlier_waves_and_never_by_its_siblings(
    prepared: None, tmp_path: Path, parallel: int, pruned: int
) -> None:
    rates = {"train.learning_rate": {"choices": [0.03, 0.05, 0.06]}}
    section: dict[str, Any] = {"parameters": rates, "pruner": "median", "startup_trials": 1, "parallel": parallel}
    first = (run_config(**section, seed=seed) for seed in range(50))
    config = next(one for one in first if one.sweep and grid(one.sweep)[0]["train.learning_rate"] == 0.03)
    assert config.sweep
    study = sweep(config, config.sweep, RunPaths(tmp_path), Runs(), waves_until(None, []))
    assert [trial.state.name for trial in study.trials].count("PRUNED") == pruned
