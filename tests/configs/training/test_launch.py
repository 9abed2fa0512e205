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


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"launch": {"processes": 1}}, "processes of at least 2"),
        ({"task": "dpo", "data": {"source": "bfcl_preferences"}}, "launch.strategy ddp with task dpo"),
        ({"train": {"optimizer": "adamw_8bit"}}, "adamw_8bit knows no sharded tensors"),
        ({"train": {"optimizer": "adafactor"}}, "adafactor's moments"),
        ({"train": {"dtype": "float16"}}, "train.dtype bfloat16 or float32"),
        ({"train": {"lora": {"initialization": "pissa"}}}, "pissa begins with weights"),
        ({"base": {"path": "b", "add_tokens": ["<x>"]}}, "no base.add_tokens"),
    ],
)
def test_what_cannot_be_sharded_is_refused_with_the_reason(section: dict[str, Any], expected: str) -> None:
    raw = {**GOOD, **section}
    raw["train"] = GOOD["train"] | section.get("train", {})
    raw["launch"] = {"processes": 2, "strategy": "fsdp"} | section.get("launch", {})
    with pytest.raises(ValidationError) as error:
        RunConfig.model_validate(raw)
    assert expected in str(error.value)


@pytest.mark.parametrize("section", [{}, {"method": "full"}, {"method": "qlora"}, {"gradient_checkpointing": True}])
def test_every_method_can_be_sharded(section: dict[str, Any]) -> None:
    raw = GOOD | {"train": {"max_steps": 4} | section, "launch": {"processes": 2, "strategy": "fsdp"}}
    assert RunConfig.model_validate(raw).launch.shards
