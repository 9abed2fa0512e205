"""What may be searched: every key and every value is one that the schema takes, and each that it does not is named."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from configs.errors import ConfigError
from configs.loader import load
from configs.run.config import RunConfig
from configs.run.sweep import Parameter, Sweep, leaf_types, with_values

pytestmark = pytest.mark.unit
GOOD: dict[str, Any] = {
    "name": "x",
    "task": "sequence-classification",
    "base": {"path": "b"},
    "data": {"source": "sentiment"},
    "train": {"max_steps": 4},
    "gate": "g",
}
RATE = {"train.learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}}


def run_config(sweep: dict[str, Any], **changes: Any) -> RunConfig:
    return RunConfig.model_validate(GOOD | {"sweep": sweep} | changes)


def refusals(sweep: dict[str, Any], **changes: Any) -> dict[str, str]:
    """Dotted place to what was expected there."""
    with pytest.raises(ValidationError) as caught:
        run_config(sweep, **changes)
    return {
        ".".join(map(str, error["loc"])).removeprefix("sweep."): error["msg"].removeprefix("Value error, ")
        for error in caught.value.errors()
    }


def test_a_good_search_is_kept_as_it_is_written() -> None:
    found = run_config({"trials": 4, "parameters": RATE | {"train.schedule": {"choices": ["linear", "cosine"]}}}).sweep
    assert found and found.trials == 4 and found.sampler == "tpe" and found.parameters["train.learning_rate"].log
    assert RunConfig.model_validate(GOOD).sweep is None


def test_a_mistyped_key_gets_the_nearest_right_one() -> None:
    assert refusals({"parameters": {"train.learning_rat": {"low": 1e-5, "high": 1e-2}}}) == {
        "parameters.train.learning_rat": "'train.learning_rate'?"
    }
    assert refusals({"parameters": {"train.rank": {"choices": [4]}}}) == {"parameters.train.rank": "'train.lora.rank'?"}


@pytest.mark.parametrize("key", ["data.seed", "quantize.scheme", "name", "train", "train.lora", "sweep.trials", "zzz"])
def test_only_what_training_alone_depends_on_is_searched(key: str) -> None:
    ((place, expected),) = refusals({"parameters": {key: {"choices": [4]}}}).items()
    assert place == f"parameters.{key}" and expected


def test_every_value_that_the_schema_refuses_is_named_where_it_stands() -> None:
    parameters = {
        "train.learning_rate": {"low": 1e-5, "high": 3},
        "train.lora.rank": {"choices": [8, 0, 2000]},
        "train.schedule": {"choices": ["linear", "wrong"]},
        "train.warmup": {"choices": [1]},
    }
    assert refusals({"parameters": parameters}).keys() == {
        "parameters.train.learning_rate.high",
        "parameters.train.lora.rank.choices.1",
        "parameters.train.lora.rank.choices.2",
        "parameters.train.schedule.choices.1",
        "parameters.train.warmup",
    }


def test_values_that_are_good_alone_but_not_together_are_refused() -> None:
    """Neither null epochs nor null max_steps is a training's length."""
    parameters = {"train.max_steps": {"choices": [4, None]}}
    assert refusals({"parameters": parameters}) == {
        "parameters.train.max_steps.choices.1": "exactly one of epochs or max_steps"
    }
    ((place, expected),) = refusals({"parameters": RATE}, launch={"processes": 2}).items()
    assert place == "" and expected.startswith("one launch process with a sweep")


@pytest.mark.parametrize(
    ("parameter", "why"),
    [
        ({}, "either choices, or low and high"),
        ({"choices": []}, "either choices, or low and high"),
        ({"low": 1}, "either choices, or low and high"),
        ({"low": 1, "high": 2, "choices": [1]}, "either choices, or low and high"),
        ({"high": 2, "choices": [1]}, "either choices, or low and high"),
        ({"low": 2, "high": 2}, "low below high"),
        ({"low": 0, "high": 1, "log": True}, "low above 0 with log"),
        ({"choices": [1], "log": True}, "low above 0 with log"),
    ],
)
def test_a_parameter_is_a_range_or_a_list(parameter: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Parameter.model_validate(parameter)
    assert [error["msg"] for error in caught.value.errors()] == [f"Value error, {why}"]


def test_a_grid_wants_choices() -> None:
    with pytest.raises(ValidationError, match="choices for every parameter with sampler grid"):
        Sweep.model_validate({"parameters": RATE, "sampler": "grid"})


@given(st.floats(1e-9, 1), st.floats(1e-9, 1), st.integers(0, 100))
def test_whatever_lies_between_ends_that_pass_is_taken(one: float, other: float, percent: int) -> None:
    low, high = sorted((one, other))
    if low == high:
        return
    config = run_config({"parameters": {"train.learning_rate": {"low": low, "high": high}}})
    between = min(high, max(low, low + (high - low) * percent / 100))
    changed = with_values(config, {"train.learning_rate": between})
    assert changed.train.learning_rate == between and changed.sweep is None and math.isfinite(between)
    assert changed.model_dump(exclude={"train", "sweep"}) == config.model_dump(exclude={"train", "sweep"})


def test_the_types_of_nested_keys_are_found() -> None:
    types = leaf_types(RunConfig)
    assert types["train.lora.rank"] == (int,) and float in types["train.learning_rate"] and "train.lora" not in types


def test_check_names_file_and_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("gate.yaml").touch()
    Path("run.yaml").write_text(
        "name: x\ntask: sequence-classification\nbase: {package: p}\ndata: {source: sentiment}\n"
        "train: {max_steps: 4}\ngate: gate.yaml\n"
        "sweep:\n  parameters:\n    train.learning_rat: {low: 1.0e-5, high: 1.0e-2}\n"
        "    train.lora.rank: {choices: [8, 0]}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(Path("run.yaml"), RunConfig)
    assert [str(problem) for problem in caught.value.problems] == [
        "run.yaml:9: sweep.parameters.train.learning_rat: found 'train.learning_rat', expected 'train.learning_rate'?",
        "run.yaml:10: sweep.parameters.train.lora.rank.choices.1: found 0, expected greater than or equal to 1",
    ]
