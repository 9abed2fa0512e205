"""FSDP2 over two gloo processes: what one process trains, and after a kill what it would have trained without."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.paths import RunPaths
from configs.run.config import RunConfig
from tests.paths import ROOT
from tests.support.run_yaml import GOOD
from train.finetune import finetune
from train.loop.checkpoints import whole_checkpoints
from train.loop.sharding import sharding_arguments
from train.model.base import make_base
from train.prepare import prepare

unit, integration = pytest.mark.unit, pytest.mark.integration
QUIET = SimpleNamespace(run_id=None, log_metrics=lambda *_: None)
FSDP = {"processes": 2, "strategy": "fsdp"}
LORA: dict[str, Any] = {"lora": {"rank": 4, "alpha": 8}}


def prepared(config: RunConfig) -> RunPaths:
    paths = RunPaths.of(config.name)
    Path("gate.yaml").write_text("rules: [{rule: parity}]\n")
    prepare(config, paths, make_base(config))
    return paths


def weights(paths: RunPaths) -> dict[str, Any]:
    from safetensors.torch import load_file

    (file,) = paths.trained.glob("*.safetensors")
    return load_file(file)


@unit
@pytest.mark.parametrize(("method", "sent"), [("lora", True), ("full", True), ("qlora", False)])
def test_weights_come_from_one_process_but_where_they_are_packed(
    monkeypatch: pytest.MonkeyPatch, method: str, sent: bool
) -> None:
    """accelerate sends no packed weights: a head that is new beside them would be another in each process."""
    from transformers.distributed import fsdp

    for name in ("ACCELERATE_USE_FSDP", "FSDP_CPU_RAM_EFFICIENT_LOADING", "FSDP_VERSION"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr("accelerate.PartialState", lambda **_: None)
    monkeypatch.setattr(fsdp, "_is_torch_distributed_initialized", lambda: True)
    raw = GOOD | {"train": {"max_steps": 4, "method": method}, "launch": FSDP}
    found = sharding_arguments(RunConfig.model_validate(raw))
    assert fsdp.is_fsdp_enabled() is found["fsdp_config"]["cpu_ram_efficient_loading"] is sent


@integration
@pytest.mark.parametrize(
    ("family", "section"),
    [
        ("chat", {**LORA, "gradient_checkpointing": True}),
        ("chat", {**LORA, "dtype": "bfloat16"}),
        ("chat", {"method": "full", "learning_rate": 1e-3}),
        ("classifier", {"lora": {"rank": 4, "alpha": 8, "modules_to_save": ["pooler"]}}),
    ],
    ids=["lora of a GPT", "in bfloat16", "every weight", "lora and a new head of a BERT"],
)
def test_two_processes_that_share_a_model_end_where_one_ends(
    family: str, section: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    """Five rows to validate: one process has one pass less through the model than the other, and none waits for it."""
    make: Callable[..., RunConfig] = request.getfixturevalue(family)
    shape = Path("tiny-bert/config.json")
    if shape.exists():  # two processes draw other masks than one
        still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        shape.write_text(json.dumps(json.loads(shape.read_text()) | still))
    document = make().model_dump(mode="json")
    if section.get("method") == "full":
        del document["train"]["lora"]
    settings = document["train"] | {"max_steps": 6, "dtype": "float32"} | section
    document |= {"train": settings, "data": document["data"] | {"validation_rows": 5}}
    one, two = (RunConfig.model_validate(document | {"name": name}) for name in ("one", "two"))
    two = RunConfig.model_validate(two.model_dump(mode="json") | {"launch": FSDP})
    expected = finetune(one, prepared(one), QUIET)
    found = finetune(two, prepared(two), QUIET)

    assert {process.get("backend") for process in found["processes"]} == {"gloo"} and len(found["processes"]) == 2
    for name, key in (("losses", "loss"), ("validation", "eval_loss")):
        first, second = ([line[key] for line in record[name]] for record in (expected, found))  # type: ignore[literal-required]
        assert second == pytest.approx(first, rel=1e-4 if settings["dtype"] == "float32" else 1e-3)
    whole, shared = (weights(RunPaths.of(name)) for name in ("one", "two"))
    assert whole.keys() == shared.keys() and {one.shape for one in whole.values()} == {
        one.shape for one in shared.values()
    }
    difference = max(float((whole[name].float() - shared[name].float()).abs().max()) for name in whole)
    assert difference < 2e-5 or settings["dtype"] == "bfloat16", "float32 rounding, grown by six steps of Adam"
    assert finetune(two, RunPaths.of("two"), QUIET) == found, "a second call does nothing"


def kill_between_checkpoints(config: RunConfig, paths: RunPaths) -> None:
    """kill -9 of the command once a step behind a whole checkpoint is told; no process of it lives on."""
    Path("run.json").write_text(config.model_dump_json(exclude={"sweep"}))
    command = [sys.executable, str(ROOT / "tunegate.py"), "train", "run.json", "--json"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    told, ends = paths.root / "tracking" / "metrics.jsonl", time.monotonic() + 300
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        while process.poll() is None and time.monotonic() < ends:
            whole = whole_checkpoints(paths.checkpoints)
            if whole and told.exists() and told.read_text().count("grad_norm") > 5:
                break
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "it was still at work"


@integration
def test_killed_and_resumed_they_end_with_the_same_bytes(chat: Callable[..., RunConfig]) -> None:
    settings = {"max_steps": 40, "eval_every_steps": 4, "lora": {"rank": 4, "alpha": 8, "dropout": 0.1}}
    straight, killed = (chat(name=name, train=settings, launch=FSDP) for name in ("straight", "killed"))
    whole, paths = finetune(straight, prepared(straight), QUIET), prepared(killed)
    kill_between_checkpoints(killed, paths)
    assert whole_checkpoints(paths.checkpoints) and not paths.trained.exists(), "nothing that looks finished"
    resumed = finetune(killed, paths, QUIET)
    assert resumed["resumed_from_step"] and resumed["resumed_from_step"] < 40
    assert [line["loss"] for line in resumed["losses"]] == [line["loss"] for line in whole["losses"]], (
        "bit for bit, dropout included"
    )
    assert resumed["validation"] == whole["validation"] and resumed["best_step"] == whole["best_step"]
    first, second = (
        hashlib.sha256((RunPaths.of(name).trained / "adapter_model.safetensors").read_bytes()).hexdigest()
        for name in ("straight", "killed")
    )
    assert first == second and not paths.checkpoints.exists()
