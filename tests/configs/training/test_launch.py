"""How many processes a training may have."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from configs.run.config import RunConfig
from configs.training.launch import Launch

pytestmark = pytest.mark.unit
GOOD: dict[str, Any] = {
    "name": "x",
    "task": "causal-lm",
    "base": {"path": "b"},
    "data": {"source": "bfcl"},
    "train": {"max_steps": 4},
    "gate": "g",
}


def test_one_process_unless_more_are_asked_for() -> None:
    assert RunConfig.model_validate(GOOD).launch.world_size == 1
    assert Launch(processes=2, nodes=3).world_size == 6


@pytest.mark.parametrize(
    ("batch", "processes", "nodes", "fits"),
    [(8, 2, 1, True), (8, 2, 4, True), (8, 3, 1, False), (4, 2, 4, False), (7, 7, 1, True)],
)
def test_the_batch_is_split_evenly_or_refused(batch: int, processes: int, nodes: int, fits: bool) -> None:
    raw = GOOD | {"train": {"max_steps": 4, "batch_size": batch}, "launch": {"processes": processes, "nodes": nodes}}
    if fits:
        assert RunConfig.model_validate(raw).launch.world_size == processes * nodes
        return
    with pytest.raises(ValidationError, match="a multiple of launch"):
        RunConfig.model_validate(raw)


def test_a_strategy_that_was_never_run_is_refused_with_the_reason() -> None:
    with pytest.raises(ValidationError, match="strategy ddp: accelerate does not shard on CPUs"):
        Launch(processes=2, strategy="fsdp")
