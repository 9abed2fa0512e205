"""A learning rate that the YAML does not give is the task's and the method's own, and is resolved as it is read."""

from __future__ import annotations

from typing import get_args

import pytest

from configs.run.config import RunConfig
from configs.run.sweep import with_values
from configs.task import Task
from configs.training.defaults import default_learning_rate
from configs.training.lora import Method
from tests.support.run_yaml import GOOD

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("task", get_args(Task))
def test_every_weight_is_trained_slower_than_an_adapter(task: Task) -> None:
    rates = {method: default_learning_rate(task, method, "dpo") for method in get_args(Method)}
    assert 1e-7 < rates["full"] < rates["qlora"] <= rates["lora"] <= 1e-3
    assert rates["full"] <= 5e-5, "BERT's own grid ends there"


@pytest.mark.parametrize(("method", "rate"), [("lora", 5e-4), ("full", 2e-5)])
def test_the_resolved_rate_is_in_the_config_that_travels(method: str, rate: float) -> None:
    config = RunConfig.model_validate(GOOD | {"train": {"max_steps": 1, "method": method}})
    assert config.train.learning_rate == rate and config.model_dump(mode="json")["train"]["learning_rate"] == rate
    given = RunConfig.model_validate(GOOD | {"train": {"max_steps": 1, "method": method, "learning_rate": 0.5}})
    assert given.train.learning_rate == 0.5


def test_a_trial_of_another_method_has_that_methods_rate() -> None:
    config = RunConfig.model_validate(GOOD)
    assert with_values(config, {"train.method": "full"}).train.learning_rate == 2e-5
