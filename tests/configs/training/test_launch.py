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
IN_A_CLUSTER = {"image": "registry/x@sha256:0", "volume": "checkout"}


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


@pytest.mark.parametrize(
    ("launch", "expected"),
    [
        ({"engine": "slurm", "slurm": {"partition": "a", "time": "1-00:00"}}, None),
        ({"engine": "ray", "ray": {"address": "head:6379"}, "checkpoints": "/shared/checkpoints"}, None),
        ({"engine": "kubernetes", "kubernetes": IN_A_CLUSTER, "checkpoints": "s3://b/c"}, None),
        ({"slurm": {"partition": "a"}}, "launch.engine slurm with launch.slurm"),
        ({"engine": "ray", "slurm": {"time": "30"}}, "launch.engine slurm with launch.slurm"),
        ({"engine": "slurm", "slurm": {"time": "soon"}}, "slurm.time"),
        ({"engine": "slurm", "slurm": {"options": ["-x; rm"]}}, "slurm.options"),
        ({"engine": "kubernetes"}, "image and volume"),
        (
            {"engine": "kubernetes", "kubernetes": {"image": "i", "volume": "v", "kind": "trainjob", "secret": "s"}},
            "secret",
        ),
        ({"checkpoints": "gs://b/c"}, "a path or s3://"),
        ({"restarts": -1}, "restarts"),
    ],
)
def test_each_engine_is_told_what_is_its_own(launch: dict[str, Any], expected: str | None) -> None:
    if expected is None:
        assert Launch.model_validate(launch).engine == launch["engine"]
        return
    with pytest.raises(ValidationError, match=expected):
        Launch.model_validate(launch)


def test_an_engine_trains_one_model_or_a_sweeps_trials_but_no_folds() -> None:
    sweep = {"trials": 2, "parameters": {"train.learning_rate": {"low": 1e-5, "high": 1e-3}}}
    assert RunConfig.model_validate(GOOD | {"launch": {"engine": "slurm"}, "sweep": sweep}).sweep
    with pytest.raises(ValidationError, match="whose trainings are many"):
        RunConfig.model_validate(GOOD | {"launch": {"engine": "slurm"}, "evaluate": {"folds": 3}})
