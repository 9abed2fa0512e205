"""A trial's folder says what is to be trained and what came of it; pruning is Optuna's median rule, by what was known
before the wave."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import InputError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from train.search.wave import (
    Outcome,
    Trial,
    is_hopeless,
    median_bars,
    read_course,
    read_outcome,
    read_trial,
    state_trial,
    write_course,
    write_outcome,
)

pytestmark = pytest.mark.unit
LOSSES = st.floats(0, 10) | st.just(math.nan)
COURSES = st.dictionaries(st.integers(1, 4), LOSSES, min_size=1)
CONFIG = RunConfig.model_validate(
    {
        "name": "x",
        "task": "sequence-classification",
        "base": {"path": "b"},
        "data": {"source": "sentiment"},
        "train": {"max_steps": 4, "learning_rate": 0.1},
        "gate": "g",
    }
)


def complete(course: dict[int, float]) -> optuna.trial.FrozenTrial:
    return optuna.trial.create_trial(value=1.0, intermediate_values=course)


def optuna_prunes(earlier: list[dict[int, float]], course: dict[int, float], startup: int) -> bool:
    """What MedianPruner says of a trial that stands at the last step of `course`."""
    study = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=startup))
    study.add_trials(complete(one) for one in earlier)
    trial = study.ask()
    for step, loss in sorted(course.items()):
        trial.report(loss, step)
    return trial.should_prune()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(st.lists(COURSES, max_size=5), COURSES, st.integers(1, 3))
def test_a_trial_is_pruned_where_optunas_median_pruner_would(
    earlier: list[dict[int, float]], course: dict[int, float], startup: int
) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    known = any(not math.isnan(loss) for one in earlier for loss in one.values())
    bars = median_bars([complete(one) for one in earlier], startup)
    if known or len(earlier) < startup:
        assert is_hopeless(course, max(course), bars) == optuna_prunes(earlier, course, startup)
    else:
        assert not bars and not is_hopeless(course, max(course), bars)


@given(COURSES, COURSES, st.integers(1, 4))
def test_what_a_killed_trial_met_after_its_checkpoint_does_not_count(
    bars: dict[int, float], course: dict[int, float], step: int
) -> None:
    until = {at: loss for at, loss in course.items() if at <= step}
    assert is_hopeless(course, step, bars) == is_hopeless(until, step, bars)


def stated(folder: Path, bars: dict[int, float], parameters: dict[str, Any]) -> None:
    state_trial(Trial(3, folder, CONFIG, bars), parameters, folder.parent / "data")


@given(st.dictionaries(st.integers(1, 10**6), st.floats(allow_nan=False)), st.floats(1e-9, 1))
def test_what_is_stated_is_read_back_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, bars: dict[int, float], rate: float
) -> None:
    folder = tmp_path_factory.mktemp("sweep") / "trial-3"
    stated(folder, bars, {"train.learning_rate": rate})
    assert read_trial(folder) == Trial(3, folder, CONFIG, bars)
    assert RunPaths(folder).data.resolve() == folder.parent / "data"


@given(st.sampled_from(["COMPLETE", "PRUNED", "FAIL"]), st.none() | st.floats(0, 1), st.none() | st.text(), COURSES)
def test_an_outcome_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, state: str, value: float | None, reason: str | None, course: Any
) -> None:
    folder = tmp_path_factory.mktemp("trial")
    assert read_outcome(folder) is None and read_course(folder) == {}
    outcome = Outcome(state, value, reason, course)
    write_outcome(folder, outcome)
    write_course(folder, course)
    assert repr(read_outcome(folder)) == repr(outcome) and repr(read_course(folder)) == repr(course)


def test_a_trial_stated_again_keeps_its_work_and_another_one_does_not_find_it(tmp_path: Path) -> None:
    folder = tmp_path / "trial-3"
    stated(folder, {2: 0.5}, {"train.learning_rate": 0.1})
    write_outcome(folder, Outcome("PRUNED", None, None, {2: 0.9}))
    stated(folder, {2: 0.5}, {"train.learning_rate": 0.1})
    assert read_outcome(folder)
    stated(folder, {2: 0.6}, {"train.learning_rate": 0.1})
    assert read_outcome(folder) is None
    write_course(folder, {2: 0.9})
    stated(folder, {2: 0.6}, {"train.learning_rate": 0.2})
    assert read_course(folder) == {}


def test_a_folder_without_a_trial_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="trial of a sweep"):
        read_trial(tmp_path)
